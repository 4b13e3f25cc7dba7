"""Images side by side: every pixel in its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from realnvp.utils.tiles import image_grid


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_every_image_is_in_its_place(tmp_path):
    images = torch.arange(7, dtype=torch.uint8)[:, None, None, None].expand(7, 1, 20, 30) * 10
    image_grid(images, tmp_path / "g.png", columns=3)
    pixels = read(tmp_path / "g.png")
    zoom = pixels.shape[1] // (3 * 31 + 1)
    assert pixels.shape == (zoom * (3 * 21 + 1), zoom * (3 * 31 + 1))
    small = pixels[::zoom, ::zoom]
    for i in range(7):
        top, left = 1 + i // 3 * 21, 1 + i % 3 * 31
        assert (small[top : top + 20, left : left + 30] == 10 * i).all()
    assert (small[-20:, -30:] == 128).all(), "cells without an image are grey"


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "L")])
def test_one_channel_is_grey_and_three_are_colors(tmp_path, channels, mode):
    image_grid(torch.zeros(2, channels, 4, 4, dtype=torch.uint8), tmp_path / "g.png")
    with Image.open(tmp_path / "g.png") as image:
        assert image.mode == mode


def test_the_highest_level_is_white(tmp_path):
    image_grid(torch.full((1, 1, 8, 8), 16), tmp_path / "g.png", levels=17, border=0)
    assert (read(tmp_path / "g.png") == 255).all()


def test_folders_are_made(tmp_path):
    image_grid(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), tmp_path / "a/b/g.png")
    assert (tmp_path / "a/b/g.png").is_file()
