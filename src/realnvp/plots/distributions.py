"""Distributions: latents against the standard normal, real against synthetic tables, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from realnvp.plots.canvas import CYCLE, DATA, MODEL, Picture, limits, panel, plain
from realnvp.plots.plane import scatter

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "conditional",
    "coverage",
    "draws",
    "latents",
    "norms",
    "pairs",
    "probabilities",
    "quantiles",
    "range_of",
    "scores",
    "table_marginals",
    "table_rows",
]

MOST = 200_000
"""Largest number of values in a histogram or a quantile plot; of more, every k-th one is used."""

MANY = 12
"""A column with more values than this is drawn as an axis of points."""


def _some(values: ArrayLike) -> NDArray:
    flat = np.asarray(values, dtype=np.float64).ravel()
    return flat[:: -(-len(flat) // MOST)] if len(flat) > MOST else flat


def latents(z: ArrayLike, *, title: str = "", ax: Axes | None = None) -> Figure:
    """Draw the histogram of latents over the density of the standard normal.

    Args:
        z: latents of any shape.
        title: title of the panel.
        ax: axes to draw into; new ones if left out.
    """
    figure, axes = panel(ax, (3.4, 2.8))
    values, at = _some(z), np.linspace(-4.5, 4.5, 181)
    axes.hist(np.clip(values, -4.5, 4.5), bins=90, range=(-4.5, 4.5), density=True, color=MODEL,
              alpha=0.5)  # fmt: skip
    axes.plot(at, np.exp(-0.5 * at**2) / np.sqrt(2 * np.pi), color="black", linewidth=1)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(f"latent: mean {values.mean():.3f}, std {values.std():.3f}", fontsize=9)
    axes.set_yticks([])
    return figure


def quantiles(z: ArrayLike, *, title: str = "", ax: Axes | None = None) -> Figure:
    """Draw the quantiles of latents against the standard normal ones (a QQ plot).

    Args:
        z: latents of any shape.
        title: title of the panel.
        ax: axes to draw into; new ones if left out.
    """
    from scipy.special import ndtri

    figure, axes = panel(ax, (3.4, 2.8))
    values = np.sort(_some(z))
    n = len(values)
    # Every quantile in the tails, which have few values, and 400 of the others.
    index = np.unique(np.r_[: min(n, 100), np.linspace(0, n - 1, min(n, 400)).astype(int),
                            max(0, n - 100) : n])  # fmt: skip
    normal = ndtri((index + 0.5) / n)
    axes.plot(normal, normal, color="black", linewidth=1)
    axes.plot(normal, values[index], color=MODEL, marker=".", ms=3, linestyle="none")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("quantiles of the standard normal", fontsize=9)
    axes.set_ylabel("of the latents", fontsize=9)
    axes.grid(alpha=0.3)
    return figure


def coverage(
    z: Sequence[ArrayLike], names: Sequence[str] = (), *, ax: Axes | None = None
) -> Figure:
    """Draw how many latents are inside the central intervals of the standard normal.

    A calibrated model is on the diagonal: the interval of probability p holds the fraction p of the
    latents of new data.

    Args:
        z: groups of latents, such as one for each scale.
        names: their names.
        ax: axes to draw into; new ones if left out.
    """
    from scipy.special import ndtri

    figure, axes = panel(ax, (4.0, 3.6))
    nominal = np.linspace(0, 1, 101)
    inside = ndtri(0.5 + nominal / 2)
    axes.plot(nominal, nominal, color="black", linewidth=1)
    for i, values in enumerate(z):
        inside_count = np.searchsorted(np.sort(np.abs(_some(values))), inside, side="right")
        fraction = inside_count / max(len(_some(values)), 1)
        name = names[i] if i < len(names) else ""
        axes.plot(nominal, fraction, color=CYCLE[i % len(CYCLE)], label=name, linewidth=1.5)
    axes.set_xlabel("probability of the central interval", fontsize=9)
    axes.set_ylabel("fraction of the latents inside", fontsize=9)
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize=8)
    return figure


def norms(z: ArrayLike, *, ax: Axes | None = None) -> Figure:
    r"""Draw the histogram of :math:`P(\chi^2_D \le \|z\|^2)`, which is flat for a calibrated model.

    Values near 1 are examples that lie further out than the model's own samples do.

    Args:
        z: latents ``(N, ...)`` of N examples.
        ax: axes to draw into; new ones if left out.
    """
    from scipy.special import gammainc

    figure, axes = panel(ax, (4.0, 3.6))
    values = np.asarray(z, dtype=np.float64)
    flat = values.reshape(len(values), -1)
    u = gammainc(flat.shape[1] / 2, (flat**2).sum(1) / 2)  # the CDF of chi-squared
    axes.hist(u, bins=20, range=(0, 1), density=True, color=MODEL, alpha=0.5)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_xlabel(r"$P(\chi^2_D \leq \|z\|^2)$ of held-out examples", fontsize=9)
    axes.set_ylabel("density", fontsize=9)
    return figure


def scores(
    held_out: ArrayLike,
    unit: str,
    *,
    marks: ArrayLike = (),
    ax: Axes | None = None,
) -> Figure:
    """Draw the histogram of the scores of held-out data, with other examples marked in it.

    Args:
        held_out: scores of the held-out data ``(N,)``.
        unit: name of the unit.
        marks: scores of other examples, each a vertical line; those far outside are at the border,
            with the farthest value as text.
        ax: axes to draw into; new ones if left out.
    """
    figure, axes = panel(ax, (6.0, 3.2))
    values, other = np.asarray(held_out, np.float64), np.asarray(marks, np.float64).ravel()
    low, high = np.quantile(values, [0.002, 0.998]) if len(values) else (0.0, 1.0)
    span = max(high - low, 1e-9)
    low, high = low - 0.1 * span, high + 0.1 * span
    # Unusual examples are far outside, but not so far that nothing else is visible.
    if len(other):
        low, high = max(min(low, other.min()), low - 2 * span), min(
            max(high, other.max()), high + 2 * span
        )  # fmt: skip
    axes.hist(np.clip(values, low, high), bins=60, range=(low, high), color=DATA, alpha=0.5,
              density=True, label=f"{len(values):,} others")  # fmt: skip
    for i, value in enumerate(other):
        label = "yours" if i == 0 else None
        axes.axvline(np.clip(value, low, high), color=MODEL, linewidth=1.2, label=label)
    across = axes.get_xaxis_transform()
    if (other < low).any():
        axes.text(low, 0.5, f" ← {other.min():.4g}", transform=across, fontsize=8)
    if (other > high).any():
        axes.text(high, 0.5, f"{other.max():.4g} → ", transform=across, fontsize=8, ha="right")
    axes.set_xlabel(unit)
    axes.set_yticks([])
    axes.legend(fontsize=8)
    return figure


def _overlaid(axes: Axes, real: NDArray, synthetic: NDArray) -> None:
    real, synthetic = (values[np.isfinite(values)] for values in (real, synthetic))
    reference = real if len(real) else synthetic
    if not len(reference):  # a column of missing values
        return
    low, high = np.quantile(reference, [0.001, 0.999])
    pad = 0.05 * (high - low) + 1e-9
    distinct = np.unique(reference)
    # Integers have one bar each, as long as there are few of them.
    if len(distinct) <= 30 and (distinct == np.floor(distinct)).all():
        bins = np.arange(distinct.min() - 0.5, distinct.max() + 1.5)
    else:
        bins = np.linspace(low - pad, high + pad, 31)
    for values, color, label in ((real, DATA, "real"), (synthetic, MODEL, "synthetic")):
        if not len(values):
            continue
        inside = values[(values >= bins[0]) & (values <= bins[-1])]
        weights = np.full(len(inside), 1 / max(len(values), 1))
        axes.hist(inside, bins=bins.tolist(), weights=weights, color=color, alpha=0.5, label=label)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)


def range_of(values: NDArray) -> tuple[float, float]:
    """Return the range of some values, with half of it as a margin on both sides.

    >>> range_of(np.array([0.0, 1.0]))
    (-0.5, 1.5)
    """
    low, high = float(values.min()), float(values.max())
    margin = 0.5 * (high - low) or 1.0
    return low - margin, high + margin


def conditional(
    at: ArrayLike, density: ArrayLike, value: float, column: str, *, ax: Axes | None = None
) -> Figure:
    """Draw the density of a column given the others, and the value that it has.

    Args:
        at: values of the column.
        density: its density there, as :func:`realnvp.evaluation.column_density` returns it.
        value: value that the row has.
        column: name of the column.
        ax: axes to draw into; new ones if left out.
    """
    figure, axes = panel(ax, (6.0, 3.2))
    x, y = np.asarray(at), np.asarray(density)
    axes.fill_between(x, y, color=MODEL, alpha=0.4, linewidth=0)
    axes.axvline(value, color="black", linewidth=1.2, label=f"the row has {value:.5g}")
    likely = x[y > 1e-3 * y.max()]
    pad = 0.1 * (likely.max() - likely.min()) + 1e-9
    axes.set_xlim(min(likely.min(), value) - pad, max(likely.max(), value) + pad)
    axes.set_xlabel(f"{plain(column)}, given the other columns")
    axes.legend(fontsize=8)
    return figure


def probabilities(p: pd.Series, value: Any, column: str, *, ax: Axes | None = None) -> Figure:
    """Draw the probabilities of a column's categories given the others, and the one it has.

    Args:
        p: probabilities by category, of which the likeliest twelve are drawn.
        value: category that the row has.
        column: name of the column.
        ax: axes to draw into; new ones if left out.
    """
    shown = p.sort_values(ascending=False).iloc[:12][::-1]
    figure, axes = panel(ax, (6.0, 1.2 + 0.28 * len(shown)))
    missing = value is None or value != value
    is_value = [name is None if missing else str(name) == str(value) for name in shown.index]
    names = ["(missing)" if name is None else plain(str(name)) for name in shown.index]
    axes.barh(names, shown.to_numpy(), color=[MODEL if is_own else "0.7" for is_own in is_value])
    axes.set(xlim=(0, 1), xlabel=f"probability of {plain(column)}, given the other columns")
    axes.set_title(f"red: the row has {'no value' if missing else plain(str(value))}", fontsize=9)
    return figure


def draws(values: pd.Series, value: Any, column: str, *, ax: Axes | None = None) -> Figure:
    """Draw the histogram of draws of a column given the others, and the value that it has.

    Args:
        values: draws, numbers or dates.
        value: value that the row has, which may be missing.
        column: name of the column.
        ax: axes to draw into; new ones if left out.
    """
    import pandas as pd

    figure, axes = panel(ax, (6.0, 3.2))
    drawn = _numbers(values.dropna())
    axes.hist(drawn, bins=min(40, max(5, len(np.unique(drawn)))), color=MODEL, alpha=0.5)
    if pd.notna(value):
        at = float(_numbers(pd.Series([value], dtype=values.dtype))[0])
        axes.axvline(at, color="black", linewidth=1.2, label=f"the row has {value}")
        axes.legend(fontsize=8)
    else:
        axes.set_title("the row has no value", fontsize=9)
    if _is_date(values):
        axes.xaxis_date()
        axes.tick_params(axis="x", labelrotation=20, labelsize=8)
    axes.set_xlabel(f"{plain(column)}, given the other columns")
    axes.set_yticks([])
    return figure


def table_marginals(real: pd.DataFrame, synthetic: pd.DataFrame, *, most: int = 12) -> Figure:
    """Draw every column of two tables overlaid: numbers, dates and categories.

    Args:
        real: a table; without rows, the synthetic ones are drawn alone.
        synthetic: a table with the same columns.
        most: largest number of columns to draw.
    """
    names = list(real.columns)[:most]
    reference = real if len(real) else synthetic
    wide = min(4, len(names))
    rows = -(-len(names) // wide)
    figure = Picture(figsize=(2.6 * wide, 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, wide, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        axes.set_title(plain(name), fontsize=9)
        if not _is_category(real[name]):
            _overlaid(axes, _numbers(real[name]), _numbers(synthetic[name]))
            if _is_date(real[name]):
                axes.xaxis_date()
                axes.tick_params(axis="x", labelrotation=30)
            continue
        texts = sorted(map(str, reference[name].dropna().unique()))
        codes = {text: float(code) for code, text in enumerate(texts)}
        places = (frame[name].astype(str).map(codes) for frame in (real, synthetic))
        _overlaid(axes, *(place.to_numpy(dtype=float) for place in places))
        if len(texts) <= 8:
            shown = [plain(text if len(text) <= 12 else f"{text[:11]}…") for text in texts]
            axes.set_xticks(range(len(shown)), shown, rotation=30, ha="right")
    panels[0].legend(fontsize=7)
    return figure


def table_rows(synthetic: pd.DataFrame, real: pd.DataFrame | None = None) -> Figure:
    """Plot rows drawn from a model of a table, in red, and real rows, in blue.

    They are points of the first two columns of numbers, or dates, that have many values. A table
    without two of them is drawn as the histograms of its first four columns, first the ones with
    many values.

    Args:
        synthetic: rows of the model.
        real: a table with the same columns; synthetic rows alone if left out.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"town": ["Rome", "Oslo"] * 9, "age": range(18), "size": range(18)})
    >>> axes = table_rows(frame).axes[0]
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('age', 'size')
    """
    reference = synthetic if real is None else real
    count = {str(name): reference[name].nunique() for name in reference}
    many = [n for n in count if count[n] > MANY and not _is_category(reference[n])]
    if len(many) < 2:
        others = [name for name in count if name not in many]
        shown = [*many, *sorted(others, key=lambda name: count[name] < 2)][:4]
        few = reference[shown]
        return table_marginals(few.iloc[:0] if real is None else few, synthetic[shown])

    def points(frame: pd.DataFrame) -> torch.Tensor:
        return torch.as_tensor(np.stack([_numbers(frame[name]) for name in many[:2]], axis=1))

    figure = scatter(points(synthetic), None if real is None else points(real), many)
    for axes in figure.axes:
        for name, axis in zip(many, (axes.xaxis, axes.yaxis), strict=False):
            if _is_date(reference[name]):
                axis.axis_date()
                axis.set_tick_params(labelsize=7)
    return figure


def _is_category(values: pd.Series) -> bool:
    """Return whether a column holds neither numbers, dates nor durations.

    >>> import pandas as pd
    >>> _is_category(pd.Series(["a", "b"])), _is_category(pd.Series([1.5, 2]))
    (True, False)
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    number = is_numeric_dtype(values) and not is_bool_dtype(values)
    return not number and not _is_date(values) and values.dtype.kind != "m"


