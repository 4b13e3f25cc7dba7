r"""Variational dequantization: noise that a flow learns, instead of uniform noise.

Uniform noise asks the model to be flat on every unit cube, and falling off at its walls, which a
smooth map can only approach. A noise :math:`q(u | x)` that fits the model makes the bound tight
(Flow++, arXiv 1902.00275, section 3.1):

.. math:: \log P(x) \ge E_{u \sim q(u | x)}[\log p(x + u) - \log q(u | x)].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from realnvp.bijections.base import Bijection, sum_per_example
from realnvp.bijections.preprocess import Dequantize

__all__ = ["VariationalDequantize"]


class VariationalDequantize(Dequantize):
    r"""Make ``levels`` integers continuous with learned noise: :math:`v = (x + u) / K`.

    .. math::
        u = \Phi(g(\epsilon; h(x))), \quad \epsilon \sim \mathcal N(0, I), \qquad
        \mathrm{log\_det} = -D \log K - \log q(u | x)

    where :math:`g` is a flow on the noise that is conditioned on features :math:`h(x)` of the
    image, and :math:`\Phi` the normal CDF, so that a :math:`g` that is the identity gives uniform
    noise: it starts as :class:`Dequantize`. The entropy of the noise is part of the returned
    log-determinant, so the mean log-probability is the bound above, and importance weights over
    several draws tighten it with :math:`q` as the proposal. Its inverse is that of
    :class:`Dequantize`.

    Args:
        levels: number :math:`K` of grey levels.
        features: a network from the image, scaled to [-1, 1], ``(B, C, H, W)``, and the condition
            to features ``(B, F, H, W)``.
        noise: a bijection of the image's shape, conditioned on the features.

    >>> from realnvp.bijections import Chain
    >>> layer = VariationalDequantize(4, lambda x, c: x, Chain())
    >>> v, log_det = layer(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    >>> bool((v < 0.25).all()), round(log_det.item(), 4)  # uniform: -4 log 4
    (True, -5.5452)
    """

    def __init__(self, levels: int, features: nn.Module, noise: Bijection) -> None:
        super().__init__(levels)
        self.features = features
        self.noise = noise

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        dtype = self._one.dtype
        normal = self._normal(x)
        scaled = x.to(dtype) * (2 / (self.levels - 1)) - 1
        z, log_det = self.noise(normal, self.features(scaled, condition))
        # log q(u | x) = log N(eps) - log |dz/d eps| - log N(z): the constants cancel.
        log_q = sum_per_example(z.square() - normal.square()) / 2 - log_det
        u = 0.5 * torch.special.erfc(z * -math.sqrt(0.5))
        if self.margin:
            u = self.margin + (1 - 2 * self.margin) * u
        return (x.to(dtype) + u) / self.levels, self._log_det(x, -1) - log_q
