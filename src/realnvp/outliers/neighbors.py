"""Distances to the nearest training rows, in the data's space and in the latents'.

A flow's latents are independent and of one scale, so that a distance between them means the same in
every direction; distances of standardized rows see what a density of few rows smooths over.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.flow import Flow

__all__ = ["NEIGHBORS", "Neighbors", "latents_of"]

NEIGHBORS = (1, 5)
"""Which neighbors' distances count, in the data's space; in the latents', the first."""

ITSELF = 1e-5
"""Distance, in standard deviations, up to which two rows are one: latents round in other ways in
other batches."""

FARTHEST = 50.0
"""Latents are clamped to this size: beyond, all are equally far."""


class Neighbors:
    """The nearest of some reference rows, that are not the row itself.

    A row that is one of the reference rows, or a copy of one, is not its own neighbor: so rows that
    were fitted to can be scored like new ones.

    Args:
        rows: ``(R, D)`` reference rows.

    >>> near = Neighbors(np.array([[0.0], [1.0], [3.0]]))
    >>> near.distances(np.array([[1.0], [10.0]]), (1, 2)).tolist()
    [[1.0, 2.0], [7.0, 9.0]]
    """

    def __init__(self, rows: NDArray) -> None:
        from sklearn.neighbors import NearestNeighbors

        self.rows = rows
        self._index = NearestNeighbors().fit(rows)

    def distances(self, rows: NDArray, which: tuple[int, ...]) -> NDArray:
        """Return the distances ``(N, len(which))`` to the first, second, ... neighbors.

        Args:
            rows: ``(N, D)``.
            which: which neighbors, counted from 1; the last one where there are fewer.
        """
        most = min(max(which) + 1, len(self.rows))
        found, _ = self._index.kneighbors(rows, n_neighbors=most)
        itself = (found[:, 0] <= ITSELF).astype(int)
        place = np.minimum(np.array(which)[None] - 1 + itself[:, None], most - 1)
        result: NDArray = np.take_along_axis(found, place, axis=1)
        return result

    def nearest(self, rows: NDArray) -> NDArray:
        """Return the indices ``(N,)`` of the nearest reference rows."""
        result: NDArray = self._index.kneighbors(rows, n_neighbors=1, return_distance=False)[:, 0]
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
