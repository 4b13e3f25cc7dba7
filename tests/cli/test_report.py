"""``realnvp report``."""

from __future__ import annotations

from pathlib import Path

from helpers.command import json_of, refused, run


def test_a_page_about_a_run(runs, here, capsys):
    run(f"report {runs / 'moons'} --json")
    found = json_of(capsys)
    assert found["bytes"] == Path("report.html").stat().st_size < 1_000_000
    assert "--overwrite" in refused(capsys, f"report {runs / 'moons'}")
    assert "no run in nowhere" in refused(capsys, "report nowhere --out r.html")
    assert "must end in .html" in refused(capsys, f"report {runs / 'moons'} --out r.pdf")
