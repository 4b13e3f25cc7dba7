"""Kernels in nine bits a weight come back to half a step, and again to what they were."""

from __future__ import annotations

import pytest
import torch

from realnvp.utils.rounding import from_nine_bits, to_nine_bits


@pytest.mark.parametrize("shape", [(3, 2, 3, 3), (5, 1, 1, 1), (8, 16, 1, 1)])
def test_kernels_come_back(shape):
    kernel = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    tensors = to_nine_bits("a.direction", kernel)
    assert sum(t.numel() for t in tensors.values()) <= 9 / 8 * kernel.numel() + 1 + shape[0]
    other = {"b": torch.ones(2)}
    found = from_nine_bits(tensors | other)
    assert found.keys() == {"a.direction", "b"}
    assert found["b"] is other["b"]
    largest = kernel.abs().amax(dim=(1, 2, 3), keepdim=True)
    assert ((found["a.direction"] - kernel).abs() <= 0.501 * largest / 255).all()
    again = from_nine_bits(to_nine_bits("a.direction", found["a.direction"]))
    torch.testing.assert_close(again["a.direction"], found["a.direction"], rtol=1e-6, atol=0)
