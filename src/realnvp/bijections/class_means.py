r"""A prior with a mean per class: latents of each class are normal around their own mean.

If labels enter only here, and in no conditioner, the map is the same for all classes. So one pass
gives :math:`p(x \mid c)` of every class, the marginal density of images without labels, and the
class of an image by Bayes' rule (arXiv 1912.13025).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from realnvp.bijections.base import Bijection, full_precision, zero_log_det

__all__ = ["ClassMeans"]


class ClassMeans(Bijection):
    r"""Subtract the mean of the class, so that the latents of every class are standard normal.

    .. math:: z = x - c\, M, \qquad \log |\det J| = 0, \qquad
        p(z_x \mid c) = \mathcal N(z_x; M_c, I)

    with one-hot labels :math:`c` and learned means :math:`M`, which start at zero. As the last
    layer of a flow it is the class-conditional prior of arXiv 1912.13025 (section 3).

    Args:
        classes: number K of classes, or size of the condition.
        shape: shape of one example.

    >>> layer = ClassMeans(2, (3,))
    >>> torch.nn.init.constant_(layer.centers[1], 5.0).tolist()
    [5.0, 5.0, 5.0]
    >>> layer(torch.zeros(2, 3), torch.eye(2))[0].tolist()
    [[0.0, 0.0, 0.0], [-5.0, -5.0, -5.0]]
    """

    takes_condition = True

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.zeros(classes, *shape))

    def _mean(self, condition: Tensor | None) -> Tensor:
        if condition is None:
            raise ValueError("a prior with a mean per class needs the labels")
        with full_precision(condition):
            return torch.einsum("bk,k...->b...", condition, self.centers)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x - self._mean(condition), zero_log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z + self._mean(condition), zero_log_det(z)

    def log_ratios(self, x: Tensor) -> Tensor:
        r"""Return :math:`\log \mathcal N(x; M_k, I) - \log \mathcal N(x; 0, I)` of every class.

        Args:
            x: latents before the means are subtracted, ``(B, *shape)``.

        Returns:
            ``(B, K)``; its softmax is the probability of each class, if all are equally likely.
        """
        centers = self.centers.flatten(1)
        with full_precision(x):
            return x.flatten(1) @ centers.t() - 0.5 * centers.square().sum(1)
