"""Learning curves of one run, or of several in one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from realnvp.plots.canvas import CYCLE, DATA, MODEL, panel, plain

__all__ = ["learning_curves", "run_curves"]

Records = Sequence[Mapping[str, Any]]
By = Literal["minutes", "steps"]


def learning_curves(
    records: Records,
    unit: str,
    *,
    sign: float = 1.0,
    by: By = "minutes",
    training: str = "training, as the weights change",
    validation: str = "validation, of the averaged weights",
    ax: Axes | None = None,
) -> Figure:
    """Draw the curves of training and validation, from a run's metrics.

    Args:
        records: lines of ``metrics.jsonl``, or :attr:`realnvp.training.TrainingResult.records`.
        unit: name of the unit, see :attr:`realnvp.Flow.unit`.
        sign: factor of the losses: -1 shows log-densities.
        by: quantity of the horizontal axis: minutes of training, or steps.
        training: legend of the training curve.
        validation: legend of the validations.
        ax: axes to draw into; new ones if left out.

    >>> records = [{"kind": "validation", "step": 10, "seconds": 1.5, "loss": 2.0}]
    >>> learning_curves(records, "bits/dim").axes[0].get_ylabel()
    'bits/dim: lower is better'
    """
    figure, axes = panel(ax, (7.0, 4.4))
    trained, validated = (_curve(records, kind, sign, by) for kind in ("train", "validation"))
    axes.plot(*_columns(trained), color=DATA, alpha=0.5, label=training)
    axes.plot(*_columns(validated), color=MODEL, marker="o", ms=3, label=validation)
    _finish(axes, [value for _, value in trained + validated], unit, sign, by)
    return figure


def run_curves(
    runs: Mapping[str, Records],
    unit: str,
    *,
    sign: float = 1.0,
    by: By = "minutes",
    ax: Axes | None = None,
) -> Figure:
    """Draw the validations of several runs in one plot, with standard errors.

    Args:
        runs: records of each run, by its name.
        unit: name of their unit.
        sign: factor of the losses: -1 shows log-densities.
        by: quantity of the horizontal axis.
        ax: axes to draw into; new ones if left out.
    """
    figure, axes = panel(ax, (7.0, 4.4))
    values: list[float] = []
    for i, (name, records) in enumerate(runs.items()):
        color = CYCLE[i % len(CYCLE)]
        curve = _curve(records, "validation", sign, by)
        xs, ys = _columns(curve)
        axes.plot(xs, ys, color=color, marker="o", ms=3, label=plain(name))
        validations = [r for r in records if r["kind"] == "validation" and np.isfinite(r["loss"])]
        errors = np.array([r.get("standard_error", 0.0) for r in validations])
        axes.fill_between(xs, ys - errors, ys + errors, color=color, alpha=0.15, linewidth=0)
        values += [value for _, value in curve]
    _finish(axes, values, unit, sign, by)
    return figure


def _curve(records: Records, kind: str, sign: float, by: By) -> list[tuple[float, float]]:
    at = {"minutes": lambda r: r["seconds"] / 60, "steps": lambda r: r["step"]}[by]
    chosen = [r for r in records if r["kind"] == kind and np.isfinite(r["loss"])]
    return [(at(r), sign * r["loss"]) for r in chosen]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _finish(axes: Axes, values: Sequence[float], unit: str, sign: float, by: By) -> None:
    """Label the axes, and crop most of the first losses, which are far worse than all others."""
    finite = sign * np.array([value for value in values if np.isfinite(value)])
    if len(finite) > 10:
        low, high = finite.min(), np.quantile(finite, 0.9)
        best, worst = low - 0.05 * (high - low) - 1e-3, high + 0.3 * (high - low) + 1e-3
        axes.set_ylim(*sorted((sign * best, sign * worst)))
    axes.set_xlabel("minutes of training" if by == "minutes" else "steps")
    axes.set_ylabel(f"{unit}: {'lower' if sign > 0 else 'higher'} is better")
    axes.grid(alpha=0.3)
    axes.legend()
