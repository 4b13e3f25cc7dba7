"""``realnvp interpolate``."""

from __future__ import annotations

from helpers.command import run, size_of


def test_a_square(runs, here):
    run(f"interpolate {runs / 'digits'} --steps 3")
    width, height = size_of("interpolate.png")
    assert width == height
