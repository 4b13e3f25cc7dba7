"""What a flow accepts: the checks at its public edge, each with an error that says what to do."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["as_condition", "check_data", "check_kind"]


def check_kind(x: Tensor, shape: tuple[int, ...], levels: int | None) -> None:
    """Data must be a batch of the model's shape, and of integers where there are levels.

    This looks at no number, so a device need not be waited for.

    >>> check_kind(torch.zeros(3), (3,), None)
    Traceback (most recent call last):
    ValueError: this flow models shape (B, 3), got (3,)
    """
    if tuple(x.shape[1:]) != shape or x.ndim < 2:
        sizes = ", ".join(map(str, shape))
        raise ValueError(f"this flow models shape (B, {sizes}), got {tuple(x.shape)}")
    if levels is not None and (x.is_floating_point() or x.dtype == torch.bool):
        raise ValueError(
            f"this flow models integers 0 .. {levels - 1} (uint8), got {x.dtype}: "
            f"pass raw pixels, preprocessing is part of the model"
        )


def check_data(x: Tensor, shape: tuple[int, ...], levels: int | None) -> None:
    """Data must be integers below ``levels``, or finite numbers where there are no levels.

    >>> check_data(torch.tensor([[0.5, 0.5]]), (2,), 256)
    Traceback (most recent call last):
    ValueError: this flow models integers 0 .. 255 (uint8), got torch.float32: pass raw pixels, ...
    """
    check_kind(x, shape, levels)
    if levels is None:
        if not torch.isfinite(x).all():
            raise ValueError("the data have NaN or infinite values: remove or replace them")
        return
    # as Python numbers: in uint8, 256 would wrap to 0
    if len(x) and (int(x.min()) < 0 or int(x.max()) >= levels):
        raise ValueError(
            f"this flow models integers 0 .. {levels - 1}, got {int(x.min())} .. {int(x.max())}"
        )


def as_condition(
    condition: Tensor | None,
    batch: int,
    condition_dim: int,
    classes: int | None,
    dtype: torch.dtype,
) -> Tensor | None:
    """The condition as the layers take it: vectors ``(B, condition_dim)``, labels one-hot.

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
    if classes is not None and condition.ndim == 1:
        if condition.is_floating_point() or (len(condition) and int(condition.min()) < 0):
            raise ValueError(f"labels are integers 0 .. {classes - 1}")
        if len(condition) and int(condition.max()) >= classes:
            raise ValueError(f"labels are below {classes}, got {int(condition.max())}")
        condition = F.one_hot(condition.long(), classes)
    if tuple(condition.shape) != (batch, condition_dim):
        raise ValueError(
            f"the condition must have shape ({batch}, {condition_dim}), "
            f"got {tuple(condition.shape)}"
        )
    return condition.to(dtype)
