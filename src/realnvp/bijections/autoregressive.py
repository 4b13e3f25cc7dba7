r"""An autoregressive layer: each column is transformed given those before it.

A coupling sees how two columns of the same half depend on each other only through the other half.
The chain rule needs no halves,

.. math:: p(x) = \prod_i p(x_i \mid x_1 \dots x_{i-1}),

and with mixtures as conditional densities a single layer can learn any density (arXiv 1605.02226,
arXiv 1705.07057). The density of a row takes one pass; the inverse computes column by column.

Networks that are trained from different weights make different errors, and the average of their
conditional densities is better than each alone: an ensemble (arXiv 1612.01474), which is a mixture
again. In training each network learns for itself: the loss is the mean of theirs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from realnvp.bijections.base import Bijection
from realnvp.bijections.gaussian_mixture import (
    GaussianMixtureCoupling,
    Mixture,
    examples_last,
    gaussianize,
    invert_mixture,
    log_normal,
)

__all__ = ["Autoregressive"]


class Autoregressive(Bijection):
    r"""Make each column normal: a Gaussian mixture given the columns before it.

    .. math:: z_i = f(x_i; \theta_i(x_1 \dots x_{i-1})), \qquad
        \log |\det J| = \sum_i \log f'(x_i; \theta_i)

    The mixture is the average of those of several networks, if there are. In training mode
    ``log_det`` is that with which the density is their geometric mean instead.

    Args:
        coupling: its elementwise map is :math:`f`, and its conditioner :math:`\theta`, a
            :class:`realnvp.conditioners.ColumnMLPs` of all columns. Its mask is not used.

    >>> from realnvp.bijections import ChannelMask
    >>> from realnvp.conditioners import ColumnMLPs
    >>> nets = ColumnMLPs(3, 3 * 8 * 3, hidden=8, blocks=1, networks=2)
    >>> layer = Autoregressive(GaussianMixtureCoupling(ChannelMask(), nets, channels=3)).eval()
    >>> x = torch.tensor([[0.5, -1.0, 2.0]])
    >>> z, log_det = layer(x)
    >>> bool((layer.inverse(z)[0] - x).abs().max() < 1e-5)
    True
    """

    has_analytic_inverse = False

    def __init__(self, coupling: GaussianMixtureCoupling) -> None:
        super().__init__()
        self.coupling = coupling

    def _mixtures(self, parameters: Tensor) -> Mixture:
        """Return each network's mixtures, log-weights, means and log-scales ``(K, M, D, B)``."""
        sizes = self.coupling.conditioner.networks, -1
        log_weight, mean, log_scale = (
            each.unflatten(1, sizes) for each in self.coupling.mixture(parameters)
        )
        return log_weight, mean, log_scale

    def _average(self, parameters: Tensor) -> Mixture:
        """Return the average of the networks' mixtures, ``(K * M, D, B)``."""
        log_weight, mean, log_scale = self._mixtures(parameters)
        log_weight = log_weight - math.log(log_weight.shape[1])
        return log_weight.flatten(0, 1), mean.flatten(0, 1), log_scale.flatten(0, 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        parameters, x = self.coupling.conditioner(x, condition), examples_last(x)
        if not self.training:
            z, log_grad = gaussianize(x, *self._average(parameters))
            return z.T, log_grad.sum(0)
        mixtures = self._mixtures(parameters)
        z, log_grad = gaussianize(x.expand(mixtures[0].shape[1:]), *mixtures)
        log_p = (log_normal(z) + log_grad).mean(0)
        return z[0].T, (log_p - log_normal(z[0])).sum(0)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        columns: list[Tensor] = []
        log_det = z.new_zeros(z.shape[0])
        for i in range(z.shape[1]):  # each column needs those before it
            before = torch.cat((*columns, torch.zeros_like(z[:, i:])), dim=1)
            parameters = self.coupling.conditioner(before, condition, column=i)
            x, log_grad = invert_mixture(examples_last(z[:, i : i + 1]), *self._average(parameters))
            columns.append(x.T)
            log_det = log_det - log_grad[0]
        return torch.cat(columns, dim=1), log_det
