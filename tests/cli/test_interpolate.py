"""``realnvp interpolate``."""

from __future__ import annotations

from helpers.command import json_of, run, size_of


def test_a_square(runs, here, capsys):
    run(f"interpolate {runs / 'digits'} --steps 3")
    width, height = size_of("interpolate.png")
    assert width == height
    capsys.readouterr()
    run(f"interpolate {runs / 'digits'} --steps 3 --out i.png --json")
    assert json_of(capsys) == {"out": "i.png", "images": 9}
