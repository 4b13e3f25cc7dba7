"""Convolution kernels in nine bits per weight, for small model files.

With weight normalization only the direction of a kernel matters, and rounding its weights to
511 levels costs less than 0.001 bits/dim (benchmarks/results/search.md): a byte for the high bits
of each weight, and one byte for the lowest bits of eight weights, instead of two bytes per weight
in half precision. The levels are denser near zero, where most weights are: of a channel's weights
the largest is 3 to 6 times the standard deviation, and equal steps err by a third more.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 255
"""Largest of the integers; the smallest is its negative."""

LOW, LARGEST = "#low", "#largest"
"""Name suffixes of the tensors that accompany the high bits."""

POWER = 1.5
"""A level is this power of its index, up to the channel's maximum and the sign: the least error of
1, 1.25, 1.5, 1.75 and 2 for the kernels of ``cifar10``."""

PLACES = torch.arange(8, dtype=torch.uint8)
"""Places of the lowest bits of eight integers in a byte."""


def from_nine_bits(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    r"""Return tensors by name, in which kernels of nine bits a weight are numbers again.

    ``tools/ship.py`` writes a weight :math:`v` as the integer

    .. math:: 255 + \operatorname{sign}(v) \operatorname{round}(255 \, (|v| / \max |v|)^{2/3})

    The kernel's name holds the high 8 bits, the name with :data:`LOW` the lowest bits, eight per
    byte, and the name with :data:`LARGEST` the maximum of each output channel. All other tensors
    stay as they are.

    Args:
        tensors: tensors by name.
    """
    kernels = dict(tensors)
    for name in [key.removesuffix(LOW) for key in tensors if key.endswith(LOW)]:
        low, high = kernels.pop(f"{name}{LOW}"), kernels[name]
        bits = (low[:, None] >> PLACES & 1).flatten()[: high.numel()]
        integers = 2.0 * high + bits.view(high.shape) - MOST
        largest = kernels.pop(f"{name}{LARGEST}")
        kernels[name] = integers.sign() * (integers.abs() / MOST) ** POWER * largest
    return kernels
