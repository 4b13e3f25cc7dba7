"""Diagnose a flow: wrong layers, latents that do not fit, values that are not finite.

:func:`check_layers` gives every layer the inputs that really reach it, and checks the round trip
through its inverse and the log-determinants of both directions; where the layer's input is small,
it compares these with autograd's Jacobian in float64.
:func:`check_latents` and :func:`overfit` show whether a model fits and whether it can learn.
:func:`find_non_finite` names the first layer whose output or gradient is NaN or infinite.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from realnvp.bijections import Bijection, Inverse
from realnvp.bijections.dequantization import Dequantization, Noise
from realnvp.conditioners import Conditioner
from realnvp.flow import Flow
from realnvp.round_trip import MARGIN
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

JACOBIAN_EXAMPLES = 3
"""Number of examples whose Jacobians are computed. With only one, a layer that wrongly averages
over the batch would pass."""

ROUND_TRIP, LOG_DET = 1e-3, 1e-6
"""Largest errors of a correct layer: in the model's own type, and in float64."""


@dataclass(frozen=True)
class LayerReport:
    """Errors of one layer.

    Each is the largest over all examples, relative to the size of what is compared where that size
    is above 1. ``round_trip_error`` is of the layer's inverse. ``antisymmetry_error`` compares the
    log-determinants of the layer and its inverse. ``log_det_error`` compares both with autograd's
    Jacobian in float64; it is None where the layer is too large for that, or random, as
    dequantization is.
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
        """True if the layer does not invert, or its log-determinant is wrong, beyond rounding."""
        return not (
            self.round_trip_error < ROUND_TRIP
            and self.antisymmetry_error < ROUND_TRIP
            and (self.log_det_error is None or self.log_det_error < LOG_DET)
        )


def _leaves(flow: Flow) -> Iterator[tuple[str, Bijection]]:
    """Yield layers without inner ones, inverted layers, and all that this package does not have."""
    for name, module in flow.bijection.named_modules():
        if not isinstance(module, Bijection):
            continue
        inner = any(isinstance(m, Bijection) and m is not module for m in module.modules())
        foreign = type(module).__module__.partition(".")[0] != __name__.partition(".")[0]
        if not inner or foreign or isinstance(module, Inverse):
            yield name, module


def check_layers(flow: Flow, x: Tensor, condition: Tensor | None = None) -> list[LayerReport]:
    """Return a report on every layer, in the order in which data pass through them.

    Args:
        flow: the flow to check.
        x: some examples ``(B, *shape)``.
        condition: condition of the examples, if the flow is conditional.

    Raises:
        ValueError: if a layer returns log-determinants that are not one number per example; the
            message names it.
    """
    inputs: dict[str, tuple[Tensor, Tensor | None]] = {}
    names = dict(_leaves(flow))

    def remember(name: str) -> Callable[[nn.Module, tuple], None]:
        def hook(module: nn.Module, args: tuple) -> None:
            # The layer's own condition: for layers of learned noise, it is the image's features.
            inputs[name] = args[0].detach(), args[1] if len(args) > 1 else None

        return hook

    hooks = [layer.register_forward_pre_hook(remember(name)) for name, layer in names.items()]
    generator = torch.Generator(flow.device).manual_seed(0)
    with torch.no_grad(), flow.evaluating():
        condition = flow.as_condition(condition, len(x))
        try:
            flow.latents_and_log_det(x, condition, generator, MARGIN)
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
        few = None if condition is None else _float64(condition[:JACOBIAN_EXAMPLES])
        wide = copy.deepcopy(layer).cpu().double()
        error = _jacobian_error(wide, _float64(x[:JACOBIAN_EXAMPLES]), few)
    return LayerReport(
        name=name,
        kind=type(layer).__name__,
        mean=_float64(z).mean().item(),
        std=_float64(z).std().item(),
        round_trip_error=_round_trip_error(_float64(back), _float64(x)),
        antisymmetry_error=_max_relative_error(forward + inverse, forward),
        log_det_error=error,
    )


def _float64(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, on the CPU, since MPS has no float64."""
    return tensor.cpu().double()


def _round_trip_error(back: Tensor, x: Tensor) -> float:
    """Return the largest error, relative to the largest value; a missing value, NaN, comes back."""
    error = (back - x).masked_fill(back.isnan() & x.isnan(), 0.0)
    return (error.abs().max() / x.nan_to_num(0.0).abs().max().clamp(min=1)).item()


def _max_relative_error(error: Tensor, to: Tensor) -> float:
    """Return the largest relative error; each is relative to its own value."""
    return (_float64(error).abs() / _float64(to).abs().clamp(min=1)).max().item()


