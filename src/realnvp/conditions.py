"""Conditions: labels and numbers, from the form that users give to the one that layers take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from realnvp.flow import Flow

__all__ = ["as_condition", "condition_of_text", "may_take_condition"]


def as_condition(
    condition: Tensor | None,
    batch: int,
    condition_dim: int,
    classes: int | None,
    dtype: torch.dtype,
    check: bool = True,
) -> Tensor | None:
    """Return the condition for the layers: vectors ``(B, condition_dim)``, labels one-hot.

    Args:
        condition: labels ``(B,)`` or vectors ``(B, condition_dim)``.
        batch: number B of examples.
        condition_dim: size of the condition, 0 for none.
        classes: number of classes, or None.
        dtype: type of the result.
        check: also check the values, which synchronizes with a GPU.

    Raises:
        ValueError: if the condition is missing, superfluous, or of the wrong shape or type; with
            ``check``, if labels are out of range or values are not finite.

    >>> as_condition(torch.tensor([2, 0]), 2, 3, 3, torch.float32)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if condition_dim == 0:
        if condition is not None:
            raise ValueError("this flow is not conditional: leave the condition out")
        return None
    if condition is None:
        what = f"labels (B,) below {classes}" if classes else f"vectors (B, {condition_dim})"
        raise ValueError(f"this flow is conditional: pass {what}")
    if not isinstance(condition, Tensor):
        raise ValueError(
            f"the condition must be a tensor with a row for each example, got {condition!r:.50}"
        )
    labels = classes is not None and condition.ndim == 1
    if labels and (condition.is_floating_point() or condition.dtype == torch.bool):
        raise ValueError(f"labels are integers 0 .. {condition_dim - 1}, got {condition.dtype}")
    shape = (batch,) if labels else (batch, condition_dim)
    if tuple(condition.shape) != shape:
        raise ValueError(
            f"the condition must have shape {shape} for {batch} examples, "
            f"got {tuple(condition.shape)}"
        )
    if check and condition.is_floating_point() and not torch.isfinite(condition).all():
        raise ValueError("the condition has NaN or infinite values")
    if not labels:
        return condition.to(dtype)
    if check and batch:
        low, high = int(condition.min()), int(condition.max())
        if low < 0 or high >= condition_dim:
            raise ValueError(
                f"labels are integers 0 .. {condition_dim - 1} (below {condition_dim}), "
                f"got {low} .. {high}"
            )
    # Not F.one_hot, which reads the labels to find the largest.
    numbers = torch.arange(condition_dim, device=condition.device)
    return (condition[:, None] == numbers).to(dtype)


def may_take_condition(module: nn.Module) -> bool:
    """Return whether a layer or a network may depend on the condition.

    Of the library's own this is known. One that a user wrote may read the condition anywhere.

    >>> from realnvp import MLP
    >>> may_take_condition(MLP(1, 2, 8, 1)), may_take_condition(MLP(1, 2, 8, 1, condition_dim=3))
    (False, True)
    """
    written_by_user = not type(module).__module__.startswith(("realnvp.", "torch."))
    return getattr(module, "takes_condition", written_by_user)


def condition_of_text(flow: Flow, label: str | None, n: int) -> Tensor | None:
    """Return the condition of ``n`` samples from text that a user typed.

    Args:
        flow: the model.
        label: name of a class, or its number if no name is a number; None for all classes in turn;
            or numbers with commas between them.
        n: number of samples.

    Raises:
        ValueError: if there is no such class, or the numbers are not as many as the model takes.

    >>> from realnvp import vector_flow
    >>> condition_of_text(vector_flow(2, classes=3), "1", 2)
    tensor([1, 1])
    >>> condition_of_text(vector_flow(2, condition_dim=2), "0.5,3", 1)
    tensor([[0.5000, 3.0000]], dtype=torch.float64)
    """
    if flow.condition_dim == 0:
        if label is not None:
            raise ValueError("the model is not conditional: leave the label out")
        return None
    if flow.classes is None:
        try:
            values = [float(value) for value in (label or "").split(",")]
        except ValueError:
            values = []
        if len(values) != flow.condition_dim or not all(map(math.isfinite, values)):
            raise ValueError(
                f"the label of this model must be numbers, {flow.condition_dim} with commas "
                f"between them, got {label!r}"
            )
        return torch.tensor(values, dtype=torch.float64).expand(n, len(values))
    if label is None:
        return torch.arange(n) * flow.classes // n
    names = flow.class_names
    if label in names:
        return torch.full((n,), names.index(label))
    numbered = not any(name.isdecimal() for name in names)  # else 4 would be the class "5"
    if not (numbered and label.isdecimal() and int(label) < flow.classes):
        known = ", ".join(names) if names else f"0 .. {flow.classes - 1}"
        raise ValueError(f"unknown label {label!r}: there are {known}")
    return torch.full((n,), int(label))
