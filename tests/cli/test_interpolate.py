"""``realnvp interpolate``."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from helpers.command import json_of, refused, run, size_of
from realnvp import load
from realnvp.cli.interpolate import main as interpolate


def test_a_square(runs, here, capsys):
    run(f"interpolate {runs / 'digits'} --steps 3")
    width, height = size_of("interpolate.png")
    assert width == height
    capsys.readouterr()
    run(f"interpolate {runs / 'digits'} --steps 3 --out i.png --json")
    assert json_of(capsys) == {"out": "i.png", "images": 9}


def test_own_images_are_a_row_an_animation_or_a_square(runs, here, capsys):
    for i in range(4):
        Image.new("RGB", (30, 20), (80 * i, 0, 0)).save(f"{i}.png")
    run(f"interpolate {runs / 'digits'} 0.png 1.png --steps 3 --out row.png")
    assert "0.png: converted to grey, fitted from 30x20 to 8x8" in capsys.readouterr().err
    width, height = size_of("row.png")
    assert width > 3 * height
    run(f"interpolate {runs / 'digits'} 0.png 1.png 2.png --steps 3 --out walk.gif --json")
    assert json_of(capsys) == {"out": "walk.gif", "images": 7}
    with Image.open("walk.gif") as film:
        assert film.n_frames > 1
    run(f"interpolate {runs / 'digits'} 0.png 1.png 2.png 3.png --steps 3")
    assert len(set(size_of("interpolate.png"))) == 1


def test_one_image_is_no_path(runs, here):
    with pytest.raises(ValueError, match="two images or more"):
        interpolate([str(runs / "digits"), "0.png"])


def test_own_images_and_data_exclude_each_other(runs, here):
    with pytest.raises(ValueError, match="either files of images, or --data"):
        interpolate([str(runs / "digits"), "0.png", "1.png", "--data", "digits"])


def test_blurred_pictures_come_back(here):
    """In float32, the second could not be decoded."""
    threes = torch.full((2,), 3)
    x = load("mnist").sample(2, condition=threes, generator=torch.Generator().manual_seed(0))
    for i, image in enumerate(x[:, 0].numpy()):
        Image.fromarray(image).resize((280, 280)).save(f"{i}.png")
    run("interpolate mnist 0.png 1.png --steps 1 --out row.png")
    assert size_of("row.png")[0] > size_of("row.png")[1]


def test_a_missing_picture_is_named(runs, here, capsys):
    assert "there is no file" in refused(capsys, f"interpolate {runs / 'digits'} a.png b.png")
