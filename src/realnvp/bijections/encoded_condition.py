r"""Features of a numeric condition: a piecewise-linear encoding by its quantiles.

A network of a few hundred steps is nearly linear in each of its inputs, and learns little of what
happens within a narrow range of them, or far out. In a piecewise-linear encoding (arXiv 2203.05556,
section 3.2.1), each number :math:`c` gets a feature for each interval between its quantiles
:math:`q_0 < \dots < q_T` in the training data,

.. math:: e_t(c) = \min\Big(1, \max\Big(0, \frac{c - q_{t-1}}{q_t - q_{t-1}}\Big)\Big),

so that a linear map of them is any piecewise-linear function of the number, and nothing depends on
the distribution of its values. The number itself is one more feature, for what is beyond the
quantiles.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from realnvp.bijections.base import Bijection, Terms, constant

__all__ = ["EmbeddedCondition", "EncodedCondition"]


class _GivenFeatures(Bijection):
    """Transform by an inner bijection, conditioned on features of the condition."""

    has_analytic_inverse = False  # inner layers may have to search

    inner: Bijection

    def features(self, condition: Tensor) -> Tensor:
        """Return features ``(B, F)`` of conditions ``(B, K)``."""
        raise NotImplementedError

    def _given(self, condition: Tensor | None) -> Tensor | None:
        return None if condition is None else self.features(condition)

    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        return self.inner.forward_terms(x, self._given(condition))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = self.inner(x, self._given(condition))
        return z, log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner.inverse(z, self._given(condition))

    def outline(
        self, shape: tuple[int, ...], name: str
    ) -> Iterator[tuple[str, Bijection, tuple[int, ...]]]:
        yield name, self, shape
        yield from self.inner.outline(shape, f"{name}.inner")


class EncodedCondition(_GivenFeatures):
    """Transform by an inner bijection, conditioned on features of a numeric condition.

    Args:
        dim: size K of the condition.
        bins: number T of intervals.
        inner: the bijection, conditioned on ``K (1 + T)`` features.

    Attributes:
        knots: ``(K, T + 1)`` buffer of the quantiles; neighbors may be equal, and the feature of an
            interval of width 0 is always 0.
        mean: ``(K T,)`` buffer, subtracted from the features of the intervals.
        std: ``(K T,)`` buffer, by which they are then divided.

    >>> from realnvp.bijections import Chain
    >>> layer = EncodedCondition(1, 2, Chain())
    >>> layer.fit(torch.tensor([[0.0], [1.0], [1.0], [4.0]]))
    >>> layer.knots
    tensor([[0., 1., 4.]])
    >>> (layer.features(torch.tensor([[2.5]])) * 4).round()  # 2.5, all of [0, 1], half of [1, 4]
    tensor([[10.,  2.,  2.]])
    """

    knots: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, bins: int, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner
        knots = constant(lambda: torch.linspace(-2, 2, bins + 1), dim, bins + 1)
        self.register_buffer("knots", knots)
        self.register_buffer("mean", torch.zeros(dim * bins))
        self.register_buffer("std", torch.ones(dim * bins))

    @staticmethod
    def num_features(dim: int, bins: int) -> int:
        """Return the number of features."""
        return dim * (1 + bins)

    def extra_repr(self) -> str:
        dim, edges = self.knots.shape
        return f"{dim} numbers, {edges - 1} intervals of each"

    def check_values(self) -> None:
        if not (self.knots.diff(dim=1) >= 0).all():
            raise ValueError("knots must ascend")
        if not (self.std > 0).all():
            raise ValueError("std must be positive")

    @torch.no_grad()
    def fit(self, condition: Tensor) -> None:
        """Set quantiles, means and standard deviations from conditions ``(N, K)``."""
        rows = condition.double()
        fractions = torch.linspace(0, 1, self.knots.shape[1], dtype=rows.dtype, device=rows.device)
        ascending = rows.sort(dim=0).values
        place = fractions * (len(rows) - 1)
        low, high = ascending[place.floor().long()], ascending[place.ceil().long()]
        self.knots.copy_(torch.lerp(low, high, (place - place.floor())[:, None]).T)
        features = self._intervals(condition.to(self.knots)).double()
        std, mean = torch.std_mean(features, dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6, std, 1.0))

    def features(self, condition: Tensor) -> Tensor:
        """Return features ``(B, K (1 + T))`` of conditions ``(B, K)``."""
        return torch.cat((condition, (self._intervals(condition) - self.mean) / self.std), dim=1)

    def _intervals(self, condition: Tensor) -> Tensor:
        width = self.knots.diff(dim=1)
        inside = (condition[:, :, None] - self.knots[:, :-1]) / torch.where(width > 0, width, 1.0)
        return torch.where(width > 0, inside.clamp(0, 1), 0.0).flatten(1)


class EmbeddedCondition(_GivenFeatures):
    """Transform by an inner bijection, conditioned on what a network makes of the condition.

    Args:
        network: maps conditions ``(B, *shape)`` to features ``(B, K)``.
        shape: shape of one condition, which arrives flat.
        inner: the bijection, conditioned on the features.

    >>> from realnvp.bijections import Chain
    >>> layer = EmbeddedCondition(nn.Flatten(), (2, 3), Chain())
    >>> layer(torch.ones(4, 5), torch.zeros(4, 6))[0].shape
    torch.Size([4, 5])
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], inner: Bijection) -> None:
        super().__init__()
        self.network, self.shape, self.inner = network, shape, inner

    def features(self, condition: Tensor) -> Tensor:
        return self.network(condition.reshape(-1, *self.shape))
