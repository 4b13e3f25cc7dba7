r"""Spline coupling: a monotone elementwise map that can bend anywhere.

The affine map of Real NVP shifts and stretches; to split one mode into two takes many of them. A
rational-quadratic spline (arXiv 1906.04032) places its own knots and slopes, so that one coupling
turns a normal into a conditional density with many modes and sharp edges, and it still has a
closed inverse: the root of a quadratic.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from realnvp.bijections.coupling import Coupling, Mask

__all__ = ["SplineCoupling"]

MIN_SHARE = 1e-3
"""Least width and height of a bin, as a share of an equal one; keeps slopes and inverses finite."""

MIN_SLOPE = 1e-3
"""Least slope at a knot."""


class SplineCoupling(Coupling):
    def __init__(self, mask: Mask, conditioner: nn.Module, bins: int = 8, bound: float = 4.0):
        super().__init__(mask, conditioner)
        self.bins, self.bound = bins, float(bound)
        self.parameters_per_variable = 3 * bins - 1
        self._slope_zero = math.log(math.expm1(1 - MIN_SLOPE))

    def _bin(self, active: Tensor, parameters: Tensor, side: int):
        k, b = self.bins, self.bound
        batch, *rest = active.shape
        raw = parameters.view(batch, 3 * k - 1, *rest)
        sizes = raw[:, : 2 * k].reshape(batch, 2, k, *rest).softmax(2)
        sizes = sizes * (2 * b * (1 - MIN_SHARE)) + 2 * b * MIN_SHARE / k
        knots = sizes.cumsum(2) - b
        slopes = F.softplus(raw[:, 2 * k :] + self._slope_zero) + MIN_SLOPE
        ends = slopes.new_ones(batch, 1, *rest)
        slopes = torch.cat((ends, slopes, ends), 1)
        inside = active.clamp(-b, b)[:, None]
        index = (inside >= knots[:, side, :-1]).sum(1, keepdim=True)
        pair = index[:, None].expand(batch, 2, 1, *rest)
        size = sizes.gather(2, pair)
        left = knots.gather(2, pair) - size
        slope = slopes.gather(1, torch.cat((index, index + 1), 1))
        return inside[:, 0], left[:, 0, 0], size[:, 0, 0], left[:, 1, 0], size[:, 1, 0], slope[:, 0], slope[:, 1]

    def transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        x, left, width, bottom, height, d0, d1 = self._bin(active, parameters, 0)
        s = height / width
        t = ((x - left) / width).clamp(0, 1)
        u = 1 - t
        tu = t * u
        den = s + (d0 + d1 - 2 * s) * tu
        y = bottom + height * t * (s * t + d0 * u) / den
        log_slope = 2 * torch.log(s / den) + torch.log(d1 * t * t + 2 * s * tu + d0 * u * u)
        inside = x == active
        return torch.where(inside, y, active), torch.where(inside, log_slope, 0.0)

    def untransform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        y, left, width, bottom, height, d0, d1 = self._bin(active, parameters, 1)
        s = height / width
        e = y - bottom
        c2 = d0 + d1 - 2 * s
        a = height * (s - d0) + e * c2
        b = height * d0 - e * c2
        c = -s * e
        root = torch.sqrt((b * b - 4 * a * c).clamp(min=0))
        t = (-2 * c / (b + root)).clamp(0, 1)
        u = 1 - t
        tu = t * u
        den = s + c2 * tu
        x = left + width * t
        log_slope = 2 * torch.log(s / den) + torch.log(d1 * t * t + 2 * s * tu + d0 * u * u)
        inside = y == active
        return torch.where(inside, x, active), torch.where(inside, -log_slope, 0.0)
