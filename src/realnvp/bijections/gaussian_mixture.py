r"""The coupling that makes Gaussian mixtures standard normal.

The affine coupling of Real NVP is exact where :math:`x_a` given :math:`x_p` is Gaussian: it
subtracts a mean and divides by a standard deviation. The same holds for a *mixture* of Gaussians,
if the map is the mixture's distribution function followed by the normal's quantile function:

.. math:: z = \Phi^{-1}\Big(\sum_k \pi_k \, \Phi\big((x - \mu_k) / s_k\big)\Big)

With one component it is the affine coupling. With several, a single coupling separates modes, for
which affine couplings need many layers, and still leave bridges of density between the modes.
Flow++ does this with logistic mixtures (arXiv 1902.00275, section 3.2.1), Gaussianization flows
with normal quantiles (arXiv 2003.01941). :class:`GaussianMixtureCoupling` is that coupling.

**Tails.** In floating point, :math:`\Phi` of a far point is 0 or 1. So everything is computed on
the side of the median where the probability is smaller, and as its logarithm: the map is exact, and
close to linear, however far away the point.

**The inverse** has no closed form, and is found by :mod:`realnvp.bijections.root_finding`. The
search evaluates a cheaper form of the map: with the upper half reflected, the probability is that
of the lower tail, which ``erfc`` gives exactly until it underflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from realnvp.bijections.base import constant
from realnvp.bijections.coupling import Coupling, Mask
from realnvp.bijections.root_finding import find_root, implicit_inverse
from realnvp.utils.tracing import is_transformed

__all__ = [
    "GaussianMixtureCoupling",
    "gaussianize",
    "invert_mixture",
    "log_normal",
    "normal_quantile",
    "smooth_log_cdf",
    "smooth_quantile",
]

FLOOR = 1e-4
"""Weight of a standard normal that is part of every coupling's mixture: the map stays invertible in
float32 between far narrow components, and no density vanishes."""


LARGEST_LOG_SCALE = 4.0
"""Smooth bound on how far the logarithm of a standard deviation moves from its start."""


HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log_normal(z: Tensor) -> Tensor:
    """Return the logarithm of the standard normal density."""
    return -0.5 * z.square() - HALF_LOG_2PI


def normal_quantile(log_p: Tensor) -> Tensor:
    r"""Return :math:`\Phi^{-1}(e^{\log p})` for :math:`\log p \le 0`, however small.

    Not differentiable: it is only called where no gradient is recorded.
    """
    log_p = log_p.clamp(min=-0.25 * torch.finfo(log_p.dtype).max)  # so that doubling is finite
    near = torch.special.ndtri(log_p.clamp(min=-80.0).exp())
    # Far out, log Phi(z) = -z^2/2 - log(-z sqrt(2 pi)) + log(1 - 1/z^2 + 3/z^4 - ...): iterate to
    # z^2, by the expansion of that last logarithm.
    far = log_p.clamp(max=-80.0)
    square = -2 * far - 2 * HALF_LOG_2PI
    start = square
    for _ in range(3):
        square = start - square.log() - 2 / square + 5 / square.square()
    z = torch.where(log_p > -80.0, near, -square.sqrt())
    # One step of Newton's method on log Phi(z) = log p: both starts are good to a few digits.
    log_cdf = torch.special.log_ndtr(z)
    # Above the median, where nothing calls it, the step is shorter than Newton's, but finite.
    return z - (log_cdf - log_p) * _mills_ratio(z, log_cdf)[0].clamp(max=math.e)


def _mills_ratio(z: Tensor, log_cdf: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return :math:`h = \Phi(z) / \varphi(z)`, and its derivative :math:`1 + z h`.

    It is the derivative of the quantile with respect to :math:`\log p`.
    """
    near = torch.exp(log_cdf + 0.5 * z.square() + HALF_LOG_2PI)
    # Far out, the difference of logarithms is only rounding, and the asymptotic series exact.
    far = z < FAR[z.dtype]
    inverse = 1 / z.clamp(max=-1.0).square()
    slope = inverse * (1 - inverse * (3 - 15 * inverse))
    ratio = torch.where(far, (slope - 1) / z.clamp(max=-1.0), near)
    return ratio, torch.where(far, slope, 1 + z * near)


