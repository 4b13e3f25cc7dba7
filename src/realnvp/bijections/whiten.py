r"""Whitening: the flow starts as the Gaussian that fits the data, instead of as a standard normal.

A flow of a few hundred rows has to learn everything from noise, correlations included, unless it
is told them. With a linear layer that takes the data's covariance to the identity, the couplings
start from the best Gaussian, and only learn what is not Gaussian. The covariance of few rows is
itself uncertain, so it is shrunk towards the independent one, by as much as held-out rows like
best.
"""

from __future__ import annotations

import torch
from torch import Tensor

from realnvp.bijections.base import Bijection

__all__ = ["Whiten", "fit_gaussian"]

SHRINKAGES = (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
"""What is tried. The least one keeps the covariance of dependent columns invertible in float32."""

FOLDS = 5
"""Of the cross-validation that chooses."""


class Whiten(Bijection):
    r"""A fixed linear map that takes a Gaussian to the standard normal.

    .. math:: z = L^{-1} (x - \mu), \qquad \log |\det J| = -\sum_i \log L_{ii}

    for the covariance :math:`L L^T`. :math:`L` is lower triangular, so each :math:`z_i` is what
    the columns up to the i-th one have in it that those before it do not tell: :math:`z_1` is
    still the first column, and columns keep their character, as they do not under a rotation.

    Args:
        mean: :math:`\mu`, ``(D,)``.
        factor: :math:`L`, ``(D, D)``, lower triangular with a positive diagonal. The identity if
            left out.

    Raises:
        ValueError: if the factor is no such matrix, or something is not finite.

    >>> layer = Whiten(torch.tensor([1.0, 0.0]), torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    >>> z, log_det = layer(torch.tensor([[3.0, 2.0]]))
    >>> z, log_det  # -log 2
    (tensor([[1., 1.]]), tensor([-0.6931]))
    """

    term = "preprocessing"

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Tensor, factor: Tensor | None = None) -> None:
        super().__init__()
        factor = torch.eye(len(mean), dtype=mean.dtype) if factor is None else factor
        if factor.shape != (len(mean), len(mean)) or not torch.equal(factor, factor.tril()):
            raise ValueError(
                f"whitening needs a lower triangular factor of shape ({len(mean)}, {len(mean)})"
            )
        finite = torch.isfinite(mean).all() and torch.isfinite(factor).all()
        if not (finite and (factor.diagonal() > 0).all()):
            raise ValueError("whitening needs finite numbers, and a factor of positive diagonal")
        self.register_buffer("mean", mean.clone())
        self.register_buffer("factor", factor.clone())

    def _log_det(self, x: Tensor, sign: int) -> Tensor:
        return (sign * self.factor.diagonal().log().sum()).expand(len(x))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False).T
        return z, self._log_det(x, -1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z @ self.factor.T + self.mean, self._log_det(z, +1)


def fit_gaussian(x: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""The mean and the Cholesky factor of a shrunk covariance: what :class:`Whiten` takes.

    .. math:: \hat\Sigma = S\,\big((1 - \alpha) R + \alpha I\big)\,S

    with the deviations :math:`S` and the correlations :math:`R` of the data, and that
    :math:`\alpha` of :data:`SHRINKAGES` whose Gaussian gives held-out rows the largest mean
    log-likelihood.

    Args:
        x: ``(N, D)`` rows, N at least 2, each column with some variation.
        weights: ``(N,)`` of the rows, positive; equal if left out.

    Returns:
        ``(D,)`` and ``(D, D)``, in the type of ``x``.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 6.0], [0.0, 0.0], [2.0, 6.0]])
    >>> mean, factor = fit_gaussian(x)
    >>> mean, factor @ factor.T
    (tensor([1., 3.]), tensor([[1.0000, 3.0000], [3.0000, 9.0000]]))
    """
    rows = x.double()
    w = torch.ones_like(rows[:, 0]) if weights is None else weights.double()
    w = w / w.sum()
    mean = w @ rows
    deviation = (w @ (rows - mean).square()).sqrt().clamp(min=1e-12)
    rows = (rows - mean) / deviation
    folds = min(FOLDS, len(rows))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    alphas = rows.new_tensor(SHRINKAGES)[:, None]
    score = torch.zeros(len(SHRINKAGES), dtype=rows.dtype)
    for fold in range(folds):
        held = order[fold::folds]
        kept = torch.ones(len(rows), dtype=torch.bool)
        kept[held] = False
        center, correlation = _moments(rows[kept], w[kept])
        values, vectors = torch.linalg.eigh(correlation)
        # (1 - alpha) R + alpha I has the eigenvectors of R, whatever alpha is.
        variances = (1 - alphas) * values.clamp(min=0) + alphas
        square = w[held] @ ((rows[held] - center) @ vectors).square()
        score -= 0.5 * (square / variances + w[held].sum() * variances.log()).sum(1)
    alpha = alphas[int(score.argmax())]
    _, correlation = _moments(rows, w)
    shrunk = (1 - alpha) * correlation + alpha * torch.eye(x.shape[1], dtype=rows.dtype)
    factor = deviation[:, None] * torch.linalg.cholesky(shrunk)
    return mean.to(x.dtype), factor.to(x.dtype)


def _moments(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and covariance."""
    weights = weights / weights.sum()
    mean = weights @ rows
    centered = rows - mean
    return mean, centered.T @ (weights[:, None] * centered)