@torch.enable_grad()
def _jacobian_error(layer: Bijection, x: Tensor, condition: Tensor | None) -> float:
    for module in layer.modules():
        if isinstance(module, Conditioner):
            module.compute_dtype = None
    with torch.no_grad():  # of the whole batch: a layer that mixes examples must be detected
        z, forward = layer(x, condition)
        _, inverse = layer.inverse(z, condition)
    exact = []
    for i in range(len(x)):
        one = None if condition is None else condition[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda v, one=one: layer(v, one)[0].flatten(), x[i : i + 1]
        )
        exact.append(torch.linalg.slogdet(jacobian.reshape(x[i].numel(), -1)).logabsdet)
    true = torch.stack(exact)
    return _max_relative_error(torch.stack((forward - true, inverse + true)), true)


def check_latents(
    flow: Flow, x: Tensor, condition: Tensor | None = None
) -> list[tuple[str, float, float]]:
    """Return mean and standard deviation of the latents: 0 and 1 if the model fits.

    Args:
        flow: the flow to check.
        x: some examples ``(B, *shape)``.
        condition: condition of the examples, if the flow is conditional.

    Returns:
        rows of name, mean, standard deviation: of all latents, then of each scale.
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
    """Train a fresh copy of the architecture on a few examples, to see whether it can learn.

    Args:
        flow: flow whose architecture is built again; its weights are neither used nor changed.
        x: examples to memorize, 2 or more.
        condition: condition of the examples, if the flow is conditional.
        steps: number of optimizer steps.
        lr: learning rate of Adam.
        progress: called with the step, the number of steps, and the loss.

    Returns:
        result before and after, in :attr:`Flow.unit`: bits/dim of images, lower is better; or nats
        of standardized vectors, whose integer columns have noise, higher is better.

    Raises:
        ValueError: if the flow was not made by a builder, or there is one example only.
    """
    if flow.config is None:
        raise ValueError("only flows made by a builder, such as image_flow, can be built again")
    if len(x) < 2:
        raise ValueError(f"overfitting needs 2 examples or more to memorize, got {len(x)}")
    build = BUILDERS[flow.config["builder"]]
    torch.manual_seed(0)
    arguments = dict(flow.config["arguments"])
    if flow.levels is None:
        arguments |= {"integers": [], "columns": None, "categories": None}
        if flow.columns is not None:  # as couplings receive them
            generator = torch.Generator(x.device).manual_seed(0)
            x, _ = flow.columns(x, noise=generator)
        x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    fresh: Flow = build(**arguments).to(flow.device)
    if flow.condition_dim and flow.classes is None:  # its unit, which is no learned weight
        fresh.condition_shift.copy_(flow.condition_shift)
        fresh.condition_scale.copy_(flow.condition_scale)
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
    """Where a computation first has a value that is NaN or infinite.

    Attributes:
        order: position in the computation; smaller is earlier.
        where: name and kind of the layer, or another description.
        rows: indices of the affected examples, where the value belongs to one.
    """

    order: int
    where: str
    rows: list[int] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """True if there is such a value."""
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
    """Repeat a loss, and find the first layer whose output or gradient is not finite.

    In training mode this updates the flow's statistics: restore them afterwards. With several
    processes, all must call this at the same time.

    Args:
        flow: flow, in the mode in which it failed.
        x: batch that failed.
        condition: condition of the batch.
        noise: noise of the step that failed.
        gradients: also check the gradients.
        anywhere: function that returns whether its argument is true in any process.
    """
    nothing = NonFiniteReport(
        _NOTHING, "nothing when the step is repeated: memory or a device may be faulty"
    )
    if anywhere(_is_bad(x)):
        return NonFiniteReport(-1, "the data", _bad_rows(x, len(x))) if _is_bad(x) else nothing
    reports: list[NonFiniteReport] = []
    calls = 0

    def look(where: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            nonlocal calls
            calls += 1
            layer = f"{where} ({type(module).__name__})"
            tensors = output if isinstance(output, tuple) else (output,)
            for tensor in tensors:
                if not reports and _is_bad(tensor):
                    reports.append(NonFiniteReport(calls, layer, _bad_rows(tensor, len(x))))
                if gradients and isinstance(tensor, Tensor) and tensor.requires_grad:
                    tensor.register_hook(look_back(layer, _GRADIENTS - calls))

        return hook

    def look_back(layer: str, order: int) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            # backward comes from the loss: the latest layer is where the gradient began
            if not reports and _is_bad(gradient):
                where = f"the gradient of the output of {layer}"
                reports.append(NonFiniteReport(order, where, _bad_rows(gradient, len(x))))

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
            if not reports and _is_bad(term):
                reports.append(NonFiniteReport(_GRADIENTS // 2, f"the term {name!r} of the loss"))
        if not anywhere(bool(reports)) and gradients:
            named = [(name, p) for name, p in flow.named_parameters() if p.requires_grad]
            grads = torch.autograd.grad(
                sum(terms.values(), x.new_zeros((), dtype=flow.dtype)),
                [parameter for _, parameter in named],
                allow_unused=True,
            )
            for (name, _), grad in zip(named, grads, strict=True):
                if not reports and _is_bad(grad):
                    reports.append(NonFiniteReport(_GRADIENTS, f"the gradient of {name}"))
    finally:
        for handle in hooks:
            handle.remove()
    return reports[0] if reports else nothing
