r"""The distribution of one feature of a table given the others, on a grid of few points.

With :math:`v_i` the normal score of the feature and :math:`v_k` those of the known ones, its
density given them is :math:`p(v_i \mid v_k) \propto p(v_i, v_k)`, which is smooth however discrete
the column is, since each of its values has an interval of scores. The logarithm is evaluated at few
points and interpolated by cubic polynomials, which are exact for a Gaussian; further points follow
where the probability is, until its distribution function no longer changes.

Noise of the known features changes the density little. So points are located with noise in the
middle of every bin, and a correction by the mean over several draws is evaluated at fewer points.

A flow of one feature has the quantiles :math:`f^{-1}(\Phi^{-1}(q))` in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.stats import qmc
from torch import Tensor

from realnvp.bijections import Chain, PiecewiseLinearCoupling
from realnvp.bijections.columns_first import ColumnsFirst
from realnvp.flow import Flow

__all__ = ["ScoreDensity", "even_noise", "has_grid", "normal_quantiles"]

START = (-12.0, -5.0, -3.5, -2.3, -1.15, 0.0, 1.15, 2.3, 3.5, 5.0, 12.0)
"""Scores at which a density is evaluated first."""

NEXT = torch.special.ndtr(torch.linspace(-3.0, 3.0, 8, dtype=torch.float64))
"""Probabilities of the points that follow, by the distribution known so far."""

CORRECTED = torch.special.ndtr(torch.linspace(-1.5, 1.5, 3, dtype=torch.float64))
"""Probabilities of the points at which the correction for noise is evaluated."""

TOLERANCE = 0.005
"""Change of the distribution function at which no more points follow."""

ROUNDS = 10
"""Largest number of times that points follow."""

FINE = 6
"""Number of parts of the interval between two points, for integrals."""

DRAWS = 8
"""Draws of the noise of other features; the correction takes half of them."""


def even_noise(features: int, draws: int) -> Tensor:
    """Return points ``(draws, features)`` that are spread evenly over the cube, in float64."""
    if features <= qmc.Sobol.MAXDIM:
        return torch.as_tensor(qmc.Sobol(features, seed=0).random(draws))
    return torch.as_tensor(qmc.LatinHypercube(features, seed=0).random(draws))  # in each feature


def has_grid(flow: Flow, feature: int) -> bool:
    """Return whether the density of a feature's score given the others is smooth."""
    for layer in flow.body.modules():
        if isinstance(layer, PiecewiseLinearCoupling):
            return False
        if isinstance(layer, ColumnsFirst) and feature in layer.columns:
            return False
    return True


def normal_quantiles(flow: Flow, q: Tensor, rows: int, condition: Tensor | None) -> Tensor:
    """Return the scores ``(Q, rows)`` of quantiles of a flow of one feature, in closed form."""
    z = torch.special.ndtri(q).to(flow.device, flow.dtype)
    given = None if condition is None else condition.repeat(len(q), 1)
    return flow.body.inverse(z.repeat_interleave(rows)[:, None], given)[0].view(len(q), rows)


