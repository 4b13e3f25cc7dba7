r"""Distances to the nearest training rows, in the data's space and in the latents'.

A flow's latents are independent and of one scale, so that a distance between them means the same in
every direction; distances of standardized rows detect what a density fitted to few rows smooths
over. Columns are also squashed, to :math:`\operatorname{arsinh} x`, which grows like the logarithm,
so that a column with heavy tails does not dominate the others, and gaps between groups of rows
count.

A column of categories is a one-hot vector, scaled so that its total variance is 1, that of a
standardized number: the rarer it is to differ in this column, the farther apart are two rows that
do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.flow import Flow

__all__ = ["NEIGHBORS", "Neighbors", "RowNeighbors", "latents_of"]

NEIGHBORS = (1, 5)
"""Neighbors whose distances count, from 1; for squashed rows, only the first."""

MOST_IN_TREE = 15
"""Number of columns up to which a tree finds neighbors faster than a comparison with all rows."""

ITSELF = 1e-5
"""Distance, in standard deviations, up to which two rows count as equal: latents are rounded
differently in different batches."""

FARTHEST = 50.0
"""Latents are clamped to this magnitude: beyond it, all are equally far."""


class Neighbors:
    """Nearest neighbors among reference rows, excluding the row itself.

    A row that is one of the reference rows, or a copy of one, is not its own neighbor, so that
    training rows can be scored like new ones.

    Args:
        rows: ``(R, D)`` reference rows.

    >>> near = Neighbors(np.array([[0.0], [1.0], [3.0]]))
    >>> near.distances(np.array([[1.0], [10.0]]), (1, 2)).tolist()
    [[1.0, 2.0], [7.0, 9.0]]
    """

    def __init__(self, rows: NDArray) -> None:
        from scipy.spatial import KDTree
        from sklearn.neighbors import NearestNeighbors

        self.rows = rows
        if rows.shape[1] <= MOST_IN_TREE:
            self._search = KDTree(rows).query
        else:
            self._search = NearestNeighbors(algorithm="brute").fit(rows).kneighbors

    def distances(self, rows: NDArray, which: tuple[int, ...]) -> NDArray:
        """Return the distances ``(N, len(which))`` to the first, second, ... neighbors.

        Args:
            rows: ``(N, D)``.
            which: which neighbors, counted from 1; the last one where there are fewer.
        """
        most = min(max(which) + 1, len(self.rows))
        found = np.reshape(self._search(rows, most)[0], (len(rows), most))
        itself = (found[:, 0] <= ITSELF).astype(int)
        place = np.minimum(np.array(which)[None] - 1 + itself[:, None], most - 1)
        result: NDArray = np.take_along_axis(found, place, axis=1)
        return result

    def nearest(self, rows: NDArray) -> NDArray:
        """Return the indices ``(N,)`` of the nearest reference rows."""
        result: NDArray = np.reshape(self._search(rows, 1)[1], len(rows))
        return result

    def to_nearest(self, rows: NDArray) -> NDArray:
        """Return the distances ``(N,)`` to the nearest reference rows, 0 for a copy of one."""
        result: NDArray = np.reshape(self._search(rows, 1)[0], len(rows))
        return result


class RowNeighbors:
    """Nearest neighbors among reference rows, in standardized and in squashed columns.

    Args:
        rows: ``(R, D)`` reference rows, by which columns are standardized; gaps are NaN, and count
            as the mean.
        categorical: which columns hold the indices of categories; unknown ones and NaN are together
            one more category. None by default.

    >>> near = RowNeighbors(np.array([[0.0], [2.0], [4.0]]))
    >>> rows = np.array([[4.0], [400.0]])
    >>> near.distances(rows, (1,)).round(1).tolist(), near.squashed(rows, (1,)).round(1).tolist()
    ([[1.2], [242.5]], [[1.2], [6.1]])
    >>> towns = RowNeighbors(np.array([[0.0], [0.0], [1.0], [1.0]]), categorical=[True])
    >>> towns.distances(np.array([[1.0], [7.0]]), (1, 2)).round(6).tolist()
    [[0.0, 2.0], [2.0, 2.0]]
    """

    def __init__(self, rows: NDArray, categorical: Sequence[bool] = ()) -> None:
        self._categories = []
        for i in np.flatnonzero(categorical):
            known = np.unique(rows[~np.isnan(rows[:, i]), i])
            unit = np.sqrt(_one_hot(rows[:, i], known, 1.0).var(axis=0).sum()) or 1.0
            self._categories.append((i, known, 1 / unit))
        numbers = self._numbers(rows)
        seen = np.where(np.isnan(numbers).all(axis=0), 0.0, numbers)  # a column may be all gaps
        self._mean, std = np.nanmean(seen, axis=0), np.nanstd(seen, axis=0)
        self._std = np.where(std > 1e-12 * (1 + np.abs(self._mean)), std, 1.0)
        standardized = self._standardized(rows)
        spread = np.arcsinh(standardized[:, : len(self._std)]).std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)
        self._plain = Neighbors(standardized)

    def distances(self, rows: NDArray, which: tuple[int, ...]) -> NDArray:
        """Return the distances ``(N, len(which))`` of standardized rows to their neighbors."""
        return self._plain.distances(self._standardized(rows), which)

    def squashed(self, rows: NDArray, which: tuple[int, ...]) -> NDArray:
        """Return the distances ``(N, len(which))`` of squashed rows to their neighbors."""
        return self._squashed.distances(self._squash(self._standardized(rows)), which)

    @cached_property
    def _squashed(self) -> Neighbors:
        return Neighbors(self._squash(self._plain.rows))

    def nearest(self, rows: NDArray) -> NDArray:
        """Return the indices ``(N,)`` of the nearest reference rows, plain."""
        return self._plain.nearest(self._standardized(rows))

    def to_parts(self, rows: NDArray, first: int) -> tuple[NDArray, NDArray]:
        """Return the distances ``(N,)`` to the first so many reference rows, and to the others."""
        reference, standardized = self._plain.rows, self._standardized(rows)
        parts = Neighbors(reference[:first]), Neighbors(reference[first:])
        near, far = (part.to_nearest(standardized) for part in parts)
        return near, far

    def _standardized(self, rows: NDArray) -> NDArray:
        numbers: NDArray = np.nan_to_num((self._numbers(rows) - self._mean) / self._std, nan=0.0)
        parts = [_one_hot(rows[:, i], known, size) for i, known, size in self._categories]
        return np.hstack([numbers, *parts]) if parts else numbers

    def _numbers(self, rows: NDArray) -> NDArray:
        categories = [i for i, *_ in self._categories]
        return np.delete(rows, categories, axis=1) if categories else rows

    def _squash(self, standardized: NDArray) -> NDArray:
        result, n = standardized.copy(), len(self._std)
        result[:, :n] = np.arcsinh(standardized[:, :n]) / self._spread
        return result


def _one_hot(codes: NDArray, known: NDArray, size: float) -> NDArray:
    """Return a column for each known category, and one for all others, of ``size`` or 0."""
    place = np.searchsorted(known, codes)
    found = known[np.minimum(place, len(known) - 1)] == codes if len(known) else codes != codes
    result = np.zeros((len(codes), len(known) + 1))
    result[np.arange(len(codes)), np.where(found, place, len(known))] = size
    return result


@torch.no_grad()
def latents_of(flow: Flow, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """Return latents ``(B, D)`` of rows, integers at the middle of their cell, clamped.

    Unlike those of :meth:`realnvp.Flow.encode` they need not decode to the rows.
    """
    noise = torch.full(x.shape, 0.5, dtype=flow.dtype, device=x.device) if flow.noisy else None
    with flow.evaluating():
        z, _ = flow.latents_and_log_det(x, flow.as_condition(condition, len(x)), noise)
    return clamped(z)


def clamped(z: Tensor) -> Tensor:
    """Return latents without infinity and NaN, none larger than :data:`FARTHEST`."""
    return z.nan_to_num(FARTHEST, FARTHEST, -FARTHEST).clamp(-FARTHEST, FARTHEST)
