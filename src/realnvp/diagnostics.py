"""The debugging that every flow needs once: layer by layer, does it invert, does its log count?

Each layer is checked on what really reaches it: the round trip through its own inverse, the
log-determinants of both directions against each other, and, where the layer's input is small, the
log-determinant against autograd's Jacobian in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from realnvp.bijections import Bijection
from realnvp.bijections.dequantization import Dequantization, Noise
from realnvp.conditioners import Conditioner
from realnvp.data.dataset import dequantized
from realnvp.flow import ENCODE_MARGIN, Flow
from realnvp.utils.registry import BUILDERS

__all__ = [
    "LayerReport",
    "NonFiniteReport",
    "check_latents",
    "check_layers",
    "find_non_finite",
    "overfit",
]

JACOBIAN_LIMIT = 256
"""Largest number of inputs of a layer whose Jacobian is computed."""


ROUND_TRIP, LOG_DET = 1e-3, 1e-6
"""Largest errors of a right layer: in the model's own type, and in float64."""


@dataclass(frozen=True)
class LayerReport:
    """What was found of one layer.

    Errors are relative to the largest number, where that is above 1: ``round_trip_error`` that of
    the layer's inverse, ``antisymmetry_error`` that of its log-determinant against its inverse's,
    ``log_det_error`` against autograd's Jacobian in float64, None where the layer is too large for
    that (or random, as dequantization is).
    """

    name: str
    kind: str
    mean: float
    std: float
    round_trip_error: float
    antisymmetry_error: float
    log_det_error: float | None

    @property
    def wrong(self) -> bool:
        """Whether it does not invert, or miscounts its log-determinant, beyond rounding."""
        return not (
            self.round_trip_error < ROUND_TRIP
            and self.antisymmetry_error < ROUND_TRIP
            and (self.log_det_error is None or self.log_det_error < LOG_DET)
        )


def _leaves(flow: Flow) -> Iterator[tuple[str, Bijection]]:
    for name, module in flow.bijection.named_modules():
        inner = [m for m in module.modules() if isinstance(m, Bijection) and m is not module]
        if isinstance(module, Bijection) and not inner:
            yield name, module


def check_layers(flow: Flow, x: Tensor, condition: Tensor | None = None) -> list[LayerReport]:
    """A report on every layer, in the order in which data pass them.

    Args:
        flow: the model.
        x: some examples ``(B, *shape)``.
        condition: of the examples, if the flow is conditional.
    """
    inputs: dict[str, tuple[Tensor, Tensor | None]] = {}
    names = dict(_leaves(flow))

    def remember(name: str) -> Callable[[nn.Module, tuple], None]:
        def hook(module: nn.Module, args: tuple) -> None:
            # Its own condition: that of the layers in a learned noise is the image's features.
            inputs[name] = args[0].detach(), args[1] if len(args) > 1 else None

        return hook

    hooks = [layer.register_forward_pre_hook(remember(name)) for name, layer in names.items()]
    generator = torch.Generator(flow.device).manual_seed(0)
    with torch.no_grad(), flow.evaluating():
        condition = flow.as_condition(condition, len(x))
        try:
            flow.latents_and_log_det(x, condition, generator, ENCODE_MARGIN)
        finally:
            for handle in hooks:
                handle.remove()
        # In the order of the calls; an inverted squeeze is never called forwards, and is exact.
        return [_report(name, names[name], *inputs[name]) for name in inputs]


def _report(name: str, layer: Bijection, x: Tensor, condition: Tensor | None) -> LayerReport:
    z, forward = layer(x, condition)
    back, inverse = layer.inverse(z, condition)
    error = None
    if not isinstance(layer, Dequantization) and x[0].numel() <= JACOBIAN_LIMIT:
        first = None if condition is None else _exact(condition[:1])
        error = _jacobian_error(copy.deepcopy(layer).cpu().double(), _exact(x[:1]), first)
    return LayerReport(
        name=name,
        kind=type(layer).__name__,
        mean=_exact(z).mean().item(),
        std=_exact(z).std().item(),
        round_trip_error=_relative(_exact(back) - _exact(x), x),
        antisymmetry_error=_relative(forward + inverse, forward),
        log_det_error=error,
    )


def _exact(tensor: Tensor) -> Tensor:
    """In float64: on the CPU, since MPS has none."""
    return tensor.cpu().double()


def _relative(error: Tensor, to: Tensor) -> float:
    return (_exact(error).abs().max() / _exact(to).abs().max().clamp(min=1)).item()


@torch.enable_grad()
def _jacobian_error(layer: Bijection, x: Tensor, condition: Tensor | None) -> float:
    for module in layer.modules():
        if isinstance(module, Conditioner):
            module.compute_dtype = None
    _, log_det = layer(x, condition)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v, condition)[0].flatten(), x)
    true = torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel())).logabsdet
    return _relative(log_det - true, true)


def check_latents(
    flow: Flow, x: Tensor, condition: Tensor | None = None
) -> list[tuple[str, float, float]]:
    """Mean and deviation of the latents, of all and of each scale: 0 and 1 if the model fits.

    Returns:
        rows of name, mean, standard deviation.
    """
    generator = torch.Generator(flow.device).manual_seed(0)
    with torch.no_grad(), flow.evaluating():
        z, _ = flow.latents_and_log_det(x, flow.as_condition(condition, len(x)), generator)
    rows = [("all latents", z.mean().item(), z.std().item())]
    scales = flow.latent_scales().to(z.device)
    count = int(scales.max()) + 1
    for scale in range(count if count > 1 else 0):
        part = z[:, scales == scale]
        rows.append((f"scale {scale + 1}", part.mean().item(), part.std().item()))
    return rows


