"""Training rows, their condition as layers receive it, and their moments.

Nothing depends on the unit of a column, of the condition or of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import one_hot

if TYPE_CHECKING:
    from realnvp.columns.kinds import Feature  # with pandas, which images do not need

__all__ = ["TrainingRows", "moments", "weight_fractions"]


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """The rows that a model of vectors is fitted to.

    Args:
        x: ``(N, D)`` encoded rows, float64, with NaN for missing values.
        condition: classes ``(N,)`` or numbers ``(N, K)`` that the density is conditioned on.
        weight: ``(N,)`` positive weights; None for equal ones.
        classes: number of classes, 0 if the condition is none.
        features: meaning of each encoded column of a table; empty if the rows are not a table's.
        integers: indices of the columns that hold integers, if the rows are not a table's.
    """

    x: Tensor
    condition: Tensor | None = None
    weight: Tensor | None = None
    classes: int = 0
    features: Sequence[Feature] = ()
    integers: Sequence[int] = ()

    def encoded_condition(self) -> Tensor | None:
        """Return the condition as layers take it, ``(N, K)`` in float64, or None.

        Numbers are standardized, and classes one-hot.
        """
        if self.condition is None:
            return None
        if self.condition.ndim == 1:
            return one_hot(self.condition, self.classes).double()
        condition = self.condition.double()
        shift, scale = moments(condition, self.weight)
        return (condition - shift) / scale


def weight_fractions(x: Tensor, weight: Tensor | None) -> Tensor:
    """Return weights of the rows ``x`` that add up to 1; equal ones for None."""
    if weight is None:
        return torch.full_like(x[:, 0], 1 / len(x))
    weight = weight.cpu().to(x.dtype)
    weight = weight / weight.max()  # the sum of large weights could overflow
    return weight / weight.sum()


def moments(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return means and standard deviations of columns of any unit.

    Args:
        x: ``(N, D)`` rows.
        weight: ``(N,)`` weights; equal by default.

    Returns:
        means and standard deviations, ``(D,)``; 1 for the deviation of a constant column.

    >>> moments(torch.tensor([[1e200, 3.0], [3e200, 3.0]], dtype=torch.float64))
    (tensor([2.0000e+200,  3.0000e+00], dtype=torch.float64),
     tensor([1.0000e+200,  1.0000e+00], dtype=torch.float64))
    """
    fractions = weight_fractions(x, weight)
    mean = _unit(x)
    mean = (fractions @ (x / mean)) * mean  # sums neither overflow nor vanish, nor do squares below
    centered = x - mean
    unit = _unit(centered)
    std = (fractions @ (centered / unit).square()).sqrt() * unit
    # The mean of equal values may be off by rounding.
    return mean, torch.where((x != x[:1]).any(0), std, 1.0)


def _unit(x: Tensor) -> Tensor:
    """Return the largest magnitude in each column, 1 for columns of zeros."""
    largest = x.abs().amax(0)
    return torch.where(largest > 0, largest, 1.0)
