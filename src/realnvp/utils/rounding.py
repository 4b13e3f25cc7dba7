"""Kernels of convolutions in ten bits a weight, for models that are to be small files.

With weight normalization only the direction of a kernel matters, and the rounding of a weight to
one of 1,023 levels turns it less than a change of any use: four such bytes and their 8 low bits
hold four weights, where half precision has eight bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["from_ten_bits", "to_ten_bits"]

MOST = 511
"""Largest of the integers, whose smallest is its negative."""

LOW, LARGEST = "#low", "#largest"
"""Endings of the names of the tensors beside the high bytes."""


def to_ten_bits(name: str, kernel: Tensor) -> dict[str, Tensor]:
    r"""Return tensors of bytes that hold :math:`\operatorname{round}(511 \, v / \max |v|)`.

    Args:
        name: name of the kernel.
        kernel: weights ``(C, ...)``; the maximum is that of each of the C output channels.

    Returns:
        The high 8 bits of each integer by ``name``, of the kernel's shape; four low pairs of bits a
        byte; and the maxima.

    >>> kernel = torch.tensor([[0.25, -0.1], [1.0, 3.0]])
    >>> tensors = to_ten_bits("k", kernel)
    >>> {name: tensor.dtype for name, tensor in tensors.items()}
    {'k': torch.uint8, 'k#low': torch.uint8, 'k#largest': torch.float32}
    >>> from_ten_bits(tensors)["k"]
    tensor([[ 0.2500, -0.0998],
            [ 0.9980,  3.0000]])
    """
    largest = kernel.abs().amax(dim=tuple(range(1, kernel.ndim)), keepdim=True)
    integers = (kernel * (MOST / largest)).round().to(torch.int16) + MOST
    pairs = torch.zeros(-(-integers.numel() // 4), 4, dtype=torch.int16)
    pairs.view(-1)[: integers.numel()] = (integers & 3).flatten()
    low = (pairs << torch.tensor([0, 2, 4, 6], dtype=torch.int16)).sum(1)
    return {
        name: (integers >> 2).to(torch.uint8),
        f"{name}{LOW}": low.to(torch.uint8),
        f"{name}{LARGEST}": largest,
    }


def from_ten_bits(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Invert :func:`to_ten_bits` for all kernels among some tensors; the others stay as they are.

    Args:
        tensors: tensors by name.
    """
    found = dict(tensors)
    for name in [key.removesuffix(LOW) for key in tensors if key.endswith(LOW)]:
        low, high = found.pop(f"{name}{LOW}"), found[name]
        pairs = low[:, None] >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8) & 3
        integers = (
            high * torch.tensor(4.0) + pairs.flatten()[: high.numel()].view(high.shape) - MOST
        )
        found[name] = integers * (found.pop(f"{name}{LARGEST}") / MOST)
    return found
