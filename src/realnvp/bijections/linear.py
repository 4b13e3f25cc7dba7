r"""An invertible linear layer, which mixes all variables."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from realnvp.bijections.base import (
    Bijection,
    check_channels,
    check_exponent,
    full_precision,
    spread_log_det,
)

__all__ = ["InvertibleLinear"]


class InvertibleLinear(Bijection):
    r"""A learned matrix over channels or columns, as L times U (arXiv 1807.03039, section 3.2).

    .. math:: z = L U x, \qquad \log |\det J| = H W \sum_c \log |u_{cc}|

    with :math:`L` unit lower and :math:`U` upper triangular, whose diagonal is
    :math:`u_{cc} = \exp(s_c)`. On images ``(B, C, H, W)`` it is a 1x1 convolution, on vectors
    ``(B, C)`` a matrix product. It starts as the identity.

    Args:
        channels: channels of an image, or columns of a vector.

    >>> InvertibleLinear(2)(torch.tensor([[1.0, 2.0]]))[0].tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.triangles = nn.Parameter(torch.zeros(channels, channels))
        self.log_diagonal = nn.Parameter(torch.zeros(channels))

    def check_values(self) -> None:
        check_exponent("log_diagonal", self.log_diagonal)

    def _factors(self) -> tuple[Tensor, Tensor]:
        lower = self.triangles.tril(-1) + torch.diag(torch.ones_like(self.log_diagonal))
        upper = self.triangles.triu(1) + torch.diag(self.log_diagonal.exp())
        return lower, upper

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels(len(self.log_diagonal), x)
        with full_precision(x):
            lower, upper = self._factors()
            z = torch.einsum("ij,bj...->bi...", lower @ upper, x)
        return z, spread_log_det(self.log_diagonal, x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels(len(self.log_diagonal), z)
        with full_precision(z):
            lower, upper = self._factors()
            # Once for all pixels: solving for each of them takes four to ten times as long.
            one = torch.diag(torch.ones_like(self.log_diagonal))
            matrix = torch.linalg.solve_triangular(lower, one, upper=False, unitriangular=True)
            matrix = torch.linalg.solve_triangular(upper, matrix, upper=True)
            x = torch.einsum("ij,bj...->bi...", matrix, z)
        return x, spread_log_det(-self.log_diagonal, z)
