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

__all__ = ["from_nine_bits", "to_nine_bits"]

MOST = 255
"""Largest of the integers; the smallest is its negative."""

LOW, LARGEST = "#low", "#largest"
"""Name suffixes of the tensors that accompany the high bits."""

POWER = 1.5
"""A level is this power of its index, up to the channel's maximum and the sign: the least error of
1, 1.25, 1.5, 1.75 and 2 for the kernels of ``cifar10``."""

PLACES = torch.arange(8, dtype=torch.uint8)
"""Places of the lowest bits of eight integers in a byte."""


def to_nine_bits(name: str, kernel: Tensor) -> dict[str, Tensor]:
    r"""Return tensors of bytes that hold each weight :math:`v` as an integer.

    It is :math:`\operatorname{sign}(v) \operatorname{round}(255 \, (|v| / \max |v|)^{2/3})`.

    Args:
        name: name of the kernel.
        kernel: weights ``(C, ...)``; the maximum is that of each of the C output channels.

    Returns:
        The high 8 bits of each integer by ``name``, of the kernel's shape; the lowest bits, eight
        per byte; and the maxima.

    >>> kernel = torch.tensor([[0.25, -0.1], [1.0, 3.0]])
    >>> tensors = to_nine_bits("k", kernel)
    >>> {name: tensor.dtype for name, tensor in tensors.items()}
    {'k': torch.uint8, 'k#low': torch.uint8, 'k#largest': torch.float32}
    >>> from_nine_bits(tensors)["k"]
    tensor([[ 0.2500, -0.0995],
            [ 1.0050,  3.0000]])
    """
    largest = kernel.abs().amax(dim=tuple(range(1, kernel.ndim)), keepdim=True)
    indices = MOST * (kernel.abs() / largest.clamp(min=1e-30)) ** (1 / POWER)
    integers = (kernel.sign() * indices).round().to(torch.int16) + MOST
    bits = torch.zeros(-(-integers.numel() // 8), 8, dtype=torch.uint8)
    bits.view(-1)[: integers.numel()] = (integers & 1).flatten()
    return {
        name: (integers >> 1).to(torch.uint8),
        f"{name}{LOW}": (bits << PLACES).sum(1).to(torch.uint8),
        f"{name}{LARGEST}": largest,
    }


def from_nine_bits(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Invert :func:`to_nine_bits` for all kernels among some tensors; the others stay as they are.

    Args:
        tensors: tensors by name.
    """
    found = dict(tensors)
    for name in [key.removesuffix(LOW) for key in tensors if key.endswith(LOW)]:
        low, high = found.pop(f"{name}{LOW}"), found[name]
        bits = (low[:, None] >> PLACES & 1).flatten()[: high.numel()]
        integers = 2.0 * high + bits.view(high.shape) - MOST
        largest = found.pop(f"{name}{LARGEST}")
        found[name] = integers.sign() * (integers.abs() / MOST) ** POWER * largest
    return found
