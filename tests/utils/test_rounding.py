"""Kernels in nine bits a weight come back to half a step, with less error than equal steps have."""

from __future__ import annotations

import pytest
import torch

from realnvp.utils.rounding import from_nine_bits
from ship import to_nine_bits


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
    assert ((found["a.direction"] - kernel).abs() <= 0.501 * 1.5 * largest / 255).all()
    again = from_nine_bits(to_nine_bits("a.direction", found["a.direction"]))
    torch.testing.assert_close(again["a.direction"], found["a.direction"], rtol=1e-6, atol=0)


def test_the_error_is_less_than_that_of_equal_steps():
    kernel = torch.randn(4, 64, 3, 3, generator=torch.Generator().manual_seed(0))
    error = from_nine_bits(to_nine_bits("k", kernel))["k"] - kernel
    steps = kernel.abs().amax(dim=(1, 2, 3)) / 255
    assert (error.square().mean((1, 2, 3)) < 0.9 * steps.square() / 12).all()


def test_a_channel_of_zeros_stays_so():
    kernel = torch.zeros(2, 1, 3, 3)
    kernel[0] = 1
    assert torch.equal(from_nine_bits(to_nine_bits("k", kernel))["k"], kernel)
