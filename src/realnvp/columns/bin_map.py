r"""Maps of columns of cells, such as categories, to normal scores.

The k-th cell has the interval :math:`[c_k, c_k + f_k)` of its frequency :math:`f_k`, and
:math:`v = \Phi^{-1}(c_k + f_k u)` with :math:`u` uniform on :math:`[0, 1)`. If cells are numbers,
there are cells beyond the first and the last, too, where scores grow like logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from realnvp.bijections.gaussian_mixture import log_normal
from realnvp.columns.smooth_map import TINY

__all__ = ["MOST", "ON_GRID", "BinMap", "even_edges", "score_of"]

ON_GRID = 1e-3
"""Distance from its grid, in steps, up to which a number counts as on the grid."""

FARTHEST = 30.0
"""Logarithm of the largest distance beyond a column's cells that is drawn, in units of their
range."""

MOST = 10_000_000
"""Largest number of cells, knots or atoms of a column."""


def even_edges(sizes: Tensor, width: int) -> Tensor:
    """Return rows of edges of ``sizes`` equal cells from 0 to 1, padded with ones to ``width``."""
    return (torch.arange(width, dtype=torch.float64) / sizes[:, None]).clamp(max=1.0)


def score_of(share: Tensor) -> Tensor:
    """Return the normal score of a share of the probability, which is kept within (0, 1)."""
    return torch.special.ndtri(share.clamp(TINY, 1 - TINY))


@dataclass(frozen=True, eq=False)
class BinMap:
    """The maps of S columns of at most K cells.

    Args:
        sizes: number of cells of each column.
        ordered: whether they are numbers, so that new values may lie beyond the first and the last.
        origin: ``(S,)``, the number of the first cell.
        step: ``(S,)``, from each cell to the next.
        edges: ``(S, K + 1)``, where the intervals of the cells begin and end.
        tails: ``(S, 2)``, slopes of the scores below the first cell and above the last.

    >>> one, edges = torch.ones(1), torch.tensor([[0.0, 0.5, 1.0]]).double()
    >>> coin = BinMap((2,), (False,), 0 * one, one, edges, torch.ones(1, 2))
    >>> v, _ = coin(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [0.5]]))
    >>> v[:, 0].tolist(), coin.inverse(v)[0][:, 0].tolist()
    ([-0.674..., 0.674...], [0.0, 1.0])
    """

    sizes: tuple[int, ...]
    ordered: tuple[bool, ...]
    origin: Tensor
    step: Tensor
    edges: Tensor
    tails: Tensor

    def check(self) -> None:
        """Raise ValueError unless the intervals of the cells ascend, and so do numbers."""
        inside = torch.arange(self.edges.shape[1] - 1) < torch.tensor(self.sizes)[:, None]
        widths = self.edges.diff(dim=1).cpu()
        if not ((widths > 0) | ~inside).all() or (self.edges < 0).any():
            raise ValueError("edges must ascend from 0 or more")
        if (self.edges > 1).any() or (widths < 0).any():
            raise ValueError("edges must ascend to 1 or less")
        if not ((self.step > 0).all() and (self.tails > 0).all()):
            raise ValueError("cell_step and tails must be positive")

    def possible(self, x: Tensor) -> Tensor:
        """Return which values ``(B, S)`` are cells, boolean."""
        position = (x - self.origin) / self.step
        whole = (position - position.round()).abs() <= ON_GRID
        below, above = position.round() < 0, position.round() >= self._size()
        low = below & ((self.edges[:, 0] == 0) | ~self._is_ordered())
        high = above & ((self._last() >= 1) | ~self._is_ordered())
        return whole & ~low & ~high

    def snap(self, x: Tensor) -> Tensor:
        """Return values rounded down to cells."""
        index = ((x - self.origin) / self.step + ON_GRID).floor()
        return self.origin + self.step * index

    def __call__(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores of values ``(B, S)``, and logarithms of probabilities over densities.

        Args:
            x: values.
            u: ``(B, S)`` places in their intervals, in [0, 1).
        """
        k = ((x - self.origin) / self.step).round()
        size = self._size()
        inside = torch.minimum(k.clamp(min=0), size - 1.0).long()
        start, stop = self._edge(inside), self._edge(inside + 1)
        v = score_of(start + (stop - start) * u)
        slope = (stop - start).log() - log_normal(v)
        for side, beyond in ((0, k < 0), (1, k >= size)):
            tail, end, edge = self._tail(side)
            far = torch.log1p((k + u - edge).abs() / size)
            v = torch.where(beyond, end + (2 * side - 1) * tail * size * far, v)
            slope = torch.where(beyond, tail.log() - far, slope)
        return v, slope - self.step.log()

    def inverse(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values of scores, and the logarithms as in the other direction."""
        size = self._size()
        share = torch.special.ndtr(v)
        k = torch.searchsorted(self.edges, share.T.contiguous(), right=True).T - 1
        k = torch.minimum(k.clamp(min=0), size - 1)
        slope = (self._edge(k + 1) - self._edge(k)).log() - log_normal(v)
        position = k.double()
        for side in (0, 1):
            tail, end, edge = self._tail(side)
            beyond = (v < end) if side == 0 else (v >= end)
            bounded = torch.isinf(end) | ~self._is_ordered()
            far = (v - torch.where(bounded, 0.0, end)).abs() / (tail * size)
            far = far.clamp(max=FARTHEST)
            place = ((2 * side - 1) * size * torch.expm1(far)).floor() + edge
            place = place.clamp(max=-1) if side == 0 else torch.maximum(place, size)
            beyond = beyond & ~bounded
            position = torch.where(beyond, place, position)
            slope = torch.where(beyond, tail.log() - far, slope)
        return self.origin + self.step * position, slope - self.step.log()

    def _tail(self, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the slope of a tail, the score where it begins, and the cell there."""
        edge = self.edges[:, 0] if side == 0 else self._last()
        end = torch.special.ndtri(edge)  # infinite at a bound, beyond which there is nothing
        cell = torch.zeros_like(edge) if side == 0 else self._size().double()
        return self.tails[:, side], end, cell

    def _edge(self, k: Tensor) -> Tensor:
        return self.edges.gather(1, k.T).T

    def _last(self) -> Tensor:
        """Return the upper edge of each column's last cell."""
        return self.edges.gather(1, self._size()[:, None])[:, 0]

    def _size(self) -> Tensor:
        return torch.tensor(self.sizes, device=self.edges.device)

    def _is_ordered(self) -> Tensor:
        return torch.tensor(self.ordered, device=self.edges.device)