FAR = {torch.float32: -10.0, torch.float64: -60.0}
"""Where :func:`_mills_ratio` changes to the series, whose error is then below the rounding's."""


def smooth_quantile(log_p: Tensor) -> Tensor:
    r"""Return :func:`normal_quantile` with its derivatives, up to the third.

    They are :math:`h`, :math:`h q` and :math:`h (2 q^2 - q + h^2)`, with :math:`q = 1 + z h`, and
    this is the Taylor polynomial that has them.
    """
    z = normal_quantile(log_p.detach())
    if not _is_differentiated(log_p):
        return z
    h, q = _mills_ratio(z, torch.special.log_ndtr(z))
    step = log_p - log_p.detach()  # zero
    return z + step * h * (1 + step / 2 * (q + step / 3 * (2 * q.square() - q + h.square())))


def smooth_log_cdf(z: Tensor) -> Tensor:
    r"""Return :math:`\log \Phi(z)` with its derivatives, up to the third.

    PyTorch's own gradient of ``log_ndtr`` is off by a factor of 6 at -10,000 in float32, and zero
    farther out. This is a Taylor polynomial, as in :func:`smooth_quantile`.
    """
    at = z.detach()
    log_cdf = torch.special.log_ndtr(at)
    if not _is_differentiated(z):
        return log_cdf
    h, q = _mills_ratio(at, log_cdf)
    r = 1 / h
    second = torch.where(at < 0, -q * r.square(), -r * (at + r))
    third = -second * (at + r) - r * (1 + second)
    step = z - at  # zero
    return log_cdf + step * (r + step / 2 * (second + step / 3 * third))


def _is_differentiated(x: Tensor) -> bool:
    return is_transformed() or (torch.is_grad_enabled() and x.requires_grad)


Gaussianized = tuple[Tensor, Tensor, Tensor, Tensor]
"""``z``, the log-density of x, and the derivatives of the log-density and of ``z`` with respect to
the logarithms of the weights, ``(K, ...)``."""


Mixture = tuple[Tensor, Tensor, Tensor]
"""Logarithms of the weights, means and logarithms of the standard deviations, each ``(K, ...)``."""


