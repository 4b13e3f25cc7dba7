"""Interpolation and resampling: pictures of the latents show the data where they should."""

from __future__ import annotations

import pytest
import torch

from helpers.flows import small_image_flow, small_images
from realnvp.latents import interpolate, levels


def test_pictures_of_the_data_repeat_with_a_generator():
    flow, x = small_image_flow(scales=3), small_images(4)
    for picture in (interpolate, levels):
        first, again = (
            picture(flow, x, generator=torch.Generator().manual_seed(1)) for _ in range(2)
        )
        assert torch.equal(first, again)


def test_interpolation_has_the_data_in_its_corners():
    flow, x = small_image_flow(), small_images(4)
    images = interpolate(flow, x, steps=3)
    assert images.shape == (9, 1, 8, 8)
    corners = images[[0, 2, 6, 8]]
    assert (corners != x)[:3].float().mean() < 0.02  # cos(pi / 2) is not exactly 0
    with pytest.raises(ValueError, match="four"):
        interpolate(flow, x[:2])


def test_levels_begin_with_the_data():
    flow, x = small_image_flow(scales=3), small_images(4)
    rows = levels(flow, x, generator=torch.Generator().manual_seed(0))
    assert rows.shape == (3, 4, 1, 8, 8)
    assert torch.equal(rows[0], x)
    assert (rows[1] != x).any()
