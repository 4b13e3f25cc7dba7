"""Learning curves."""

from __future__ import annotations

import math

import pytest
from matplotlib.figure import Figure

from realnvp import plots


def records(n: int) -> list[dict]:
    train = [{"kind": "train", "seconds": i, "loss": 100 / (i + 1) + 3} for i in range(n)]
    return [*train, {"kind": "validation", "seconds": n, "loss": 3.5}]


def test_curves_show_loss_and_validation_over_minutes():
    (axes,) = plots.learning_curves(records(120), "bits/dim").axes
    assert axes.get_ylabel() == "bits/dim: lower is better"
    assert axes.get_xlabel() == "minutes of training"
    assert [str(line.get_label()).split(",")[0] for line in axes.lines] == [
        "training", "validation"
    ]  # fmt: skip
    assert axes.lines[0].get_xdata()[-1] == pytest.approx(119 / 60)
    assert axes.get_ylim()[1] < 30, "the first losses are above the picture"


def test_curves_of_vectors_are_log_densities():
    unit = "nats (log-density)"
    (axes,) = plots.learning_curves(records(120), unit, sign=-1.0).axes
    assert axes.get_ylabel() == "nats (log-density): higher is better"
    assert axes.lines[1].get_ydata()[0] == -3.5
    assert -30 < axes.get_ylim()[0] < axes.get_ylim()[1] < 0


def test_curves_of_a_run_that_has_just_begun():
    assert plots.as_png(plots.learning_curves([], "nats")).startswith(b"\x89PNG")


def test_curves_of_several_runs_are_over_each_other():
    runs = {
        name: [
            {"kind": "validation", "step": 10 * i, "seconds": i, "loss": base - i,
             "standard_error": 0.1}
            for i in range(3)
        ]
        for name, base in (("a", 5.0), ("b", 6.0))
    }  # fmt: skip
    runs["b"].append({"kind": "validation", "step": 40, "seconds": 4, "loss": math.nan})
    axes = Figure().subplots()
    figure = plots.run_curves(runs, "nats (log-density)", sign=-1.0, by="steps", ax=axes)
    assert figure is axes.figure
    assert axes.get_xlabel() == "steps"
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert list(axes.lines[1].get_xdata()) == [0, 10, 20], "a NaN is left out"
    assert list(axes.lines[1].get_ydata()) == [-6, -5, -4]
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (-5.1, -2.9)