def _is_date(values: pd.Series) -> bool:
    from pandas.api.types import is_datetime64_any_dtype  # which few pictures need

    return bool(is_datetime64_any_dtype(values))


def _numbers(values: pd.Series) -> NDArray:
    """Return numbers, dates in matplotlib's numbering, and seconds, with NaN for missing values."""
    if _is_date(values):
        local = values.dt.tz_localize(None) if values.dt.tz is not None else values
        days = local.to_numpy().astype("datetime64[us]").astype(np.float64) / 86_400e6
        return np.where(values.isna(), np.nan, days)
    if values.dtype.kind == "m":
        values = values.dt.total_seconds()
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def pairs(real: NDArray, synthetic: NDArray, columns: Sequence[str], *, most: int = 5) -> Figure:
    """Draw every pair of columns: real below the diagonal, synthetic above it.

    Args:
        real: ``(N, D)``.
        synthetic: ``(M, D)``.
        columns: names of the D columns.
        most: largest number of columns to draw.
    """
    count = min(len(columns), most)
    figure = Picture(figsize=(1.9 * count, 1.9 * count), layout="constrained")
    panels = figure.subplots(count, count, squeeze=False)
    low, high = limits(real[:, :count], 0.002, 0.08)
    for row in range(count):
        for column in range(count):
            axes = panels[row, column]
            axes.tick_params(labelsize=6)
            if row == column:
                _overlaid(axes, real[:, row], synthetic[:, row])
            else:
                values, color = (real, DATA) if row > column else (synthetic, MODEL)
                few = values[:1000]
                axes.plot(few[:, column], few[:, row], ".", color=color, ms=2, alpha=0.4)
                axes.set_ylim(low[row], high[row])
            axes.set_xlim(low[column], high[column])
            if row == count - 1:
                axes.set_xlabel(plain(columns[column]), fontsize=8)
            if column == 0:
                axes.set_ylabel(plain(columns[row]), fontsize=8)
    return figure
