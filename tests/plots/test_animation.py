"""Animations."""

from __future__ import annotations

import pytest
from PIL import Image

from realnvp.plots import save_animation

FRAMES = [Image.new("RGB", (4, 4), (60 * i, 0, 255 - 60 * i)) for i in range(4)]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_frames_are_played_there_and_back(tmp_path, suffix):
    save_animation(FRAMES, tmp_path / f"a{suffix}", milliseconds=50)
    with Image.open(tmp_path / f"a{suffix}") as film:
        assert film.n_frames == 6
        colors, times = [], []
        for i in range(6):
            film.seek(i)
            film.load()
            colors.append(film.convert("RGB").getpixel((0, 0))[0])
            times.append(film.info["duration"])
    assert colors == pytest.approx([0, 60, 120, 180, 120, 60], abs=3)
    assert times == [300, 50, 50, 300, 50, 50]


def test_what_is_no_animation_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.gif or \.webp"):
        save_animation(FRAMES, tmp_path / "a.png")
    with pytest.raises(ValueError, match="needs frames"):
        save_animation([], tmp_path / "a.gif")
