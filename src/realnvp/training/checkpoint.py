"""Capture the state of training from the model, its average and the optimizer, and restore it.

All processes of a run have the same state, so a run can be resumed with a different number of them.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from realnvp.flow import Flow
from realnvp.training.optim import EMA
from realnvp.utils.serialization import check_like

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
    flow.load_state_dict(state["model"])
    for name, value in state["average"].items():
        ema.average[name].copy_(value)
    ema.updates = int(state["updates"])
    torch.set_rng_state(state["rng"].cpu())
    optimizer.state.clear()
    for index, moments in state["moments"].items():
        parameter = parameters[int(index)]
        placed: dict[str, Tensor] = {}
        for name, value in moments.items():
            # in the parameter's memory layout, which the fused optimizer relies on
            like = torch.zeros((), device=parameter.device) if name == "step" else parameter
            placed[name] = torch.zeros_like(like, requires_grad=False).copy_(value)
        optimizer.state[parameter] = placed


def _check_moments(moments: Any, optimizer: torch.optim.Optimizer) -> None:
    expected: dict[str, dict[str, Tensor]] = {}
    for group in optimizer.param_groups:
        names = MOMENTUM if group.get("orthogonal") else MOMENTS
        for parameter in group["params"]:
            like = {name: torch.zeros(()) if name == "step" else parameter for name in names}
            expected[str(len(expected))] = like
    check_like(moments, expected if moments else {}, "moments")


def snapshot(state: Any) -> Any:
    """Return a copy of a nested state, which training does not change."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {name: snapshot(value) for name, value in state.items()}
    return copy.deepcopy(state)
