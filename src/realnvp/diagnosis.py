"""Where a number stopped being finite: the first layer, by name, and the examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from realnvp.bijections import Bijection
from realnvp.bijections.preprocess import Noise
from realnvp.models import Flow

__all__ = ["Finding", "find_non_finite"]

_GRADIENTS = 1_000_000  # gradients come after all outputs
_NOTHING = 2 * _GRADIENTS


@dataclass(frozen=True)
class Finding:
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
) -> Finding:
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
    nothing = Finding(
        _NOTHING, "nothing when the step is repeated: memory or a device may be faulty"
    )
    if anywhere(_is_bad(x)):
        return Finding(-1, "the data", _bad_rows(x, len(x))) if _is_bad(x) else nothing
    found: list[Finding] = []
    calls = 0

    def look(where: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            nonlocal calls
            calls += 1
            layer = f"{where} ({type(module).__name__})"
            tensors = output if isinstance(output, tuple) else (output,)
            for tensor in tensors:
                if not found and _is_bad(tensor):
                    found.append(Finding(calls, layer, _bad_rows(tensor, len(x))))
                if gradients and isinstance(tensor, Tensor) and tensor.requires_grad:
                    tensor.register_hook(look_back(layer, _GRADIENTS - calls))

        return hook

    def look_back(layer: str, order: int) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            # backward comes from the loss: the latest layer is where the gradient began
            if not found and _is_bad(gradient):
                where = f"the gradient of the output of {layer}"
                found.append(Finding(order, where, _bad_rows(gradient, len(x))))

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
                found.append(Finding(_GRADIENTS // 2, f"the term {name!r} of the loss"))
        if not anywhere(bool(found)) and gradients:
            named = [(name, p) for name, p in flow.named_parameters() if p.requires_grad]
            slopes = torch.autograd.grad(
                sum(terms.values(), x.new_zeros((), dtype=flow.dtype)),
                [parameter for _, parameter in named],
                allow_unused=True,
            )
            for (name, _), slope in zip(named, slopes, strict=True):
                if not found and _is_bad(slope):
                    found.append(Finding(_GRADIENTS, f"the gradient of {name}"))
    finally:
        for handle in hooks:
            handle.remove()
    return found[0] if found else nothing
