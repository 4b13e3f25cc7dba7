"""Capture the state of training from the model, its average and the optimizer, and restore it.

Every process holds its own shards of sharded parameters. It writes them itself (see ``shards``), or
they are gathered one after the other. Either way, a run can be resumed with a different number of
processes.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from realnvp.bijections import ActNorm
from realnvp.bijections.dequantization import Noise
from realnvp.flow import Flow
from realnvp.training.optim import EMA
from realnvp.utils.serialization import check_like

__all__ = [
    "Statistics",
    "capture",
    "full_tensor",
    "gather",
    "initialize",
    "restore",
    "snapshot",
    "tensors_like",
]

MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
"""Adam's state for a parameter: a number, and two tensors of the parameter's shape."""


MOMENTUM = {"exp_avg"}
"""Muon's state for a matrix."""


class Statistics:
    """Running statistics as they were before a step, in case the step is not taken.

    The forward pass updates them, but whether the step is taken is known only after the backward
    pass. They are copied on their device, so that nothing waits for it.

    Args:
        buffers: the statistics; their present values are kept.

    >>> running = torch.zeros(2)
    >>> statistics = Statistics([running])
    >>> _ = running.add_(1)
    >>> statistics.restore()
    >>> running
    tensor([0., 0.])
    """

    def __init__(self, buffers: Iterable[Tensor]) -> None:
        groups: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for buffer in buffers:
            groups[buffer.dtype].append(buffer)
        # Tensors of one type are copied in one call.
        self._groups = [(group, [buffer.clone() for buffer in group]) for group in groups.values()]

    @torch.no_grad()
    def keep(self) -> None:
        """Keep their present values."""
        for buffers, kept in self._groups:
            torch._foreach_copy_(kept, buffers)

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the values that were kept."""
        for buffers, kept in self._groups:
            torch._foreach_copy_(buffers, kept)


@torch.no_grad()
def initialize(flow: Flow, x: Tensor, condition: Tensor | None, noise: Noise) -> None:
    """Initialize layers that the first batch initializes, such as :class:`ActNorm`.

    Running statistics are unchanged. Call this before parameters are sharded.

    Args:
        flow: the model.
        x: first batch.
        condition: its condition, if the flow is conditional.
        noise: its dequantization noise.
    """
    statistics = Statistics(
        buffer
        for module in flow.modules()
        for buffer in module.buffers(recurse=False)
        if not isinstance(module, ActNorm)
    )
    flow.train()
    flow.loss_terms(x, condition, noise)
    statistics.restore()


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor, gathered into main memory if it is sharded.

    All processes must call it then. Main memory is used because a model is sharded when it does not
    fit on a device.
    """
    return tensor.full_tensor().cpu() if hasattr(tensor, "full_tensor") else tensor


@torch.no_grad()
def _assign(mine: Tensor, value: Tensor) -> None:
    """Copy a tensor, which may be full, into one that may be sharded."""
    if hasattr(mine, "full_tensor") and not hasattr(value, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        placed = value.to(mine.device)
        value = distribute_tensor(placed, mine.device_mesh, mine.placements)  # type: ignore[attr-defined]
    mine.copy_(value)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def capture(flow: Flow, optimizer: torch.optim.Optimizer, ema: EMA) -> dict[str, Any]:
    """Return the tensors that training changes. They are not copied: see :func:`snapshot`."""
    moments = {
        str(index): dict(optimizer.state[parameter])
        for index, parameter in enumerate(_parameters(optimizer))
        if parameter in optimizer.state
    }
    return {
        "model": dict(flow.state_dict()),
        "moments": moments,
        "average": dict(ema.average),
        "updates": ema.updates,
        "rng": torch.get_rng_state(),
    }


def tensors_like(flow: Flow, optimizer: torch.optim.Optimizer, ema: EMA) -> dict[str, Tensor]:
    """Return, for each tensor that :func:`capture` may return, one of its shape, type and shards.

    Their names are paths, such as "moments/0/exp_avg".
    """
    moments = {
        f"moments/{index}/{name}": parameter
        for index, parameter in enumerate(_parameters(optimizer))
        for name in MOMENTS - {"step"}
    }
    model = {f"model/{name}": tensor for name, tensor in flow.state_dict().items()}
    return {**model, **{f"average/{name}": t for name, t in ema.average.items()}, **moments}


def gather(state: dict[str, Any], keep: bool = True) -> dict[str, Any]:
    """Return a state with full tensors, gathered into main memory one by one.

    All processes must call it.

    Args:
        state: state, whose tensors may be sharded.
        keep: whether this process needs the state; the others hold one tensor at a time, and get
            None in place of each.
    """

    def one(tensor: Tensor) -> Tensor | None:
        if not hasattr(tensor, "full_tensor"):
            return tensor
        full = full_tensor(tensor)
        return full if keep else None

    return _mapped(state, one)


def restore(state: dict[str, Any], flow: Flow, optimizer: torch.optim.Optimizer, ema: EMA) -> None:
    """Restore what :func:`capture` returned.

    The optimizer keeps its settings: a run may be resumed with different ones.

    Raises:
        ValueError: if the state belongs to another model, before anything is changed.
    """
    expected = capture(flow, optimizer, ema)
    parameters = _parameters(optimizer)
    _check_moments(state.get("moments"), optimizer)
    for name in ("model", "average", "updates", "rng"):
        check_like(state.get(name), expected[name], name)
    tensors = flow.state_dict()
    if any(hasattr(tensor, "full_tensor") for tensor in tensors.values()):
        for name, value in state["model"].items():
            _assign(tensors[name], value)
    else:
        flow.load_state_dict(state["model"])
    for name, value in state["average"].items():
        _assign(ema.average[name], value)
    ema.updates = int(state["updates"])
    torch.set_rng_state(state["rng"].cpu())
    optimizer.state.clear()
    for index, moments in state["moments"].items():
        parameter = parameters[int(index)]
        placed: dict[str, Tensor] = {}
        for name, value in moments.items():
            # in the parameter's memory layout, which the fused optimizer relies on
            like = torch.zeros((), device=parameter.device) if name == "step" else parameter
            placed[name] = torch.zeros_like(like, requires_grad=False)
            _assign(placed[name], value)
        optimizer.state[parameter] = placed


def _check_moments(found: Any, optimizer: torch.optim.Optimizer) -> None:
    parameters = _parameters(optimizer)
    names = [
        MOMENTUM if group.get("orthogonal") else MOMENTS
        for group in optimizer.param_groups
        for _ in group["params"]
    ]
    if not isinstance(found, dict) or (found and len(found) != len(parameters)):
        raise ValueError(f"the optimizer's state is not that of {len(parameters)} parameters")
    for index, parameter in enumerate(parameters if found else ()):
        example = {
            name: torch.zeros(()) if name == "step" else torch.empty(
                parameter.shape, dtype=parameter.dtype, device="meta"
            )
            for name in names[index]
        }  # fmt: skip
        check_like(found.get(str(index)), example, f"moments.{index}")


def snapshot(state: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a state, which training does not change."""
    return _mapped(state, lambda tensor: tensor.detach().clone())


def _mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return a copy of a nested state, with changed tensors."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return copy.deepcopy(value)
