r"""Preprocessing as part of the flow, so that the likelihood is of the raw data.

:class:`Logit` takes the unit interval to the real line, :class:`Affine` standardizes. They return
their log-determinants like any other layer: without them, losses look fine but are meaningless. The
step before them, which makes integers continuous, is in :mod:`realnvp.bijections.dequantization`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from realnvp.bijections.base import Bijection, sum_per_example

__all__ = ["Affine", "Logit"]


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

    def extra_repr(self) -> str:
        return f"{self.alpha:g}"

    def _log_grad(self, y: Tensor) -> Tensor:
        grad = F.softplus(y) + F.softplus(-y) + math.log1p(-2 * self.alpha)
        return sum_per_example(grad)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y = torch.logit(self.alpha + (1 - 2 * self.alpha) * x)
        return y, self._log_grad(y)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        return x, -self._log_grad(z)


class Affine(Bijection):
    r"""A fixed shift and scale: :math:`z = (x - \mathrm{shift}) / \mathrm{scale}`.

    Standardization, when they are the mean and standard deviation of the training data;
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
        shift = _floating(shift)
        scale = shift.new_ones(shift.shape) if scale is None else _floating(scale)
        self.register_buffer("shift", shift.clone())
        self.register_buffer("scale", scale.clone())
        if not shift.is_meta:  # on the meta device, where sizes are compared, there are no values
            self.check_values()

    def check_values(self) -> None:
        finite = torch.isfinite(self.shift).all() & torch.isfinite(self.scale).all()
        # The reciprocal and the logarithm of a subnormal number lose digits, or are infinite.
        if not (finite and (self.scale >= torch.finfo(self.scale.dtype).tiny).all()):
            raise ValueError("standardization needs a finite shift and a finite, positive scale")

    def _log_scale(self, x: Tensor) -> Tensor:
        return self.scale.log().expand(x.shape[1:]).sum()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.shift) / self.scale, (-self._log_scale(x)).expand(x.shape[0])

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * self.scale + self.shift, self._log_scale(z).expand(z.shape[0])


def _floating(values: Tensor) -> Tensor:
    """Return numbers, possibly a list, as a floating-point tensor."""
    values = torch.as_tensor(values)
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())
