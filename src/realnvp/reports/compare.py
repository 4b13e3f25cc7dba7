"""Comparison of runs: the settings that differ, results with their errors, overlaid curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from realnvp import plots
from realnvp.reports.run import Run
from realnvp.utils.html import table
from realnvp.utils.progress import duration

__all__ = ["Comparison", "compare", "setting_text"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Results of several runs, and the settings in which they differ.

    Args:
        runs: the runs.
        settings: values of each setting that is not the same in all runs, in the order of the runs;
            None where a run has no such setting.
    """

    runs: Sequence[Run]
    settings: dict[str, list[Any]]

    @property
    def unit(self) -> str:
        """Unit of the results."""
        return self.runs[0].unit

    def numbers(self) -> list[dict[str, Any]]:
        """Return the results of each run.

        Each has "run" and "folder", "value" in :attr:`unit` with "standard_error" and "examples",
        the "part" of the data ("best validation" if the run has not ended), "kl" where the true
        density is known, "steps", "seconds" and "parameters". Where the examples are also those of
        the best run, "difference" is the mean of the paired differences from it, with
        "difference_standard_error", which is often smaller than the errors of the two results.
        """
        entries = []
        paired = self._paired()
        copied = ("standard_error", "examples", "kl", "kl_standard_error")
        for run in self.runs:
            record = run.final or run.best or {}
            value = record.get("loss")
            entry = {
                "run": run.name,
                "folder": str(run.folder),
                "value": None if value is None else run.sign * value,
                "part": record["part"] if run.final else "best validation",
                "steps": run.steps,
                "seconds": run.seconds,
                "parameters": _parameters(run),
            }
            entry |= {name: record.get(name) for name in copied}
            entries.append(entry | paired.get(run.name, {}))
        return entries

    def _paired(self) -> dict[str, dict[str, float]]:
        """Return the differences of runs from the best one, by name, and their errors."""
        ended = [(final["loss"], i) for i, run in enumerate(self.runs) if (final := run.final)]
        best = self.runs[min(ended)[1]] if ended else None
        reference = None if best is None else _scores(best)
        differences: dict[str, dict[str, float]] = {}
        for run in self.runs:
            scores = None if run is best or reference is None else _scores(run)
            if scores is not None and reference is not None and scores[0] == reference[0]:
                each = scores[1] - reference[1]
                differences[run.name] = {
                    "difference": float(each.mean()),
                    "difference_standard_error": float(each.std(ddof=1) / len(each) ** 0.5),
                }
        return differences

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of a table: one row for each run, best first.

        Runs without any validation come last.
        """
        better = "lower" if self.runs[0].is_of_images else "higher"
        unit = self.unit.partition(" (")[0]
        sign = self.runs[0].sign

        def rank(entry: dict[str, Any]) -> float:
            value = entry["value"]
            return float("inf") if value is None or value != value else sign * value

        columns: dict[str, list[str]] = {}
        for entry in sorted(self.numbers(), key=rank):
            examples = entry["examples"]
            difference = entry.get("difference"), entry.get("difference_standard_error")
            row = {
                "run": entry["run"],
                f"{unit} ({better} is better)": with_error(entry["value"], entry["standard_error"]),
                "from the best, paired": with_error(*difference),
                "KL(true || model)": with_error(entry["kl"], entry["kl_standard_error"]),
                "of": "" if examples is None else f"{examples:,} {entry['part']}",
                "steps": f"{entry['steps']:,}",
                "time": duration(entry["seconds"]),
            }
            for name, text in row.items():
                columns.setdefault(name, []).append(text)
        for name in ("from the best, paired", "KL(true || model)"):
            if not any(columns[name]):
                del columns[name]
        return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]

    def setting_rows(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of a table: one row for each setting that differs."""
        header = ["setting", *(run.name for run in self.runs)]
        return header, [[name, *map(setting_text, v)] for name, v in self.settings.items()]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        names = [run.name for run in self.runs]
        settings = {
            key: dict(zip(names, values, strict=True)) for key, values in self.settings.items()
        }
        return {"unit": self.unit, "settings": settings, "runs": self.numbers()}

    def figure(self) -> Figure:
        """Draw the curves in one plot, by minutes and by steps, and the last samples below."""
        shown = [run for run in self.runs if run.pictures]
        wide = max(2, len(shown))
        figure = plots.Picture(
            figsize=(max(10.0, 3.4 * len(shown)), 8.0 if shown else 4.0), layout="constrained"
        )
        grid = figure.add_gridspec(2 if shown else 1, 2 * wide)
        records = {run.name: run.records for run in self.runs}
        for i, by in enumerate(("minutes", "steps")):
            axes = figure.add_subplot(grid[0, i * wide : (i + 1) * wide])
            plots.run_curves(records, self.unit, sign=self.runs[0].sign, by=by, ax=axes)  # type: ignore[arg-type]
        each = 2 * wide // max(len(shown), 1)
        for i, run in enumerate(shown):
            axes = figure.add_subplot(grid[1, i * each : (i + 1) * each])
            step, path = run.pictures[-1]
            with Image.open(path) as image:
                # Nearest where it is enlarged, and smooth where text would become illegible.
                axes.imshow(np.asarray(image.convert("RGB")), interpolation="antialiased")
            axes.set_title(f"{run.name}, step {step:,}", fontsize=10)
            axes.set_axis_off()
        return figure

    def _repr_html_(self) -> str:
        return table(*self.rows()) + table(*self.setting_rows())


