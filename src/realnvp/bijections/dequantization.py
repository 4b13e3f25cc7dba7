r"""Dequantization: noise that makes integers continuous, and what it means for the likelihood.

Pixels are integers, and a density fitted to integers can grow without bound. Uniform noise
:math:`u` makes them continuous, and the density of :math:`x + u` bounds the probability of
:math:`x` from below (arXiv 1511.01844, section 3.1):

.. math:: \log P(x) = \log \int_{[0,1)^D} p(x + u)\,du \ge E_u[\log p(x + u)].

:class:`Dequantize` adds that noise and scales to :math:`[0, 1)`;
:class:`~realnvp.columns.layer.TableColumns` adds it to what is discrete in a table. Uniform
noise requires a density that is constant on every unit cube, which a smooth map can only
approximate. Noise :math:`q(u | x)` that fits the model, as in
:class:`VariationalDequantize`, makes the bound tight (Flow++, arXiv 1902.00275, section 3.1):

.. math:: \log P(x) \ge E_{u \sim q(u | x)}[\log p(x + u) - \log q(u | x)].
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from realnvp.bijections.base import Bijection, sum_per_example
from realnvp.utils.rng import normal_of

__all__ = ["Dequantization", "Dequantize", "Noise", "VariationalDequantize"]

Noise = torch.Generator | Tensor | None
"""A source of uniform numbers: a generator, None for PyTorch's global one, or the numbers."""


MAX_LEVELS = 2**16
"""Largest number of grey levels. A round trip through the flow changes float32 values by some 2e-7,
which is 0.01 of one of 65,536 levels; with many more, neighboring levels would be confused."""


class Dequantization(Bijection):
    """Base class of layers that make integers continuous, the only ones with a random forward.

    A subclass implements :meth:`place`, :meth:`inverse` and, unless its noise is uniform,
    :meth:`draw`.
    """

    term = "preprocessing"

    noisy: bool = True
    """Whether anything is discrete, so that a log-density is one draw of a bound."""

    _one: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Integers have no floating-point type to follow: this buffer follows .to() and .double().
        self.register_buffer("_one", torch.ones(()), persistent=False)

    def forward(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        noise: Noise = None,
        margin: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Map integers to continuous values: ``x -> (v, log_det)``.

        Args:
            x: integers ``(B, ...)``.
            condition: condition ``(B, K)`` of learned noise.
            noise: source of the noise: a generator, None for PyTorch's global one, or the uniform
                numbers themselves, of the input's shape.
            margin: distance that the noise keeps from both ends of a bin, for latents that decode
                to exactly the same integers despite rounding: 0.5 is the middle of the bin. It is
                0, the whole bin, wherever densities are computed.
        """
        u, log_q = self.draw(x, condition, noise)
        if margin:
            u = margin + (1 - 2 * margin) * u
        v, log_det = self.place(x, u)
        return v, log_det if log_q is None else log_det - log_q

    @abstractmethod
    def place(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Add noise in [0, 1) to integers, and scale: ``(x, u) -> (v, log_det)``."""

    def draw(
        self, x: Tensor, condition: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """Return noise in [0, 1) of the shape of ``x``, and its log-density; None is uniform."""
        return self._uniform(x, noise), None

    def differs(self, x: Tensor, v: Tensor) -> Tensor:
        """Return where the continuous values ``v`` do not decode to the integers ``x``."""
        return (self.inverse(v)[0] != x) | ~torch.isfinite(v)

    def _uniform(self, x: Tensor, noise: Noise) -> Tensor:
        """Return uniform numbers in [0, 1) of the shape of ``x``."""
        if isinstance(noise, Tensor):
            if noise.shape != x.shape:
                raise ValueError(
                    f"the noise must have the data's shape {tuple(x.shape)}, "
                    f"got {tuple(noise.shape)}"
                )
            return noise.to(self._one)
        return torch.rand(x.shape, generator=noise, dtype=self._one.dtype, device=x.device)


class Dequantize(Dequantization):
    r"""Make ``levels`` integers continuous: :math:`v = (x + u) / K`, :math:`u` uniform on [0, 1).

    .. math:: \log |\det J| = -D \log K

    The inverse is deterministic: it floors and clamps to the integers ``0 .. levels - 1`` and
    returns them as uint8 (up to 256 levels) or int32. A model that is exactly uniform on the unit
    cube gives exactly :math:`\log_2 K` bits/dim.

    Args:
        levels: number :math:`K` of grey levels, 2 to 65536.

    Raises:
        ValueError: if there are fewer or more levels.

    >>> v, log_det = Dequantize(4)(torch.tensor([[0, 3]]))
    >>> bool((v >= 0).all() and (v <= 1).all()), round(log_det.item(), 4)  # -2 log 4
    (True, -2.7726)
    >>> Dequantize(4).inverse(v)[0]
    tensor([[0, 3]], dtype=torch.uint8)
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"dequantization needs at least 2 levels, got {levels}")
        if levels > MAX_LEVELS:
            raise ValueError(
                f"dequantization takes at most {MAX_LEVELS} levels, got {levels}: float32 cannot "
                "distinguish more of them after a round trip; scale the data to fewer levels"
            )
        self.levels = levels

    def extra_repr(self) -> str:
        return f"{self.levels} levels"

    def _log_det(self, x: Tensor, sign: int) -> Tensor:
        value = sign * math.prod(x.shape[1:]) * math.log(self.levels)
        return torch.full((x.shape[0],), value, dtype=self._one.dtype, device=x.device)

    def place(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return (x.to(u.dtype) + u) / self.levels, self._log_det(x, -1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = torch.floor(z * self.levels).clamp(0, self.levels - 1)
        dtype = torch.uint8 if self.levels <= 256 else torch.int32
        return x.to(dtype), self._log_det(z, +1)


class VariationalDequantize(Dequantize):
    r"""Make ``levels`` integers continuous with learned noise: :math:`v = (x + u) / K`.

    .. math::
        u = \Phi(g(\epsilon; h(x))), \quad \epsilon \sim \mathcal N(0, I), \qquad
        \mathrm{log\_det} = -D \log K - \log q(u | x)

    where :math:`g` is a flow on the noise that is conditioned on features :math:`h(x)` of the
    image, and :math:`\Phi` the normal CDF, so that a :math:`g` that is the identity gives uniform
    noise: it starts as :class:`Dequantize`. The entropy of the noise is part of the returned
    log-determinant, so the mean log-probability is the bound above, and importance weights over
    several draws tighten it with :math:`q` as the proposal. The inverse is as in
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

    def _normal(self, x: Tensor, noise: Noise) -> Tensor:
        """Return normal numbers of the shape of ``x``."""
        if isinstance(noise, Tensor):
            return normal_of(self._uniform(x, noise))
        return torch.randn(x.shape, generator=noise, dtype=self._one.dtype, device=x.device)

    def draw(
        self, x: Tensor, condition: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        normal = self._normal(x, noise)
        scaled = x.to(normal.dtype) * (2 / (self.levels - 1)) - 1
        z, log_det = self.noise(normal, self.features(scaled, condition))
        # log q(u | x) = log N(eps) - log |dz/d eps| - log N(z): the constants cancel.
        log_q = sum_per_example(z.square() - normal.square()) / 2 - log_det
        return 0.5 * torch.special.erfc(z * -math.sqrt(0.5)), log_q
