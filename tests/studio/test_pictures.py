"""Tabs of image models, driven in a browser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from realnvp import load
from realnvp.cli.main import main
from realnvp.plots import tiles


@pytest.fixture
def digits(page):
    page.choose_model("digits")
    return page


def test_samples_are_those_of_the_command_line(digits, tmp_path):
    digits.tab("Sample")
    digits.type("#sample-n", 12)  # which draws, too: the seed makes the next one another picture
    digits.type("#sample-seed", 7)
    digits.draw("#sample-go", "#sample-grid")
    digits.text("#sample-note", "realnvp sample digits --n 12 --seed 7")
    for kind, button in (("png", "#sample-png"), ("npz", "#sample-npz")):
        file = tmp_path / f"samples.{kind}"
        assert main(["sample", "digits", "-n", "12", "--seed", "7", "--out", str(file)]) == 0
        got = digits.download(button)
        if kind == "png":
            assert got.read_bytes() == file.read_bytes()
        else:
            assert (np.load(got)["images"] == np.load(file)["images"]).all()


def test_a_walk_between_uploaded_images_shows_what_was_done_to_them(digits, tmp_path):
    for name, size in (("one", (40, 20)), ("two", (8, 8))):
        Image.new("RGB", size, (200, 40, 40)).save(tmp_path / f"{name}.png")
    digits.tab("Walk")
    digits.click("#walk-source label:nth-of-type(3) input")
    digits.find("#walk-files")  # it is asked for as soon as it is needed
    digits.upload("#walk-files", tmp_path / "one.png", tmp_path / "two.png")
    digits.draw("#walk-go", "#walk-film")
    done = "one.png: converted to grey, fitted from 40x20 to 8x8"
    digits.text("#walk-note", done, "rounded to 17 grey levels")
    first = digits.picture("#walk-frame")
    digits.type("#walk-at", 12)
    assert digits.picture("#walk-frame", not_=first) != first
    for kind in ("gif", "webp"):
        with Image.open(digits.download(f"#walk-{kind}")) as film:
            assert film.format == kind.upper()
            assert film.n_frames > 24  # there and back; equal ones are one


def test_a_file_that_is_no_image_gets_one_line(digits, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    digits.tab("Scales")
    digits.click("#scales-source label:nth-of-type(3) input")
    digits.upload("#scales-files", tmp_path / "bad.png")
    digits.click("#scales-go")
    message = digits.error()
    assert "bad.png" in message
    assert "cannot identify image file" in message
    assert "Traceback" not in message


def test_each_scale_has_a_slider(digits):
    digits.tab("Scales")
    digits.click("#scales-source label:nth-of-type(1) input")
    count = int(load("digits").latent_scales().max()) + 1

    def shown() -> list[int]:
        return [i for i in range(6) if digits.driver.find_elements("css selector", f"#scale-{i}")]

    digits.until(lambda: shown() == list(range(count)), f"not {count} sliders")
    # Leaving a slider draws, too: only another seed makes another picture than that one.
    digits.type("#scale-0", 1)
    digits.type("#scales-seed", 5)
    digits.draw("#scales-go", "#scales-grid")
    digits.text("#scales-note", "Held-out examples of digits")


def test_a_grid_is_as_the_library_draws_it():
    samples = load("digits").sample(12, generator=torch.Generator().manual_seed(7))
    assert tiles(samples, levels=17).size[0] > 500
