"""``realnvp levels``."""

from __future__ import annotations

from helpers.command import json_of, run, size_of


def test_a_column_for_each_image(runs, here, capsys):
    run(f"levels {runs / 'digits'} -n 4")
    width, height = size_of("levels.png")
    assert width > height > 0
    capsys.readouterr()
    run(f"levels {runs / 'digits'} -n 4 --out l.png --json")
    assert json_of(capsys) == {"out": "l.png", "images": 4, "scales": 2}
