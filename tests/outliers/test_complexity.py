"""Sizes of images under a lossless codec."""

from __future__ import annotations

import torch

from realnvp.outliers.complexity import png_bits_per_dim


def test_sizes_grow_with_complexity_and_depend_on_the_image_alone():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (1, 3, 16, 16), generator=generator, dtype=torch.uint8)
    ramp = torch.arange(16, dtype=torch.uint8).expand(1, 3, 16, 16)
    flat = torch.full((1, 3, 16, 16), 7, dtype=torch.uint8)
    sizes = png_bits_per_dim(torch.cat([flat, ramp, noise]))
    assert sizes[0] <= sizes[1] < sizes[2]
    assert torch.equal(png_bits_per_dim(ramp), sizes[1:2])


def test_channels_and_levels_of_any_number():
    assert png_bits_per_dim(torch.zeros(2, 2, 4, 6, dtype=torch.uint8)).shape == (2,)
    deep = png_bits_per_dim(torch.tensor([[[[0, 65535], [1, 300]]]]), levels=65536)
    assert deep.shape == (1,)
    assert deep > 0