@dataclass(frozen=True, eq=False)
class ScoreDensity:
    """Density of the score of one feature given the others, for N rows.

    Args:
        points: ``(N, F)`` ascending scores.
        below: ``(N, F)`` probabilities of smaller scores, from 0 to 1.
    """

    points: Tensor
    below: Tensor

    @staticmethod
    def of(flow: Flow, x: Tensor, condition: Tensor | None, feature: int) -> ScoreDensity:
        """Return the density for rows ``(N, D)``, all of whose other features are known."""
        layer = flow.columns
        assert layer is not None  # the caller has a table
        unknown = torch.zeros(flow.dim, dtype=torch.bool, device=x.device)
        unknown[feature] = True
        (block,) = flow.body if isinstance(flow.body, Chain) and len(flow.body) == 1 else (None,)
        first = block.columns if isinstance(block, ColumnsFirst) else []
        noisy = [i for i in layer.noisy_columns.nonzero()[:, 0].tolist() if i != feature]
        noise = torch.full((1, flow.dim), 0.5, dtype=torch.float64)
        if set(noisy) - set(first):  # the probabilities of the first are exact
            noise = torch.cat((noise, even_noise(flow.dim, DRAWS // 2)))

        def densities(u: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
            """Return a function of points ``(R, G)`` and their rows: log-densities ``(R, G)``."""
            v, slopes = layer.scores(
                x.repeat_interleave(len(u), 0), u.to(x.device).repeat(len(x), 1), unknown
            )
            given = None if condition is None else condition.repeat_interleave(len(u), 0)
            slopes[:, [feature, *first]] = 0.0
            body, place = flow.body, feature
            if isinstance(block, ColumnsFirst):
                given = block.features(v, given)
                v, body, place = v[:, block.others], block.inner, block.others.index(feature)
            v = v.view(len(x), len(u), 1, -1)
            given = None if given is None else given.view(len(x), len(u), 1, -1)
            known = slopes.sum(1).view(len(x), len(u), 1)

            def log_density(points: Tensor, rows: Tensor) -> Tensor:
                shape = *points.shape[:1], len(u), points.shape[1]
                scores = v[rows].expand(*shape, -1).clone()
                scores[..., place] = points[:, None].to(scores)
                each = None
                if given is not None:
                    each = given[rows].expand(*shape, -1).flatten(0, 2)
                z, log_det = body(scores.flatten(0, 2), each)
                log_p = (log_det - 0.5 * z.square().sum(1)).double().view(shape) + known[rows]
                log_p = log_p.logsumexp(1) - math.log(len(u))
                return log_p.nan_to_num(-1e6, neginf=-1e6).clamp(min=-1e6)

            return log_density

        center = densities(noise[:1])
        mean = densities(noise[1:]) if len(noise) > 1 else None
        rows = torch.arange(len(x), device=x.device)
        points = torch.tensor(START, dtype=torch.float64, device=x.device).expand(len(x), -1)
        values = center(points, rows)
        ended: list[tuple[Tensor, ScoreDensity]] = []
        density = _integrated(points, values)
        for turn in range(ROUNDS):
            more = density.quantiles(NEXT.to(x.device))
            values = torch.cat((values, center(more, rows)), dim=1)
            points, order = torch.cat((points, more), dim=1).sort(dim=1)
            values = values.gather(1, order)
            density = _integrated(points, values)
            change = (density.probabilities(more) - NEXT.to(x.device)).abs().amax(1)
            done = (change < TOLERANCE) | (turn == ROUNDS - 1)
            if done.any():
                part = points[done], values[done]
                if mean is not None:
                    part = _corrected(*part, density[done], mean, rows[done])
                ended.append((rows[done], _integrated(*part)))
            if done.all():
                break
            rows, density = rows[~done], density[~done]
            points, values = points[~done], values[~done]
        return _joined(ended, len(x))

    def __getitem__(self, rows: Tensor) -> ScoreDensity:
        return ScoreDensity(self.points[rows], self.below[rows])

    def quantiles(self, q: Tensor) -> Tensor:
        """Return the scores of probabilities ``(Q,)``, or of each row's ``(N, Q)``: ``(N, Q)``."""
        return _interpolated(self.below, self.points, q.expand(len(self.below), -1))

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return the probabilities of being below scores ``(N, Q)``."""
        return _interpolated(self.points, self.below, scores)

    def log_height(self, scores: Tensor) -> Tensor:
        """Return the logarithm of the normalized density at scores ``(N, Q)``."""
        k = _interval(self.points, scores)
        mass = self.below.gather(1, k + 1) - self.below.gather(1, k)
        return (mass / (self.points.gather(1, k + 1) - self.points.gather(1, k))).log()

    def mean(self, grid: Tensor, values: Tensor) -> Tensor:
        """Return the mean of a function of the score, known on a grid ``(S,)``, ``(N,)``."""
        middle = 0.5 * (self.points[:, 1:] + self.points[:, :-1])
        at = _interpolated(grid.expand(1, -1), values.expand(1, -1), middle.view(1, -1))
        return (self.below.diff(dim=1) * at.view_as(middle)).sum(1)


def _joined(parts: list[tuple[Tensor, ScoreDensity]], count: int) -> ScoreDensity:
    """Return densities of parts of the rows, on different numbers of points, as one."""
    most = max(density.points.shape[1] for _, density in parts)
    first = parts[0][1].points
    whole = ScoreDensity(first.new_zeros(count, most), first.new_ones(count, most))
    for rows, density in parts:
        size = density.points.shape[1]
        whole.points[rows] = density.points[:, -1:].expand(-1, most)
        whole.points[rows, :size] = density.points
        whole.below[rows, :size] = density.below
    return whole


def _corrected(
    points: Tensor,
    values: Tensor,
    density: ScoreDensity,
    mean: Callable[[Tensor, Tensor], Tensor],
    rows: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return points and log-densities, to which the change by the mean over noise is added."""
    few = density.quantiles(CORRECTED.to(points.device))
    change = mean(few, rows) - _cubic(points, values, few)
    # Beyond the outermost, the change is constant.
    nodes = torch.cat((few[:, :1] - 20.0, few, few[:, -1:] + 20.0), dim=1)
    change = torch.cat((change[:, :1], change, change[:, -1:]), dim=1)
    return points, values + _interpolated(nodes, change, points)


def _integrated(points: Tensor, values: Tensor) -> ScoreDensity:
    """Return the density of logarithms ``(N, G)`` at points, interpolated by cubics."""
    place = torch.linspace(0, 1, FINE + 1, dtype=points.dtype, device=points.device)[:-1]
    width, left, right = _ends(points, values)
    start = values[:, :-1, None], left[..., None]
    stop = values[:, 1:, None], right[..., None]
    logs = _hermite(place, *start, *stop).flatten(1)
    fine = (points[:, :-1, None] + width[..., None] * place).flatten(1)
    logs, fine = torch.cat((logs, values[:, -1:]), 1), torch.cat((fine, points[:, -1:]), 1)
    top = logs.amax(1, keepdim=True)
    heights = (logs - top).exp()
    masses = 0.5 * (heights[:, 1:] + heights[:, :-1]) * fine.diff(dim=1)
    below = torch.cat((torch.zeros_like(top), masses.cumsum(1)), dim=1)
    return ScoreDensity(fine, below / below[:, -1:])


def _ends(points: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the widths of intervals, and the changes over them by the slopes at their ends.

    Each slope is that of the parabola through a point and its neighbors.
    """
    width = points.diff(dim=1).clamp(min=1e-9)
    rise = values.diff(dim=1) / width
    before, after = width[:, :-1], width[:, 1:]
    inner = (rise[:, :-1] * after + rise[:, 1:] * before) / (before + after)
    slope = torch.cat((rise[:, :1], inner, rise[:, -1:]), dim=1)
    return width, slope[:, :-1] * width, slope[:, 1:] * width


def _hermite(t: Tensor, start: Tensor, left: Tensor, stop: Tensor, right: Tensor) -> Tensor:
    """Return the cubic of the values and slopes at 0 and 1."""
    rise = stop - start
    return start + t * (left + t * (3 * rise - 2 * left - right + t * (left + right - 2 * rise)))


def _cubic(points: Tensor, values: Tensor, at: Tensor) -> Tensor:
    width, left, right = _ends(points, values)
    k = _interval(points, at)
    t = (at - points.gather(1, k)) / width.gather(1, k)
    start, stop = values.gather(1, k), values.gather(1, k + 1)
    return _hermite(t, start, left.gather(1, k), stop, right.gather(1, k))


def _interval(points: Tensor, at: Tensor) -> Tensor:
    return (torch.searchsorted(points.contiguous(), at.contiguous()) - 1).clamp(
        0, points.shape[1] - 2
    )


def _interpolated(points: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """Return values between ascending points by straight lines, and those at the ends beyond."""
    k = _interval(points, at)
    low, start = points.gather(1, k), values.gather(1, k)
    width = (points.gather(1, k + 1) - low).clamp(min=1e-300)
    t = ((at - low) / width).clamp(0, 1)
    return start + t * (values.gather(1, k + 1) - start)