def _by_logarithms(x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Gaussianized:
    """Gaussianize in log space, where no probability is too small."""
    log_terms, side, log_tails = _terms(x, log_weight, mean, log_scale)
    log_density = log_terms.logsumexp(0)
    z = side * normal_quantile(log_tails.logsumexp(0))
    return (
        z,
        log_density,
        torch.exp(log_terms - log_density),
        side * torch.exp(log_tails - log_normal(z)),
    )


def _terms(
    x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logarithms of the components' densities and smaller tails, times their weights.

    The second of three results is the side of that tail: 1 below the median, -1 above.
    """
    u = (x - mean) / log_scale.exp()
    log_terms = log_weight - log_scale - 0.5 * u.square() - HALF_LOG_2PI
    # Which side of the median? The sum of pi erf(u / sqrt 2) is 2 cdf - 1.
    above = (log_weight.exp() * torch.erf(u * math.sqrt(0.5))).sum(0) > 0
    side = 1.0 - 2.0 * above.to(x.dtype)
    return log_terms, side, log_weight + smooth_log_cdf(side * u)


def _by_probabilities(
    x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor
) -> Gaussianized:
    """Do the same with the probabilities themselves, and in log space where they vanish.

    Several times as fast on CPUs, whose ``log_ndtr`` is slow.
    """
    weight, rate = log_weight.exp(), torch.exp(-log_scale)
    u = (x - mean).mul_(rate)
    terms = u.square().mul_(-0.5).exp_().mul_(rate).mul_(weight)
    density = terms.sum(0)
    # The smaller tail of each component; the other one is its complement. Selected by arithmetic,
    # which is faster than by conditions, and exact: what is added to a small tail is zero.
    tails = torch.erfc(u.abs().mul_(math.sqrt(0.5))).mul_(weight).mul_(0.5)
    rest = weight.sub_(tails, alpha=2)
    sign = u.sign_()
    lower = torch.addcmul(tails, sign.mul(0.5).add_(0.5), rest).sum(0)
    side = 1.0 - 2.0 * (lower > 0.5).to(x.dtype)
    tails.addcmul_(sign.mul_(0.5 * side).add_(0.5), rest)
    p = tails.sum(0)
    z = torch.special.ndtri(p.clamp(max=0.75)).mul_(side)
    log_density = density.log() - HALF_LOG_2PI
    inverse = torch.exp(0.5 * z.square() + HALF_LOG_2PI).mul_(side)  # of the normal's density
    ratio = tails.mul_(inverse)
    fraction = terms.div_(density)
    small = SMALLEST * torch.finfo(x.dtype).tiny
    far = ~((p > small) & (density > small) & (density < 1 / small))
    if far.any():
        values = x[far], *(t.expand_as(u)[:, far] for t in (log_weight, mean, log_scale))
        z[far], log_density[far], fraction[:, far], ratio[:, far] = _by_logarithms(*values)
    return z, log_density, fraction, ratio


SMALLEST = 1e8
"""Probabilities and densities above this multiple of the smallest normal number are exact."""


class _GaussianizeMixture(torch.autograd.Function):
    """``x (...)``, log-weights, means and log-scales ``(K, ...)`` -> ``z``, log-density of x.

    Written by hand because the gradients are far simpler than those that autograd derives from the
    forward pass, and finite further out in the tails. The backward pass is a differentiable
    function of the inputs and outputs, so derivatives of any order are correct.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        # On other devices log_ndtr is fast, and looking for far points would wait for the device;
        # while a graph is compiled or exported, there are no values to look at.
        fast = x.device.type == "cpu" and not torch.compiler.is_compiling()
        by = _by_probabilities if fast else _by_logarithms
        z, log_density, fraction, ratio = by(x, log_weight, mean, log_scale)
        ctx.save_for_backward(x, log_weight, mean, log_scale, z, log_density, fraction, ratio)
        return z, log_density

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_log_density: Tensor) -> tuple[Tensor, ...]:
        x, log_weight, mean, log_scale, z, log_density, fraction, ratio = ctx.saved_tensors
        rate = torch.exp(-log_scale)
        u = (x - mean) * rate
        log_phi = log_normal(z)
        if torch.is_grad_enabled():  # to be differentiated again: nothing may be a constant
            side = 1.0 - 2.0 * (z > 0).to(x.dtype)
            log_terms = log_weight - log_scale - 0.5 * u.square() - HALF_LOG_2PI
            fraction = torch.exp(log_terms - log_density)
            log_tails = log_weight + smooth_log_cdf(side * u)
            ratio = side * torch.exp(log_tails - log_phi)
        along = grad_z * torch.exp(log_density - log_phi)
        by_density = fraction * grad_log_density
        grad_u = by_density * u - fraction * along / rate
        grad_mean = grad_u * rate
        return (
            -grad_mean.sum(0),
            by_density + ratio * grad_z,
            grad_mean,
            grad_u * u - by_density,
        )


def _by_autograd(
    x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``z`` and the log-density of x by operations that every transform supports."""
    log_terms, side, log_tails = _terms(x, log_weight, mean, log_scale)
    return side * smooth_quantile(log_tails.logsumexp(0)), log_terms.logsumexp(0)


class GaussianMixtureCoupling(Coupling):
    r"""Map active variables, a Gaussian mixture given the passive ones, to normal variables.

    .. math::
        z = \Phi^{-1}\Big(\sum_k \pi_k \Phi\big((x_a - \mu_k) / s_k\big)\Big), \qquad
        \log |\det J| = \sum \log p_{\mathrm{mix}}(x_a) - \log \mathcal N(z)

    where :math:`\pi, \mu, s` come from the conditioner (after arXiv 1902.00275, section 3.2, and
    arXiv 2003.01941). With zero parameters the components are spread so that they add up to nearly
    a standard normal: on [-2, 2] the map starts within 0.02 of the identity with up to 8 of them,
    and within 0.05 with more.

    Args:
        mask: splits the input into its passive and active parts.
        conditioner: a network with ``3 * components`` times the active channels as output.
        channels: channels of the active part.
        components: number of Gaussians.

    >>> from realnvp.bijections import ChannelMask
    >>> from realnvp.conditioners import MLP
    >>> net = MLP(1, 3 * 8, hidden=8, blocks=1)
    >>> layer = GaussianMixtureCoupling(ChannelMask(), net, channels=1, components=8)
    >>> z, log_det = layer(torch.tensor([[1.0, 2.0]]))
    >>> bool((z - torch.tensor([[1.0, 2.0]])).abs().max() < 0.02)
    True
    """

    has_analytic_inverse = False

    start: Tensor

    def __init__(
        self, mask: Mask, conditioner: nn.Module, channels: int, *, components: int = 8
    ) -> None:
        super().__init__(mask, conditioner, channels)
        self.components = components
        start = constant(lambda: self._start(components), 3, components)
        self.register_buffer("start", start, persistent=False)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> GaussianMixtureCoupling:
        was_meta = self.start.is_meta
        super()._apply(fn, recurse)
        if was_meta and not self.start.is_meta:  # no file has the values, which are constants
            self.start.copy_(self._start(self.components))
        return self

    @staticmethod
    def _start(components: int) -> Tensor:
        """Return the initial log-weights, means and log-scales of the mixture: ``(3, K)``."""
        # A few are wide, with the total variance of a normal; more divide its range among
        # themselves.
        few = components < 6
        spread = 0.5 if few else 2.8 * (components - 1) / components
        means = torch.linspace(-spread, spread, components) if components > 1 else torch.zeros(1)
        # Their mean square in closed form.
        variance = spread**2 * (components + 1) / (3 * (components - 1)) if components > 1 else 0.0
        scale = math.sqrt(1 - variance) if few else 0.87 * 5.6 / components
        weights = 0 * means if few else -0.5 * means.square() / (1 - scale**2)
        return torch.stack((weights, means, torch.full_like(means, math.log(scale))))

    @staticmethod
    def num_params(components: int = 8) -> int:
        return 3 * components

    def mixture(self, parameters: Tensor) -> Mixture:
        """Return log-weights, means and log-scales, each ``(K + 1, C, ..., B)``.

        With the examples last, sums over the components are sums of whole rows, which are fast.
        """
        raw = examples_last(parameters).unflatten(0, (3, self.components, -1))
        start = self.start.view(3, -1, *(1 for _ in range(raw.ndim - 2)))
        log_weight = (raw[0] + start[0]).log_softmax(0) + math.log1p(-FLOOR)
        mean, log_scale = raw[1] + start[1], _bounded(raw[2]) + start[2]
        standard = log_weight.new_zeros(1).expand(1, *log_weight.shape[1:])
        return (
            torch.cat((log_weight, standard + math.log(FLOOR))),
            torch.cat((mean, standard)),
            torch.cat((log_scale, standard)),
        )

    def transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        z, log_grad = gaussianize(examples_last(active), *self.mixture(parameters))
        return z.movedim(-1, 0), log_grad.movedim(-1, 0)

    def inverse_transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        x, log_grad = invert_mixture(examples_last(active), *self.mixture(parameters))
        return x.movedim(-1, 0), -log_grad.movedim(-1, 0)


def examples_last(x: Tensor) -> Tensor:
    """Return ``(B, C, ...)`` as ``(C, ..., B)``, contiguous."""
    return x.movedim(0, -1).contiguous()


def _bounded(log_scale: Tensor) -> Tensor:
    """Return ``L tanh(log_scale / L)`` for :data:`LARGEST_LOG_SCALE`.

    It is computed by the sigmoid, which takes a third of the time.
    """
    bound = LARGEST_LOG_SCALE
    return 2 * bound * torch.sigmoid(2 / bound * log_scale) - bound


def gaussianize(
    x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Map a Gaussian mixture to the standard normal, elementwise.

    Args:
        x: values, ``(...)``.
        log_weight: logarithms of the weights, whose sum is 1, ``(K, ...)``.
        mean: means of the components, ``(K, ...)``.
        log_scale: logarithms of their standard deviations, ``(K, ...)``.

    Returns:
        z and log dz/dx, each ``(...)``; differentiable to any order.
    """
    apply = _by_autograd if is_transformed() else _GaussianizeMixture.apply
    z, log_density = apply(x, log_weight, mean, log_scale)
    return z, log_density + 0.5 * z.square() + HALF_LOG_2PI


def invert_mixture(
    z: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the inverse of :func:`gaussianize`: x, and log dz/dx (not dx/dz) there."""
    mixture = log_weight, mean, log_scale
    x = implicit_inverse(gaussianize, _quantile, z, mixture)
    return x, gaussianize(x, *mixture)[1]


def _quantile(z: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the mixture's quantile, which is between its components' quantiles."""
    # With the upper half reflected, the probability up to z is at most a half, and so exact.
    side = torch.where(z > 0, -1.0, 1.0).to(z.dtype).flatten()
    target = -z.abs().flatten()
    log_weight, mean, scale = (
        t.reshape(t.shape[0], side.shape[0]) for t in (log_weight, mean, log_scale.exp())
    )
    weight = log_weight.exp()
    mean = mean * side
    quantiles = mean + scale * target
    low, high = quantiles.amin(0), quantiles.amax(0)
    # The quantile of the normal with the mixture's mean and variance.
    center = (weight * mean).sum(0)
    start = center + (weight * (scale.square() + (mean - center).square())).sum(0).sqrt() * target
    rate = math.sqrt(0.5) / scale
    x = find_root(
        _probit, target, low, high, start, (weight, mean, rate),
        far=_far_probit, far_parameters=(log_weight, mean, rate),
        limit=LARGEST_PROBIT[target.dtype],
    )  # fmt: skip
    return (side * x).view_as(z)


LARGEST_PROBIT = {torch.float32: 12.0, torch.float64: 36.0}
"""Largest argument at which the probability of a tail, and its density, are normal numbers."""


def _probit(x: Tensor, weight: Tensor, mean: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normal quantile of the mixture's CDF, with its derivatives for the search.

    Args:
        x: ``(N,)``.
        weight: weights, ``(K, N)``.
        mean: means, ``(K, N)``.
        rate: inverses of the standard deviations times the square root of 2, ``(K, N)``.
    """
    u = (mean - x).mul_(rate)
    p = 0.5 * (weight * torch.erfc(u)).sum(0)
    terms = u.square().neg_().exp_().mul_(rate).mul_(weight)
    total = terms.sum(0)
    log_grad = 2 * terms.mul_(u).mul_(rate).sum(0) / total  # of the density
    z = torch.special.ndtri(p.clamp(max=1 - torch.finfo(p.dtype).eps))
    slope = math.sqrt(2) * total * torch.exp(0.5 * z.square())
    return z, slope, log_grad + z * slope


def _far_probit(
    x: Tensor, log_weight: Tensor, mean: Tensor, rate: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the same in log space, where neither a probability nor a weight is too small."""
    u = (mean - x) * rate
    z = normal_quantile((log_weight + torch.special.log_ndtr(-math.sqrt(2) * u)).logsumexp(0))
    log_terms = log_weight + rate.log() - u.square()
    slope = math.sqrt(2) * torch.exp(log_terms.logsumexp(0) + 0.5 * z.square())
    log_grad = 2 * (log_terms.softmax(0) * u * rate).sum(0)
    return z, slope, log_grad + z * slope
