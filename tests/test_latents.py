"""Interpolation and resampling: pictures of the latents show the data where they should."""

from __future__ import annotations

import pytest
import torch

from helpers.bijections import randomize
from helpers.flows import small_image_flow, small_images
from realnvp import image_flow, load, vector_flow
from realnvp.latents import interpolate, levels, resample, walk


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


def test_a_walk_passes_its_stops_and_is_a_side_of_the_square():
    flow = load("digits")
    x = flow.sample(4, generator=torch.Generator().manual_seed(0))
    path = walk(flow, x, 7, generator=torch.Generator().manual_seed(1))
    assert torch.equal(path[::7], x)
    square = interpolate(flow, x, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(path[:8], square[:8])
    with pytest.raises(ValueError, match="two examples or more"):
        walk(flow, x[:1])
    with pytest.raises(ValueError, match="1 step or more"):
        walk(flow, x, 0)


def test_latents_are_resampled_by_scale():
    flow = load("digits")
    x = flow.sample(3, generator=torch.Generator().manual_seed(0))
    count = int(flow.latent_scales().max()) + 1

    def again(*amounts: float) -> torch.Tensor:
        return resample(flow, x, amounts, generator=torch.Generator().manual_seed(1))

    kept = levels(flow, x, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(*[0.0] * count), x)
    assert torch.equal(again(1.0, *[0.0] * (count - 1)), kept[1]), "of the finest scale"
    assert not torch.equal(again(*[0.5] * count), x)
    told: list[tuple[int, int]] = []
    resample(flow, x.repeat(2, 1, 1, 1), [0.5] * count, progress=lambda *t: told.append(t))
    assert told == [(4, 6), (6, 6)]
    with pytest.raises(ValueError, match=f"{count} amounts from 0 to 1"):
        again(*[2.0] * count)


def test_integers_as_a_numeric_condition_are_numbers():
    flow = randomize(vector_flow(2, condition_dim=1)).eval()
    x, ages = torch.randn(4, 2), torch.tensor([[20], [30], [40], [50]])
    for picture in (interpolate, walk):
        assert torch.equal(picture(flow, x, 3, ages), picture(flow, x, 3, ages.float()))


def test_what_lies_between_images_of_two_classes_is_between_the_classes():
    """So the corners are the data, each with its own label, which need not be given."""
    flow = randomize(image_flow((1, 8, 8), levels=17, hidden=8, blocks=1, classes=3)).eval()
    generator = torch.Generator().manual_seed(0)
    x = flow.sample(4, condition=torch.tensor([0, 1, 2, 0]), generator=generator)
    for condition in (None, torch.tensor([2, 1, 0, 2])):
        path = walk(flow, x, 3, condition, torch.Generator().manual_seed(1))
        assert torch.equal(path[::3], x)
        square = interpolate(flow, x, 4, condition, torch.Generator().manual_seed(1))
        assert (square[[0, 3, 12, 15]] != x).float().mean() < 0.02
        kept = levels(flow, x, condition, torch.Generator().manual_seed(1))
        assert torch.equal(kept[0], x)
    assert torch.equal(path[:3], square[:3])
