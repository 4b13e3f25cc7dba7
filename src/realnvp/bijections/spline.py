r"""Spline couplings: monotone curves whose knots a conditioner gives, analytic both ways.

Between two knots :math:`(x_k, y_k)` and :math:`(x_{k+1}, y_{k+1})` with slopes :math:`d_k` and
:math:`d_{k+1}`, the curve is a quotient of two quadratics of the place in between,
:math:`t = (x - x_k) / (x_{k+1} - x_k)` (arXiv 1906.04032, equations 4 and 5),

.. math::
    y = y_k + \frac{(y_{k+1} - y_k)\,(s t^2 + d_k t (1 - t))}{s + (d_{k+1} + d_k - 2 s)\,t (1 - t)},
    \qquad s = \frac{y_{k+1} - y_k}{x_{k+1} - x_k}

which rises through the knots with these slopes. Its inverse is the root of a quadratic equation. A
spline bends where a mixture needs a component, so it suits densities with sharp edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from realnvp.bijections.coupling import Coupling, Mask

__all__ = [
    "CircularCoupling",
    "SplineCoupling",
    "rational_quadratic",
    "rational_quadratic_piece",
    "spline_knots",
    "spline_slopes",
    "wrapped",
]

LEAST = 1e-3
"""Smallest slope, and smallest bin as a fraction of all of them, which keep the map invertible."""


def spline_knots(raw: Tensor, bound: float) -> Tensor:
    """Return ascending knots from ``-bound`` to ``bound``: ``(B, K, ...) -> (B, K + 1, ...)``.

    Args:
        raw: a conditioner's output; zeros give knots at equal distances.
        bound: where the last knot is.
    """
    sizes = LEAST + (1 - LEAST * raw.shape[1]) * raw.softmax(1)
    inner = bound * (2 * sizes.cumsum(1)[:, :-1] - 1)
    end = torch.full_like(inner[:, :1], bound)
    return torch.cat((-end, inner, end), dim=1)


def spline_slopes(raw: Tensor) -> Tensor:
    """Return positive slopes from a conditioner's output, of which zeros give slopes of 1."""
    return LEAST + (1 - LEAST) * F.softplus(raw + math.log(math.e - 1))