def compare(runs: Sequence[Run]) -> Comparison:
    """Return the comparison of two runs or more.

    Raises:
        ValueError: if there are fewer, or some are of images, in bits/dim, and others of vectors,
            in nats.
    """
    if len(runs) < 2:
        raise ValueError("a comparison needs at least two runs")
    units = {run.unit for run in runs}
    if len(units) > 1:
        kinds = ", ".join(f"{run.name} in {run.unit}" for run in runs)
        raise ValueError(f"runs of images and of vectors cannot be compared: {kinds}")
    runs = _with_unique_names(runs)
    names = dict.fromkeys(name for run in runs for name in run.settings)
    settings = {name: [run.settings.get(name) for run in runs] for name in names}
    differ = {name: v for name, v in settings.items() if any(other != v[0] for other in v)}
    return Comparison(runs, differ)


def _with_unique_names(runs: Sequence[Run]) -> Sequence[Run]:
    """Name runs by their folders where several have the same last part."""
    names = [run.name for run in runs]
    for run in runs:
        if names.count(run.name) > 1:
            run.name = str(run.folder)
    return runs


def setting_text(value: Any) -> str:
    """Return the value of a setting as in YAML.

    >>> setting_text(None), setting_text(True), setting_text(0.001)
    ('null', 'true', '0.001')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def with_error(value: float | None, error: float | None) -> str:
    """Return a number with its standard error.

    >>> with_error(1.02834, 0.0024), with_error(None, None)
    ('1.0283 ± 0.0024', '')
    """
    if value is None:
        return ""
    return f"{value:.4f}" + ("" if error is None else f" ± {error:.4f}")


def _scores(run: Run) -> tuple[str, NDArray] | None:
    """Return the fingerprint of a run's reported examples, and the result of each of them."""
    try:
        saved, flow = run.log_likelihoods, run.flow
    except (ValueError, OSError):  # such as a model whose modules are not imported
        return None
    if saved is None or flow is None or len(saved[1]) < 2:
        return None
    return saved[0], -run.sign * saved[1] * abs(flow.unit[0])


def _parameters(run: Run) -> int | None:
    """Return the number of parameters; None without a model that can be loaded."""
    try:
        return None if run.flow is None else sum(p.numel() for p in run.flow.parameters())
    except (ValueError, OSError):  # such as a model whose modules are not imported
        return None
