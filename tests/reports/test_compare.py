"""Comparisons of runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from realnvp import plots
from realnvp.reports.compare import compare
from realnvp.reports.run import Run


def run(name: str, loss: float | None, **settings) -> Run:
    records = [{"kind": "validation", "step": 5, "seconds": 60.0, "loss": math.nan}]
    if loss is not None:
        records += [
            {"kind": "validation", "step": 9, "seconds": 90.0, "loss": loss, "examples": 10,
             "standard_error": 0.1},
            {"kind": "final", "step": 9, "seconds": 95.0, "loss": loss, "examples": 20,
             "standard_error": 0.05, "part": "test"},
        ]  # fmt: skip
    return Run(Path("runs") / name, {"kind": "image", "seed": 0, **settings}, records, name)


def test_only_settings_that_differ_are_shown_and_the_best_is_first():
    a = run("a", 2.0, **{"training.lr": 0.1, "model.hidden": 8})
    b = run("b", 1.5, **{"training.lr": 0.2, "model.hidden": 8})
    c = run("c", None, **{"model.hidden": 8})
    found = compare([a, b, c])
    assert found.settings == {"training.lr": [0.1, 0.2, None]}
    header, rows = found.rows()
    assert header[:2] == ["run", "bits/dim (lower is better)"]
    assert [row[:3] for row in rows] == [
        ["b", "1.5000 ± 0.0500", "20 test"],
        ["a", "2.0000 ± 0.0500", "20 test"],
        ["c", "", ""],
    ]
    settings = ["setting", "a", "b", "c"], [["training.lr", "0.1", "0.2", "null"]]
    assert found.setting_rows() == settings
    assert found.as_dict()["runs"][1]["value"] == 1.5
    assert found.as_dict()["settings"]["training.lr"] == {"a": 0.1, "b": 0.2, "c": None}
    assert "<td>b</td>" in found._repr_html_()
    assert [line.get_label() for line in found.figure().axes[0].lines] == ["a", "b", "c"]
    assert plots.as_png(found.figure()).startswith(b"\x89PNG")


def test_of_log_densities_the_highest_is_best():
    a, b = run("a", 2.0), run("b", 1.5)
    for one in (a, b):
        one.settings["kind"] = "vector"
    assert [row[1] for row in compare([a, b]).rows()[1]] == ["-1.5000 ± 0.0500", "-2.0000 ± 0.0500"]


def test_runs_of_one_name_are_named_by_their_folders():
    a, b = run("a", 2.0), run("a", 1.5)
    b.folder = Path("other/a")
    assert [entry["run"] for entry in compare([a, b]).numbers()] == ["runs/a", "other/a"]


def test_what_cannot_be_compared_is_refused():
    a, b = run("a", 2.0), run("b", 1.0)
    b.settings["kind"] = "vector"
    with pytest.raises(ValueError, match="a in bits/dim, b in nats"):
        compare([a, b])
    with pytest.raises(ValueError, match="at least two runs"):
        compare([a])
