"""``realnvp levels``."""

from __future__ import annotations

from helpers.command import run, size_of


def test_a_column_for_each_image(runs, here):
    run(f"levels {runs / 'digits'} -n 4")
    width, height = size_of("levels.png")
    assert width > height > 0