def overfit(
    flow: Flow,
    x: Tensor,
    condition: Tensor | None = None,
    *,
    steps: int = 200,
    lr: float = 2e-3,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[float, float]:
    """Train a fresh copy of the architecture on a handful of examples: can it learn at all?

    Args:
        flow: whose architecture is built anew; its weights are neither used nor changed.
        x: the handful.
        condition: of the examples, if the flow is conditional.
        steps: optimizer steps.
        lr: learning rate of Adam.
        progress: called with the step, the steps, and the loss.

    Returns:
        the loss before and after, in bits/dim of images or nats of standardized vectors, in whose
        columns of whole numbers there is noise.

    Raises:
        ValueError: if nothing tells how to build the architecture, or there is one example only.
    """
    if flow.config is None:
        raise ValueError("only flows made by a builder, such as image_flow, can be built again")
    if len(x) < 2:
        raise ValueError(f"what is to be learned by heart are 2 examples or more, got {len(x)}")
    build = BUILDERS[flow.config["builder"]]
    torch.manual_seed(0)
    arguments = dict(flow.config["arguments"])
    if flow.levels is None:
        arguments["integers"] = []
        x = dequantized(x, flow.integers, seed=0)
        x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    fresh: Flow = build(**arguments).to(flow.device)
    optimizer = torch.optim.Adam(fresh.parameters(), lr=lr)
    unit = flow.unit[0]
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = torch.stack(list(fresh.loss_terms(x, condition).values())).sum()
        (loss / flow.dim).backward()
        torch.nn.utils.clip_grad_norm_(fresh.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item() * unit)
        if progress is not None:
            progress(step + 1, steps, losses[-1])
    return losses[0], sum(losses[-10:]) / len(losses[-10:])


_GRADIENTS = 1_000_000  # gradients come after all outputs


_NOTHING = 2 * _GRADIENTS


@dataclass(frozen=True)
class NonFiniteReport:
    """The first number that is not finite.

    Args:
        order: smaller is earlier in the computation.
        where: the layer's name and kind, or what else it is.
        rows: the examples of the batch that are concerned, where they can be told apart.
    """

    order: int
    where: str
    rows: list[int] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether there is one."""
        return self.order < _NOTHING


def _bad_rows(tensor: Tensor, batch: int) -> list[int]:
    if tensor.ndim == 0 or len(tensor) != batch:
        return []
    return (~torch.isfinite(tensor)).flatten(1).any(1).nonzero().flatten().tolist()


def _is_bad(tensor: Any) -> bool:
    return (
        isinstance(tensor, Tensor)
        and tensor.is_floating_point()
        and not bool(torch.isfinite(tensor).all())
    )


def find_non_finite(
    flow: Flow,
    x: Tensor,
    condition: Tensor | None = None,
    noise: Noise = None,
    *,
    gradients: bool = True,
    anywhere: Callable[[bool], bool] = bool,
) -> NonFiniteReport:
    """Compute the loss once more, and look at every layer's output and gradient.

    The statistics of a model in training mode move: put them back afterwards. Over several
    processes, all must call this at the same time.

    Args:
        flow: the model, in the mode in which it failed.
        x: the batch.
        condition: of the batch.
        noise: that of the step that failed.
        gradients: look at gradients, too.
        anywhere: whether something is true in any process.
    """
    nothing = NonFiniteReport(
        _NOTHING, "nothing when the step is repeated: memory or a device may be faulty"
    )
    if anywhere(_is_bad(x)):
        return NonFiniteReport(-1, "the data", _bad_rows(x, len(x))) if _is_bad(x) else nothing
    found: list[NonFiniteReport] = []
    calls = 0

    def look(where: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            nonlocal calls
            calls += 1
            layer = f"{where} ({type(module).__name__})"
            tensors = output if isinstance(output, tuple) else (output,)
            for tensor in tensors:
                if not found and _is_bad(tensor):
                    found.append(NonFiniteReport(calls, layer, _bad_rows(tensor, len(x))))
                if gradients and isinstance(tensor, Tensor) and tensor.requires_grad:
                    tensor.register_hook(look_back(layer, _GRADIENTS - calls))

        return hook

    def look_back(layer: str, order: int) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            # backward comes from the loss: the latest layer is where the gradient began
            if not found and _is_bad(gradient):
                where = f"the gradient of the output of {layer}"
                found.append(NonFiniteReport(order, where, _bad_rows(gradient, len(x))))

        return hook

    hooks = [
        module.register_forward_hook(look(name))
        for name, module in flow.named_modules()
        if name and (not list(module.children()) or isinstance(module, Bijection))
    ]
    try:
        with torch.set_grad_enabled(gradients):
            terms = flow.loss_terms(x, condition, noise)
        for name, term in terms.items():
            if not found and _is_bad(term):
                found.append(NonFiniteReport(_GRADIENTS // 2, f"the term {name!r} of the loss"))
        if not anywhere(bool(found)) and gradients:
            named = [(name, p) for name, p in flow.named_parameters() if p.requires_grad]
            grads = torch.autograd.grad(
                sum(terms.values(), x.new_zeros((), dtype=flow.dtype)),
                [parameter for _, parameter in named],
                allow_unused=True,
            )
            for (name, _), grad in zip(named, grads, strict=True):
                if not found and _is_bad(grad):
                    found.append(NonFiniteReport(_GRADIENTS, f"the gradient of {name}"))
    finally:
        for handle in hooks:
            handle.remove()
    return found[0] if found else nothing