def rational_quadratic(
    values: Tensor, x_knots: Tensor, y_knots: Tensor, slopes: Tensor, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Map values by a monotone rational-quadratic spline; see the module.

    Args:
        values: ``(B, ...)``, between the first and the last knot.
        x_knots: ``(B, K + 1, ...)``, ascending.
        y_knots: ``(B, K + 1, ...)``, ascending.
        slopes: ``(B, K + 1, ...)``, positive.
        inverse: map from y to x.

    Returns:
        the mapped values and the logarithms of the map's derivative, each ``(B, ...)``.

    >>> knots = torch.tensor([[0.0, 1.0, 2.0]])
    >>> y, _ = rational_quadratic(torch.tensor([0.5]), knots, knots**2 / 2, torch.ones(1, 3))
    >>> y, rational_quadratic(y, knots, knots**2 / 2, torch.ones(1, 3), inverse=True)[0]
    (tensor([0.2500]), tensor([0.5000]))
    """
    edges = y_knots if inverse else x_knots
    k = (values.unsqueeze(1) >= edges[:, 1:-1]).sum(1, keepdim=True)
    x0, y0, d0 = (t.gather(1, k)[:, 0] for t in (x_knots, y_knots, slopes))
    x1, y1, d1 = (t.gather(1, k + 1)[:, 0] for t in (x_knots, y_knots, slopes))
    return rational_quadratic_piece(values, (x0, x1), (y0, y1), (d0, d1), inverse=inverse)


def rational_quadratic_piece(
    values: Tensor,
    x: tuple[Tensor, Tensor],
    y: tuple[Tensor, Tensor],
    slopes: tuple[Tensor, Tensor],
    *,
    inverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Map values by the piece of a spline that each is in, given by both ends of the piece.

    Args:
        values: within the pieces.
        x: places of the ends, of the shape of ``values``, as all of them.
        y: values at the ends.
        slopes: derivatives at the ends.
        inverse: map from y to x.

    Returns:
        as :func:`rational_quadratic`.
    """
    (x0, x1), (y0, y1), (d0, d1) = x, y, slopes
    width, height = x1 - x0, y1 - y0
    s = height / width
    bend = d0 + d1 - 2 * s
    if inverse:
        rise = values - y0
        a = height * (s - d0) + rise * bend
        b = height * d0 - rise * bend
        c = s * rise
        # The root that is 0 where ``rise`` is, without cancellation.
        t = 2 * c / (b + (b.square() + 4 * a * c).clamp(min=0).sqrt())
    else:
        t = (values - x0) / width
    u = t * (1 - t)
    below = s + bend * u
    log_slope = (
        2 * s.log() + (d1 * t.square() + 2 * s * u + d0 * (1 - t).square()).log() - 2 * below.log()
    )
    if inverse:
        return x0 + t * width, -log_slope
    return y0 + height * (s * t.square() + d0 * u) / below, log_slope


class SplineCoupling(Coupling):
    r"""Map by a rational-quadratic spline on :math:`[-B, B]`, and by the identity outside.

    The spline is as in Neural Spline Flows (arXiv 1906.04032, section 3), with linear tails.

    Args:
        mask: splits the input into its passive and active parts.
        conditioner: a network with ``3 * components - 1`` times the active channels as output:
            widths and heights of the bins, and slopes at the knots between them.
        channels: channels of the active part.
        components: number of bins.
        bound: :math:`B`, in standard deviations of latents.

    Raises:
        ValueError: if there are no bins, or more than can have the least width.

    >>> from realnvp.bijections import ChannelMask
    >>> from realnvp.conditioners import MLP
    >>> net = MLP(1, 3 * 4 - 1, hidden=8, blocks=1)
    >>> layer = SplineCoupling(ChannelMask(), net, channels=1, components=4)
    >>> z, log_det = layer(torch.tensor([[1.0, 2.0]]))  # starts as the identity
    >>> torch.allclose(z, torch.tensor([[1.0, 2.0]])), log_det.abs().item() < 1e-5
    (True, True)
    """

    def __init__(
        self,
        mask: Mask,
        conditioner: nn.Module,
        channels: int,
        *,
        components: int = 8,
        bound: float = 5.0,
    ) -> None:
        super().__init__(mask, conditioner, channels)
        if not 1 <= components < 1 / LEAST:
            raise ValueError(f"a spline has 1 to {round(1 / LEAST) - 1} bins, got {components}")
        if not 0 < bound < math.inf:
            raise ValueError(f"the bound of a spline is a positive number, got {bound}")
        self.components, self.bound = components, bound

    @staticmethod
    def num_params(components: int = 8, bound: float = 5.0) -> int:
        return 3 * components - 1

    def transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return self._spline(active, parameters, inverse=False)

    def inverse_transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return self._spline(active, parameters, inverse=True)

    def _spline(
        self, values: Tensor, parameters: Tensor, *, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        n = self.components
        raw = parameters.reshape(values.shape[0], 3 * n - 1, *values.shape[1:])
        widths, heights, raw_slopes = raw.split_with_sizes((n, n, n - 1), dim=1)
        end = torch.ones_like(raw[:, :1])
        slopes = torch.cat((end, spline_slopes(raw_slopes), end), dim=1)
        knots = spline_knots(widths, self.bound), spline_knots(heights, self.bound)
        inside = values.abs() < self.bound
        clamped = values.clamp(-self.bound, self.bound)
        y, log_slope = rational_quadratic(clamped, *knots, slopes, inverse=inverse)
        return torch.where(inside, y, values), torch.where(inside, log_slope, 0.0)


class CircularCoupling(Coupling):
    r"""Rotate, then map by a spline on the circle (arXiv 2002.02428, section 2.3).

    Angles are :math:`-1` to 1. The slopes at both ends are one parameter, so that the map of the
    circle is smooth. The conditioner gets cosines and sines of the passive angles.

    Args:
        mask: splits the input into its passive and active parts.
        conditioner: a network from twice the passive angles to ``3 * components + 1`` times the
            active ones: widths, heights, slopes, and an angle by which to rotate.
        channels: number of active angles.
        components: number of bins.
    """

    def __init__(
        self, mask: Mask, conditioner: nn.Module, channels: int, *, components: int = 8
    ) -> None:
        super().__init__(mask, conditioner, channels)
        self.components = components

    @staticmethod
    def num_params(components: int = 8) -> int:
        return 3 * components + 1

    def compute_parameters(self, passive: Tensor, condition: Tensor | None) -> Tensor:
        angles = math.pi * passive
        features = torch.cat((angles.cos(), angles.sin()), dim=1)
        return super().compute_parameters(features, condition)

    def transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        *spline, shift = self._unpack(active, parameters)
        return rational_quadratic(wrapped(active + shift), *spline)

    def inverse_transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        *spline, shift = self._unpack(active, parameters)
        angles, log_slope = rational_quadratic(active, *spline, inverse=True)
        return wrapped(angles - shift), log_slope

    def _unpack(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, ...]:
        """Return knots on both sides, slopes, and the shift."""
        n = self.components
        raw = parameters.reshape(active.shape[0], 3 * n + 1, *active.shape[1:])
        widths, heights, slopes, shift = raw.split_with_sizes((n, n, n, 1), dim=1)
        slopes = spline_slopes(torch.cat((slopes, slopes[:, :1]), dim=1))
        return spline_knots(widths, 1.0), spline_knots(heights, 1.0), slopes, shift[:, 0]


def wrapped(turns: Tensor) -> Tensor:
    """Return angles in [-1, 1]."""
    return turns - 2 * torch.floor(0.5 * (turns + 1))
