r"""Mixture-of-logistics couplings, which reshape a marginal instead of only scaling it.

An affine map of a uniform density (a black pixel after dequantization) is still uniform, and costs
:math:`\log_2 \sqrt{2 \pi e / 12} = 0.254` bits against the normal prior, however long one trains.
The cumulative distribution of a mixture can bend it into shape (Flow++, arXiv 1902.00275).
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from realnvp.bijections.base import check_exponent, constant
from realnvp.bijections.coupling import Coupling, Mask
from realnvp.bijections.root_finding import find_root, implicit_inverse

__all__ = ["LogisticMixtureCoupling"]


class LogisticMixtureCoupling(Coupling):
    r"""Map by the logit of a logistic mixture's CDF, then affinely (arXiv 1902.00275, section 3.2).

    .. math::
        z_a = \exp(s) \odot \mathrm{logit}\Big(\sum_k \pi_k\,
        \sigma\big((x_a - \mu_k) e^{-\tau_k}\big)\Big) + t

    where :math:`s, t, \pi, \mu, \tau` come from the conditioner. The CDF, its complement and its
    density are computed in log space, so that far tails are exact; the inverse is found to the
    precision of the type by :mod:`realnvp.bijections.root_finding`. Zero parameters give the
    identity: all components are then the standard logistic. Learned factors on the mean and the
    scale of each component keep the components from having equal gradients forever.

    Args:
        mask: splits the input into its passive and active parts.
        conditioner: a network with ``2 + 3 * components`` times the active channels as output.
        channels: channels of the active part.
        components: number of logistics.

    >>> from realnvp.bijections import ChannelMask
    >>> from realnvp.conditioners import MLP
    >>> net = MLP(1, 2 + 3 * 4, hidden=8, blocks=1)
    >>> layer = LogisticMixtureCoupling(ChannelMask(), net, channels=1, components=4)
    >>> z, log_det = layer(torch.tensor([[1.0, 2.0]]))  # starts as the identity
    >>> torch.allclose(z, torch.tensor([[1.0, 2.0]])), log_det.abs().item() < 1e-5
    (True, True)
    """

    has_analytic_inverse = False

    def __init__(
        self, mask: Mask, conditioner: nn.Module, channels: int, *, components: int = 4
    ) -> None:
        super().__init__(mask, conditioner, channels)
        self.components = components
        self.scale = nn.Parameter(torch.ones(channels))
        sizes = channels, components
        spread = partial(torch.linspace, 0.25, 1.75, components)
        self.mean_factor = nn.Parameter(constant(spread, *sizes))
        self.scale_factor = nn.Parameter(constant(lambda: spread().flip(0), *sizes))

    @staticmethod
    def num_params(components: int = 4) -> int:
        return 2 + 3 * components

    def check_values(self) -> None:
        check_exponent("scale", self.scale)

    def _unpack(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, ...]:
        """Log-scale and shift, of the active part's shape; the mixture's with a component axis."""
        batch, channels, *space = active.shape
        shape = (batch, self.num_params(self.components), channels, *space)
        parameters = parameters.reshape(shape)
        ones = [1] * len(space)
        log_scale = self.scale.view(-1, *ones) * torch.tanh(parameters[:, 0])
        shift = parameters[:, 1]
        weights, means, scales = parameters[:, 2:].chunk(3, dim=1)
        factors = (self.components, channels, *ones)
        means = means * self.mean_factor.t().reshape(factors)
        # A smooth bound keeps the narrowest component at exp(-5) of the widest marginal.
        scales = 5 * torch.tanh(scales * self.scale_factor.t().reshape(factors) / 5)
        return log_scale, shift, torch.log_softmax(weights, dim=1), means, scales

    def transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift, *mixture = self._unpack(active, parameters)
        value, log_grad = _logit_cdf(active, *mixture)
        return value * torch.exp(log_scale) + shift, log_grad + log_scale

    def inverse_transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift, *mixture = self._unpack(active, parameters)
        target = (active - shift) * torch.exp(-log_scale)
        x = implicit_inverse(_logit_cdf, _inverse_logit_cdf, target, tuple(mixture))
        _, log_grad = _logit_cdf(x, *mixture)
        return x, -log_grad - log_scale

    def penalty(self) -> Tensor:
        return self.scale.square().sum()


def _logit_cdf(
    x: Tensor, log_weights: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the logit of the mixture's CDF at ``x``, and the logarithm of its derivative."""
    w = (x.unsqueeze(1) - means) * torch.exp(-log_scales)
    below, above = F.logsigmoid(w), F.logsigmoid(-w)
    log_cdf = torch.logsumexp(log_weights + below, dim=1)
    log_rest = torch.logsumexp(log_weights + above, dim=1)
    log_density = torch.logsumexp(log_weights + below + above - log_scales, dim=1)
    return log_cdf - log_rest, log_density - log_cdf - log_rest


def _inverse_logit_cdf(
    target: Tensor, log_weights: Tensor, means: Tensor, log_scales: Tensor
) -> Tensor:
    """Return the point where the logit of the CDF is ``target``.

    It lies between the points where the logits of the single components equal the target.
    """
    # The components are the first axis, and the elements the last.
    log_weight, mean, scale = (
        t.movedim(1, 0).flatten(1) for t in (log_weights, means, log_scales.exp())
    )
    weight = log_weight.exp()
    goal = target.flatten()
    quantiles = mean + scale * goal
    # The quantile of the logistic with the mixture's mean and variance.
    center = (weight * mean).sum(0)
    spread = (weight * (scale.square() + (mean - center).square() * 3 / math.pi**2)).sum(0).sqrt()
    low, high, start = quantiles.amin(0), quantiles.amax(0), center + spread * goal
    rate = 1 / scale
    x = find_root(
        _logit, goal, low, high, start, (weight, mean, rate),
        far=_far_logit, far_parameters=(log_weight, mean, rate),
        limit=LARGEST_LOGIT[target.dtype],
    )  # fmt: skip
    return x.view_as(target)


LARGEST_LOGIT = {torch.float32: 80.0, torch.float64: 700.0}
"""Largest argument at which the probability of a tail, and its density, are normal numbers."""


def _logit(x: Tensor, weight: Tensor, mean: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logit of the CDF with its derivatives: ``x (N,)``, parameters ``(K, N)``."""
    u = (x - mean) * rate
    below, above = torch.sigmoid(u), torch.sigmoid(-u)
    cdf, rest = (weight * below).sum(0), (weight * above).sum(0)
    terms = weight * below * above * rate
    density = terms.sum(0)
    slope = density / (cdf * rest)
    log_grad = (terms * rate * (above - below)).sum(0) / density
    return cdf.log() - rest.log(), slope, log_grad + slope * (cdf - rest)


def _far_logit(
    x: Tensor, log_weight: Tensor, mean: Tensor, rate: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the same in log space, where neither a probability nor a weight is too small."""
    u = (x - mean) * rate
    below, above = F.logsigmoid(u), F.logsigmoid(-u)
    log_cdf, log_rest = (log_weight + below).logsumexp(0), (log_weight + above).logsumexp(0)
    terms = torch.exp(log_weight + below + above - log_cdf - log_rest) * rate
    slope = terms.sum(0)
    log_grad = (terms * rate * (above.exp() - below.exp())).sum(0) / slope
    return log_cdf - log_rest, slope, log_grad + slope * (log_cdf.exp() - log_rest.exp())
