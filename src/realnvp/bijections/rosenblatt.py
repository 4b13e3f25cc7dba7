r"""The flow starts as a Gaussian mixture that fits the data, instead of as a standard normal.

A flow of a few hundred rows has to learn everything from noise, correlations and clusters included,
unless it is told them. Any density is a flow by its conditional distribution functions (Rosenblatt,
Annals of Mathematical Statistics 23, 1952): :math:`z_i = \Phi^{-1}(F(x_i \mid x_1 \dots x_{i-1}))`
is standard normal and independent of the others. For a mixture of Gaussians these are mixtures of
Gaussians again, in closed form. With such a first layer couplings only learn what is left.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from realnvp.bijections.base import Bijection, sum_per_example
from realnvp.bijections.gaussian import gaussianize, invert_mixture

__all__ = ["Rosenblatt"]


class Rosenblatt(Bijection):
    r"""A fixed map that takes a mixture of K Gaussians to the standard normal.

    .. math::
        z_i = \Phi^{-1}\Big(\sum_k w_{ik} \Phi(u_{ki})\Big), \qquad
        u_k = L_k^{-1} (x - \mu_k), \qquad
        w_{ik} \propto \pi_k \prod_{j < i} \mathcal N(u_{kj}) / (L_k)_{jj}

    for the covariances :math:`L_k L_k^T`; the weights :math:`w_{ik}` are the components'
    probabilities given the columns before the i-th. A single Gaussian is whitened,
    :math:`z = L^{-1} (x - \mu)`: since :math:`L` is lower triangular, :math:`z_1` is still the
    first column, and columns keep their character, as they do not under a rotation.

    Args:
        means: :math:`\mu`, ``(K, D)``.
        factors: :math:`L`, ``(K, D, D)``, lower triangular with a positive diagonal. Identities if
            left out.
        weights: :math:`\pi`, ``(K,)``, positive, which add up to 1. Equal if left out.

    Raises:
        ValueError: if they are not such numbers.

    >>> layer = Rosenblatt(torch.tensor([[1.0, 0.0]]), torch.tensor([[[2.0, 0.0], [1.0, 1.0]]]))
    >>> z, log_det = layer(torch.tensor([[3.0, 2.0]]))
    >>> z, log_det  # -log 2
    (tensor([[1., 1.]]), tensor([-0.6931]))
    """

    term = "preprocessing"
    cheap_inverse = False

    means: Tensor
    factors: Tensor
    weights: Tensor

    def __init__(
        self, means: Tensor, factors: Tensor | None = None, weights: Tensor | None = None
    ) -> None:
        super().__init__()
        k, dim = means.shape
        if factors is None:
            factors = torch.eye(dim, dtype=means.dtype).repeat(k, 1, 1)
        weights = torch.full((k,), 1 / k, dtype=means.dtype) if weights is None else weights
        if factors.shape != (k, dim, dim) or weights.shape != (k,):
            raise ValueError(f"{k} means of {dim} columns need as many factors and weights")
        # without memory, as when sizes are compared before a model is loaded, there are no values
        if not means.is_meta:
            _check(means, factors, weights)
        self.register_buffer("means", means.clone())
        self.register_buffer("factors", factors.clone())
        self.register_buffer("weights", weights.clone())

    def _whitened(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """u, ``(K, B, D)``, and the diagonals of the factors, ``(K, 1, D)``."""
        centered = (x - self.means.unsqueeze(1)).mT
        u = torch.linalg.solve_triangular(self.factors, centered, upper=False).mT
        return u, self.factors.diagonal(dim1=1, dim2=2).unsqueeze(1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u, scale = self._whitened(x)
        if len(u) == 1:
            return u[0], -scale.log().sum().expand(len(x))
        log_terms = -0.5 * u.square() - scale.log()
        # Of the columns before the i-th; taking its own term off the whole sum would cancel.
        before = F.pad(log_terms[..., :-1].cumsum(-1), (1, 0))
        log_weight = (before + self.weights.log()[:, None, None]).log_softmax(0)
        mean, log_scale = x - u * scale, scale.log().expand_as(u)
        z, log_slope = gaussianize(x, *(t.movedim(0, -1) for t in (log_weight, mean, log_scale)))
        return z, sum_per_example(log_slope)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if len(self.means) == 1:
            log_det = self.factors[0].diagonal().log().sum()
            return z @ self.factors[0].T + self.means[0], log_det.expand(len(z))
        columns: list[Tensor] = []
        u = z.new_zeros(len(self.means), len(z), 0)
        log_weight = self.weights.log().expand(len(z), -1)
        log_det = z.new_zeros(len(z))
        for i in range(z.shape[1]):  # each column needs those before it
            scale = self.factors[:, i, i]
            mean = self.means[:, i] + (u @ self.factors[:, i, :i, None])[..., 0].T
            log_scale = scale.log().expand_as(mean)
            x, log_slope = invert_mixture(z[:, i], log_weight.log_softmax(-1), mean, log_scale)
            own = (x.unsqueeze(-1) - mean) / scale
            log_weight = log_weight - 0.5 * own.square() - scale.log()
            u = torch.cat((u, own.T.unsqueeze(-1)), dim=-1)
            log_det = log_det - log_slope
            columns.append(x)
        return torch.stack(columns, dim=1), log_det


def _check(means: Tensor, factors: Tensor, weights: Tensor) -> None:
    if not torch.equal(factors, factors.tril()):
        raise ValueError("the factors must be lower triangular")
    finite = all(torch.isfinite(t).all() for t in (means, factors, weights))
    positive = (factors.diagonal(dim1=1, dim2=2) > 0).all() and (weights > 0).all()
    if not (finite and positive):
        raise ValueError("a mixture needs finite numbers, positive weights and diagonals")
