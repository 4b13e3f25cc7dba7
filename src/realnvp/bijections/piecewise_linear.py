r"""Piecewise-linear couplings: a histogram for each variable, whose masses a conditioner gives.

With :math:`F` the distribution function of a variable, cut :math:`[0, 1]` into intervals, and
stretch the k-th, of width :math:`f_k`, to a width :math:`g_k` that the conditioner gives (Neural
Importance Sampling, arXiv 1808.03856, section 4.1; there, :math:`F` is uniform and all
:math:`f_k` are equal). Latents are normal here, and so

.. math::
    z = \Phi^{-1}\Big(\sum_{j < k} g_j + g_k \, \frac{\Phi(x) - \sum_{j < k} f_j}{f_k}\Big),
    \qquad \log \frac{dz}{dx} = \log \frac{g_k}{f_k} + \log \frac{\varphi(x)}{\varphi(z)}.

Under a standard normal prior, the k-th interval has the probability :math:`g_k`, whatever is
within it. So where the intervals are the bins of a discrete column (see
:mod:`realnvp.columns.layer`), the flow is a categorical distribution, with nothing lost to
noise: a softmax classifier that is a density, with quantiles and samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from realnvp.bijections.base import constant
from realnvp.bijections.coupling import Coupling, Mask
from realnvp.bijections.fitted import Fitted
from realnvp.bijections.gaussian_mixture import smooth_log_cdf, smooth_quantile

__all__ = ["PiecewiseLinearCoupling"]

FLOOR = 1e-4
"""Fraction of every interval's mass that is its own width, so that none vanishes."""


class PiecewiseLinearCoupling(Fitted, Coupling):
    r"""Stretch intervals of a normal variable's distribution; see the module.

    .. math:: g = (1 - \epsilon) \, \mathrm{softmax}(\log f + \mathrm{conditioner}(x_p))
        + \epsilon f, \qquad \epsilon = 10^{-4}

    Args:
        mask: splits the input into its passive and active parts.
        conditioner: a network with ``components`` times the active channels as output.
        channels: channels of the active part.
        components: number of intervals.

    Attributes:
        edges: ``(components + 1,)`` buffer in float64, from 0 to 1: all intervals are of equal
            probability unless :meth:`fill` is given others.

    >>> from realnvp.bijections import ChannelMask
    >>> from realnvp.conditioners import MLP
    >>> net = MLP(1, 4, hidden=8, blocks=1)
    >>> layer = PiecewiseLinearCoupling(ChannelMask(), net, channels=1, components=4)
    >>> z, log_det = layer(torch.tensor([[1.0, 2.0]]))  # starts as the identity
    >>> torch.allclose(z, torch.tensor([[1.0, 2.0]])), log_det.abs().item() < 1e-5
    (True, True)
    """

    exact = ("edges",)

    edges: Tensor

    def __init__(
        self, mask: Mask, conditioner: nn.Module, channels: int, *, components: int = 8
    ) -> None:
        super().__init__(mask, conditioner, channels)
        self.components = components
        count, exact = components + 1, torch.float64
        edges = constant(lambda: torch.linspace(0, 1, count, dtype=exact), count, dtype=exact)
        self.register_buffer("edges", edges)

    @staticmethod
    def num_params(components: int = 8) -> int:
        return components

    def check_values(self) -> None:
        ends = self.edges[0].item(), self.edges[-1].item()
        if ends != (0, 1) or not (self.edges.diff() > 0).all():
            raise ValueError("edges must ascend from 0 to 1")

    def _widths(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-widths before and after, ``(B, components, C, ...)``."""
        batch, *rest = active.shape
        logits = parameters.reshape(batch, self.components, *rest)
        widths = self.edges.diff().log().to(logits.dtype)
        widths = widths.view(-1, *(1 for _ in rest)).expand_as(logits)
        masses = torch.log_softmax(widths + logits, dim=1) + math.log1p(-FLOOR)
        return widths, torch.logaddexp(masses, widths + math.log(FLOOR))

    def transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        widths, masses = self._widths(active, parameters)
        return _stretched(active, widths, masses)

    def inverse_transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        widths, masses = self._widths(active, parameters)
        return _stretched(active, masses, widths)


def _stretched(x: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Map normal scores from intervals of some log-widths to intervals of others.

    Args:
        x: ``(B, C, ...)`` scores.
        before: ``(B, K, C, ...)`` log-widths of the intervals in which they are.
        after: log-widths that these intervals get.

    Returns:
        scores, and the logarithms of the map's derivative.
    """
    # The last interval ends at 1, but by rounding may seem to end earlier.
    starts, ends = _starts(before), _starts(before.flip(1))
    k = (x.unsqueeze(1) >= _score_edges(starts, ends)).sum(1, keepdim=True)
    last = before.shape[1] - 1
    below = _log_probability(x, k, starts, before, after)
    above = _log_probability(-x, last - k, ends, before.flip(1), after.flip(1))
    # A probability close to 1 has few digits in floating point: use the smaller side.
    lower = below < above
    z = smooth_quantile(torch.where(lower, below, above))
    z = torch.where(lower, z, -z)
    slope = (after.gather(1, k) - before.gather(1, k))[:, 0]
    return z, slope + 0.5 * (z.square() - x.square())


def _starts(log_widths: Tensor) -> Tensor:
    """Return the probability below each interval."""
    widths = log_widths.exp()
    return torch.cat((torch.zeros_like(widths[:, :1]), widths.cumsum(1)[:, :-1]), dim=1)


def _score_edges(starts: Tensor, ends: Tensor) -> Tensor:
    """Return the scores between the intervals, ``(B, K - 1, C, ...)``, by both probabilities."""
    with torch.no_grad():
        below, above = starts[:, 1:], ends[:, 1:].flip(1)
        return torch.where(below < above, torch.special.ndtri(below), -torch.special.ndtri(above))


def _log_probability(x: Tensor, k: Tensor, starts: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Return the logarithm of the probability below scores in the k-th intervals, after the map."""
    start, width = starts.gather(1, k)[:, 0], before.gather(1, k)[:, 0]
    to, log_mass = _starts(after).gather(1, k)[:, 0], after.gather(1, k)[:, 0]
    first = k[:, 0] == 0
    log_p = smooth_log_cdf(x)
    place = ((torch.where(first, 0.5, log_p.exp()) - start) / width.exp()).clamp(0, 1)
    inner = (torch.where(first, 0.5, to) + log_mass.exp() * place).log()
    return torch.where(first, log_p + log_mass - width, inner)  # however far out in the tail
