r"""Smooth maps of columns of numbers to normal scores: a shape of the tails, then a spline.

:math:`v = S(w(t))` of the standardized number :math:`t`, where :math:`w` is one of

* linear, :math:`w = t`;
* asinh, :math:`w = \operatorname{asinh} t`, for heavy tails;
* log, :math:`w = \log t`, above a lower bound;
* logit, :math:`w = \log t - \log(1 - t)`, between two bounds;

and :math:`S` a monotone rational-quadratic spline with straight tails (arXiv 1906.04032,
section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from realnvp.bijections.spline import rational_quadratic_piece

__all__ = ["SHAPES", "TINY", "SmoothMap"]

SHAPES = ("linear", "asinh", "log", "logit")
"""Functions that are applied to numbers before the spline."""

TINY = 2.0**-40
"""Distance that numbers and probabilities keep from their bounds; normal scores are within 7."""


@dataclass(frozen=True, eq=False)
class SmoothMap:
    """The maps of S columns.

    Args:
        shapes: shape of each column.
        center: ``(S,)``, subtracted from numbers.
        scale: ``(S,)``, by which they are then divided.
        knots: ``(S, K)``, where the pieces of each spline begin and end.
        values: ``(S, K)``, the splines' values there.
        slopes: ``(S, K)``, their derivatives there.

    >>> line = torch.tensor([[0.0, 1.0]])
    >>> one = torch.ones(1)
    >>> double = SmoothMap(("linear",), 0 * one, one, line, 2 * line, 2 * torch.ones(1, 2))
    >>> double(torch.tensor([[3.0]]))[0]
    tensor([[6.]])
    """

    shapes: tuple[str, ...]
    center: Tensor
    scale: Tensor
    knots: Tensor
    values: Tensor
    slopes: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores of numbers ``(B, S)``, and the logarithms of the derivatives."""
        t = (x - self.center) / self.scale
        w, slope = t, torch.zeros_like(t)
        asinh, log, logit = (self.has(shape) for shape in SHAPES[1:])
        if "asinh" in self.shapes:
            w = torch.where(asinh, torch.asinh(t), w)
            slope = torch.where(asinh, -torch.log(torch.hypot(t, torch.ones_like(t))), slope)
        if self.is_bounded:
            safe = torch.where(log | logit, t.clamp(min=TINY), 0.5)
            rest = torch.where(
                logit, torch.log1p(-torch.where(logit, t.clamp(max=1 - TINY), 0.5)), 0.0
            )
            w = torch.where(log | logit, safe.log() - rest, w)
            slope = torch.where(log | logit, -safe.log() - rest, slope)
        v, spline = self._spline(w)
        return v, slope + spline - self.scale.log()

    def inverse(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of scores, and the log-derivatives of the forward direction."""
        w = self._spline_inverse(v)
        t, slope = w, torch.zeros_like(w)
        asinh, log, logit = (self.has(shape) for shape in SHAPES[1:])
        if "asinh" in self.shapes:
            inner = torch.where(asinh, w, 0.0)
            t = torch.where(asinh, inner.clamp(-700, 700).sinh(), t)
            slope = torch.where(asinh, -torch.log(torch.hypot(t, torch.ones_like(t))), slope)
        if "log" in self.shapes:
            t = torch.where(log, torch.where(log, w, 0.0).clamp(-700, 700).exp(), t)
            slope = torch.where(log, -w, slope)
        if "logit" in self.shapes:
            t = torch.where(logit, w.sigmoid(), t)
            slope = torch.where(logit, -(logsigmoid(w) + logsigmoid(-w)), slope)
        _, spline = self._spline(w)
        return self.center + self.scale * t, slope + spline - self.scale.log()

    @property
    def is_bounded(self) -> bool:
        """Whether a column has a bound, without reading from the device."""
        return "log" in self.shapes or "logit" in self.shapes

    def has(self, *shapes: str) -> Tensor:
        """Return which columns have one of the shapes, ``(S,)``."""
        return torch.tensor([shape in shapes for shape in self.shapes], device=self.scale.device)

    def _spline(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spline of numbers, and the logarithm of its derivative."""
        x, y, slopes = self._piece(w, self.knots)
        v, slope = rational_quadratic_piece(w.clamp(*x), x, y, slopes)
        for end, beyond in ((0, w < self.knots[:, 0]), (-1, w > self.knots[:, -1])):
            line = self.values[:, end] + self.slopes[:, end] * (w - self.knots[:, end])
            v = torch.where(beyond, line, v)
            slope = torch.where(beyond, self.slopes[:, end].log(), slope)
        return v, slope

    def _spline_inverse(self, v: Tensor) -> Tensor:
        x, y, slopes = self._piece(v, self.values)
        w, _ = rational_quadratic_piece(v.clamp(*y), x, y, slopes, inverse=True)
        for end, beyond in ((0, v < self.values[:, 0]), (-1, v > self.values[:, -1])):
            line = self.knots[:, end] + (v - self.values[:, end]) / self.slopes[:, end]
            w = torch.where(beyond, line, w)
        return w

    def _piece(self, at: Tensor, grid: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return knots, values and slopes, each at both ends of the pieces that ``at`` is in."""
        k = torch.searchsorted(grid, at.T.contiguous(), right=True).T - 1
        k = k.clamp(0, grid.shape[1] - 2)

        def ends(tensor: Tensor) -> tuple[Tensor, Tensor]:
            rows = tensor.expand(k.shape[0], *tensor.shape)
            low, high = (rows.gather(2, (k + i)[..., None])[..., 0] for i in (0, 1))
            return low, high

        return ends(self.knots), ends(self.values), ends(self.slopes)
