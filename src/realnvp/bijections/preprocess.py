r"""Preprocessing as part of the flow, so that the likelihood is that of the raw data.

Pixels are integers, and a density fitted to integers can grow without bound. Uniform noise
:math:`u` makes them continuous, and the density of :math:`x + u` bounds the probability of
:math:`x` from below (arXiv 1511.01844, section 3.1):

.. math:: \log P(x) = \log \int_{[0,1)^D} p(x + u)\,du \ge E_u[\log p(x + u)].

:class:`Dequantize` adds that noise and scales to :math:`[0, 1)`, :class:`DequantizeColumns` adds it
to a table's columns of whole numbers; :class:`Logit` takes the unit interval to the real line. All
report their log-determinants like any other layer: left out, they make losses that look fine and
mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from realnvp.bijections.base import Bijection, sum_per_example
from realnvp.noise import normal_of

__all__ = ["Affine", "Dequantization", "Dequantize", "DequantizeColumns", "Logit", "Noise"]

Noise = torch.Generator | Tensor | None
"""A source of uniform numbers: a generator, None for PyTorch's global one, or the numbers."""


class Dequantization(Bijection):
    """Base of the layers that make integers continuous: the only ones whose forward is random.

    Attributes:
        generator: source of the noise: a generator, None for PyTorch's global one, or the uniform
            numbers themselves, of the input's shape.
        margin: keeps the noise away from both ends, for latents that decode to the very same
            integers in spite of float32 rounding; 0 (the whole interval) whenever densities count.
    """

    term = "preprocessing"

    _one: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.generator: Noise = None
        self.margin = 0.0
        # Integers have no floating point type to follow: this buffer follows .to() and .double().
        self.register_buffer("_one", torch.ones(()), persistent=False)

    def _uniform(self, x: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) of the shape of ``x``."""
        if isinstance(self.generator, Tensor):
            if self.generator.shape != x.shape:
                raise ValueError(
                    f"the noise must have the data's shape {tuple(x.shape)}, "
                    f"got {tuple(self.generator.shape)}"
                )
            return self.generator.to(self._one)
        return torch.rand(x.shape, generator=self.generator, dtype=self._one.dtype, device=x.device)

    def _noise(self, x: Tensor) -> Tensor:
        """The same, with the margin kept."""
        noise = self._uniform(x)
        return self.margin + (1 - 2 * self.margin) * noise if self.margin else noise


class Dequantize(Dequantization):
    r"""Make ``levels`` integers continuous: :math:`v = (x + u) / K`, :math:`u` uniform on [0, 1).

    .. math:: \log |\det J| = -D \log K

    The inverse is deterministic: it floors and clamps to the integers ``0 .. levels - 1`` and
    returns them as uint8 (up to 256 levels) or int32. A model that is exactly uniform on the unit
    cube gives exactly :math:`\log_2 K` bits/dim.

    Args:
        levels: number :math:`K` of grey levels.

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
        self.levels = levels

    def _log_det(self, x: Tensor, sign: int) -> Tensor:
        value = sign * math.prod(x.shape[1:]) * math.log(self.levels)
        return torch.full((len(x),), value, dtype=self._one.dtype, device=x.device)

    def _normal(self, x: Tensor) -> Tensor:
        """Normal numbers of the shape of ``x``."""
        if isinstance(self.generator, Tensor):
            return normal_of(self._uniform(x))
        dtype = self._one.dtype
        return torch.randn(x.shape, generator=self.generator, dtype=dtype, device=x.device)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        noise = self._noise(x)
        return (x.to(noise.dtype) + noise) / self.levels, self._log_det(x, -1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = torch.floor(z * self.levels).clamp(0, self.levels - 1)
        dtype = torch.uint8 if self.levels <= 256 else torch.int32
        return x.to(dtype), self._log_det(z, +1)


class DequantizeColumns(Dequantization):
    r"""Add uniform noise to the columns of whole numbers: :math:`v_i = x_i + u_i`.

    The unit cell of a whole number has volume 1, so the log-determinant is 0, and the density of
    such a column is a probability: it cannot grow without bound, as that of a column of repeated
    values does. The inverse floors.

    Args:
        columns: numbers of the columns of whole numbers.
        dim: number of all columns.

    Raises:
        ValueError: in evaluation mode, if such a column holds fractions.

    >>> v, log_det = DequantizeColumns([1], dim=2)(torch.tensor([[0.5, 3.0]]))
    >>> v[0, 0].item(), 3 <= v[0, 1].item() <= 4, log_det.item()
    (0.5, True, 0.0)
    """

    which: Tensor

    def __init__(self, columns: Sequence[int], dim: int) -> None:
        super().__init__()
        bad = [column for column in columns if not 0 <= column < dim]
        if bad:
            raise ValueError(f"columns of whole numbers are 0 .. {dim - 1}, got {bad[0]}")
        which = torch.zeros(dim, dtype=torch.bool)
        which[list(columns)] = True
        self.register_buffer("which", which, persistent=False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = x.to(self._one.dtype)
        if not self.training:
            fractions = ((x != x.floor()) & self.which).any(0)
            if fractions.any():
                raise ValueError(f"column {int(fractions.int().argmax())} must hold whole numbers")
        return torch.where(self.which, x + self._noise(x), x), x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.where(self.which, z.floor(), z), z.new_zeros(len(z))


class Logit(Bijection):
    r"""From the unit interval to the real line (arXiv 1605.08803, section 4.1).

    .. math::
        y = \mathrm{logit}(\alpha + (1 - 2\alpha) v), \qquad
        \log |\det J| = \sum \mathrm{softplus}(y) + \mathrm{softplus}(-y) + \log(1 - 2\alpha)

    The slope is :math:`1 - 2\alpha`, so that :math:`y` stays finite at both ends: with the
    :math:`1 - \alpha` found elsewhere, :math:`v = 1`, which float32 rounding does produce, gives
    infinity.

    Args:
        alpha: distance kept from 0 and 1, in (0, 0.5).

    >>> y, _ = Logit(0.05)(torch.tensor([[0.0, 0.5, 1.0]]))
    >>> [round(value, 4) for value in y[0].tolist()]
    [-2.9444, 0.0, 2.9444]
    """

    term = "preprocessing"

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha is in (0, 0.5), got {alpha}")
        self.alpha = alpha

    def _log_slope(self, y: Tensor) -> Tensor:
        slope = F.softplus(y) + F.softplus(-y) + math.log1p(-2 * self.alpha)
        return sum_per_example(slope)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y = torch.logit(self.alpha + (1 - 2 * self.alpha) * x)
        return y, self._log_slope(y)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        return x, -self._log_slope(z)


class Affine(Bijection):
    r"""A fixed shift and scale: :math:`z = (x - \mathrm{shift}) / \mathrm{scale}`.

    Standardization, when they are the training data's mean and deviation;
    :math:`\log |\det J| = -\sum \log \mathrm{scale}`.

    Args:
        shift: subtracted; a tensor that broadcasts to one example.
        scale: divided by; positive, of the shift's shape. Ones if left out.

    >>> Affine(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 4.0]))(torch.tensor([[3.0, 5.0]]))[0]
    tensor([[1., 1.]])
    """

    term = "preprocessing"

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor | None = None) -> None:
        super().__init__()
        scale = torch.ones_like(shift) if scale is None else scale
        good = torch.isfinite(shift).all() & torch.isfinite(scale).all() & (scale > 0).all()
        # without memory, as when sizes are compared before a model is loaded, there are no values
        if not (shift.is_meta or good):
            raise ValueError("standardization needs finite shifts and finite, positive scales")
        self.register_buffer("shift", shift.clone())
        self.register_buffer("scale", scale.clone())

    def _log_det(self, x: Tensor, sign: int) -> Tensor:
        log_scale = self.scale.log().expand(x.shape[1:]).sum()
        return (sign * log_scale).expand(len(x))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.shift) / self.scale, self._log_det(x, -1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * self.scale + self.shift, self._log_det(z, +1)
