"""``realnvp plot``."""

from __future__ import annotations

from helpers.command import json_of, refused, run, size_of


def test_one_row_for_each_model(runs, here, capsys):
    run(f"plot {runs / 'moons'} {runs / 'moons'} --out p.png")
    width, height = size_of("p.png")
    assert width > 2 * height
    capsys.readouterr()
    run(f"plot {runs / 'moons'} --out j.png --json")
    assert json_of(capsys) == {"out": "j.png", "models": [str(runs / "moons")]}
    assert "two columns" in refused(capsys, f"plot {runs / 'digits'} --out d.png")
    assert "--overwrite" in refused(capsys, f"plot {runs / 'moons'} --out p.png")
    assert ".png" in refused(capsys, f"plot {runs / 'moons'} --out p.jpg")


def test_a_conditional_table_needs_a_label(conditional_table, capsys):
    assert "--label" in refused(capsys, "plot runs/table")
    run("plot runs/table --label b")
    assert size_of("plot.png")[0] > 0
