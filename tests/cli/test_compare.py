"""``realnvp compare``."""

from __future__ import annotations

import pytest

from helpers.command import SMALL, json_of, refused, run, size_of


def test_a_table_a_picture_and_json(here, capsys):
    for steps in (2, 3):
        run(f"train digits --steps {steps} --out runs/{steps} --no-report", *SMALL)
    capsys.readouterr()
    run("compare runs/2 runs/3 --out c.png")
    out = capsys.readouterr().out
    assert "training.steps" in out
    assert "model.hidden" not in out
    assert size_of("c.png")[0] > 500
    run("compare runs/2 runs/3 --json")
    found = json_of(capsys)
    assert found["unit"] == "bits/dim"
    worse = max(found["runs"], key=lambda entry: entry["value"])
    better = min(found["runs"], key=lambda entry: entry["value"])
    assert worse["difference"] == pytest.approx(worse["value"] - better["value"], abs=1e-5)
    # The images are the same, so that much of the variation cancels.
    assert 0 < worse["difference_standard_error"] < 0.5 * worse["standard_error"]
    assert "difference" not in better
    assert [entry["steps"] for entry in found["runs"]] == [2, 3]
    assert "at least two runs" in refused(capsys, "compare runs/2")
