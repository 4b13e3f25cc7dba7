r"""The maps of a table's columns, fitted to its training rows: marginal normal scores.

:class:`~realnvp.columns.kinds.Feature` describes what a column is; the map that makes it normal
is chosen here, by the likelihood of held-out rows: for numbers, the shape of their tails and the
number of knots of their spline. Numbers that are repeated far more often than their neighbors are
atoms (:mod:`realnvp.columns.atoms`). For numbers on a grid with many ties and for categories,
only their counts matter, with the mass of unseen values estimated from the values seen once (Good
1953).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.columns.fitting.rows import TrainingRows
from realnvp.columns.layer import TableColumns

if TYPE_CHECKING:
    from realnvp.columns.kinds import Feature  # with pandas, which images do not need

__all__ = ["fit_columns"]

FittedColumns = tuple[list[dict[str, Any]] | None, dict[str, Tensor]]
"""Settings and tensors of :class:`~realnvp.columns.layer.TableColumns`."""

KNOTS = (2, 6, 12, 24)
"""Candidate numbers of knots; two are a straight line."""

SMALLEST = 1e-9
"""Smallest standardized number whose logarithm is taken."""

PER_KNOT = 8
"""Smallest number of rows between two knots."""

FEW_ROWS = 20
"""With fewer rows, there are neither folds nor atoms."""

MOST_ROWS = 4_000
"""Number of rows by which shapes and knots are chosen; the maps are fitted to all rows."""

MOST_CELLS = 20_000
"""Number of steps from the smallest to the largest number, up to which each can have its own
cell."""

OFTEN = 5
"""Number of rows with the same number, from which on it may be an atom."""

BEYOND_CHANCE = 4.0
"""Number of standard deviations by which an atom is more frequent than its neighbors imply."""

ROUNDS = 4
"""Largest number of times that the map is fitted, to find out which atoms are beyond chance."""

MOST_ATOMS = 1_000
"""Largest number of atoms of a column: the most frequent ones."""

TIES = 0.5
"""Number of distinct values per row, up to which numbers with a step have cells."""


def fit_columns(rows: TrainingRows) -> FittedColumns:
    """Return settings and tensors of the first layer of a table; None if it needs no layer."""
    if not rows.features:
        if not rows.integers:
            return None, {}
        columns = range(rows.x.shape[1])
        return [{"kind": "plain", "step": i in rows.integers} for i in columns], {}
    x = rows.x.numpy()
    weight = np.ones(len(x)) if rows.weight is None else rows.weight.double().numpy()
    return layer_settings([
        fit_column(feature, x[:, i], weight) for i, feature in enumerate(rows.features)
    ])  # fmt: skip


def layer_settings(columns: Sequence[tuple[dict[str, Any], dict[str, NDArray]]]) -> FittedColumns:
    """Return settings and tensors of all columns, from those of each; shorter rows are padded."""
    most = max((len(t["knots"]) for _, t in columns if "knots" in t), default=0)
    atoms = max((settings.get("atoms", 0) for settings, _ in columns), default=0)
    cells = max((len(t["edges"]) for _, t in columns if "edges" in t), default=0)
    stacked: dict[str, list[Any]] = {}
    for _, tensors in columns:
        for name, values in tensors.items():
            row = np.asarray(values, dtype=np.float64)
            if name in ("knots", "values"):  # on along the straight tail
                more = 1.0 + np.arange(most - len(row))
                slope = tensors["slopes"][-1] if name == "values" else 1.0
                row = np.concatenate((row, row[-1] + slope * more))
            elif name in ("slopes", "edges", "atom_edges"):
                size = {"slopes": most, "edges": cells, "atom_edges": atoms + 1}[name]
                row = np.concatenate((row, np.full(size - len(row), row[-1])))
            elif name == "atoms":
                row = np.concatenate((row, np.zeros(atoms - len(row))))
            if atoms or not name.startswith("atom"):
                stacked.setdefault(name, []).append(row)
    padded = {name: torch.as_tensor(np.stack(rows)) for name, rows in stacked.items()}
    return [settings for settings, _ in columns], padded


def fit_column(
    feature: Feature, x: NDArray, weight: NDArray
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return settings and tensors of one column.

    Args:
        feature: description of the column.
        x: ``(N,)`` values, NaN where there is a gap.
        weight: ``(N,)`` weights.
    """
    here = ~np.isnan(x)
    x, weight = x[here], weight[here]
    if feature.kind == "category":
        counts = np.bincount(x.astype(int), weight, minlength=feature.size) + 0.5
        return _cells({"size": feature.size}, counts / counts.sum(), 0.0, 1.0, (0.0, 0.0))
    if feature.kind == "step" and len(x):
        index = np.rint((x - x.min()) / feature.step)
        few = len(np.unique(index)) <= max(TIES * len(x), 2)
        if few and index.max() < MOST_CELLS:
            return _ordered_cells(feature, x, weight)
    return _smooth(feature, x, weight)


# ---------------------------------------------------------------------- cells


def _cells(
    settings: dict[str, Any],
    share: NDArray,
    origin: float,
    step: float,
    outside: tuple[float, float],
    tails: tuple[float, float] = (1.0, 1.0),
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return cells of these shares, with a share outside of them at both ends."""
    inner = 1 - sum(outside)
    edges = outside[0] + inner * np.concatenate(([0.0], np.cumsum(share) / share.sum()))
    if outside[1] == 0:
        edges[-1] = 1.0
    tensors = {"cell_origin": origin, "cell_step": step, "edges": edges, "tails": tails}
    return {"kind": "cells", **settings}, {n: np.asarray(v) for n, v in tensors.items()}


def _ordered_cells(
    feature: Feature, x: NDArray, weight: NDArray
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return one cell for each step between the smallest and the largest number."""
    from scipy.special import ndtri

    step, low, high = feature.step, x.min(), x.max()
    size = round((high - low) / step) + 1
    bounded = [False, False]
    for side, bound in ((0, feature.lower), (1, feature.upper)):
        end = (low, high)[side]
        if bound is not None and abs(end - bound) <= 0.2 * size * step:
            # The bound itself need not be on the grid, as 0 is not on that of 0.5, 1.5, ...
            steps = (bound - end) / step
            inward = np.ceil(steps - 1e-6) if side == 0 else np.floor(steps + 1e-6)
            nearest = end + step * float(inward)
            low, high = (nearest, high) if side == 0 else (low, nearest)
            bounded[side] = True
    size = round((high - low) / step) + 1
    index = np.rint((x - low) / step).astype(int)
    counts = np.bincount(index, weight, minlength=size)
    once = float(((counts > 0) & (counts <= 1)).sum())
    n = counts.sum()
    # Unseen values are close to seen ones: their mass is spread over a window of several rows.
    width = max(3.0, size / max(n, 1.0) ** 0.5)
    reach = np.arange(-int(3 * width), int(3 * width) + 1)
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    near = np.convolve(counts, kernel, mode="full")[len(reach) // 2 :][:size]
    near = near / near.sum() + 0.05 / size
    share = counts + (once + 0.5) * near / near.sum()
    outside = tuple(0.0 if known else 0.5 / (n + 1) for known in bounded)
    # A tail beyond the ends is assumed to be as long as the distance from the median to the ends.
    middle, end = float(np.median(index)), -ndtri(0.5 / (n + 1))
    tails = (end / max(1.0, middle), end / max(1.0, size - middle))
    settings = {"size": size, "ordered": True, "status": feature.indicator}
    return _cells(settings, share, low, step, (outside[0], outside[1]), tails)


# ---------------------------------------------------------------------- smooth maps


def _smooth(
    feature: Feature, x: NDArray, weight: NDArray
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return the smooth map of the values between atoms, and the atoms.

    The smooth map predicts how frequent each candidate would be; those that are not more frequent
    beyond chance are fitted by the map again.
    """
    from scipy.special import ndtr

    if not feature.flexible or len(x) < FEW_ROWS:
        return _without_atoms(feature, x, weight)
    stepped = feature.kind == "step"
    index = np.rint((x - feature.origin) / feature.step) if stepped else x
    values, which, rows = np.unique(index, return_inverse=True, return_counts=True)
    counts = np.bincount(which, weight)
    often = rows >= OFTEN
    if often.sum() > MOST_ATOMS:
        often &= counts > np.sort(counts)[-MOST_ATOMS - 1]
    width = 0.0
    if stepped:
        values, width = feature.origin + feature.step * values, feature.step
    for _ in range(ROUNDS):
        rest = ~often[which]
        if not rest.any():  # once each
            rest = np.zeros(len(x), dtype=bool)
            rest[np.unique(which, return_index=True)[1]] = True
        found = _without_atoms(feature, x[rest], weight[rest])
        ends = np.concatenate((values[often], values[often] + width))
        low, high = np.split(ndtr(_evaluate(found, ends)[0]), 2)
        expected = weight[rest].sum() * (high - low)
        beyond = counts[often] > expected + BEYOND_CHANCE * np.sqrt(expected + 1)
        if beyond.all():
            break
        often[np.flatnonzero(often)[~beyond]] = False
    if not often.any():
        return found
    settings, tensors = found
    share = np.cumsum(counts[often]) / (weight.sum() + 0.5)
    more = {"atoms": values[often], "atom_edges": np.concatenate(([0.0], share))}
    return {**settings, "atoms": int(often.sum())}, tensors | more


def _without_atoms(
    feature: Feature, x: NDArray, weight: NDArray
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return the smooth map with the best likelihood of held-out rows, the simplest of equals."""
    rng = np.random.default_rng(0)
    if feature.kind == "step":
        y = x + feature.step * rng.random(len(x))
    else:
        y = x
    shapes = _shapes(feature, x)
    knots = [k for k in KNOTS if k == 2 or k * PER_KNOT <= len(x)] if feature.flexible else [2]
    best = (shapes[0], 2)
    if len(shapes) * len(knots) > 1 and len(x) >= FEW_ROWS:
        some = rng.permutation(len(x))[:MOST_ROWS]
        folds = [(some[1::2], some[::2]), (some[::2], some[1::2])]
        top: NDArray | None = None
        for shape in shapes:
            for count in knots:
                scores = np.concatenate([
                    _scores(_map(feature, shape, count, x[kept], y[kept], weight[kept]), y[held])
                    for kept, held in folds
                ])  # fmt: skip
                held_weight = np.concatenate([weight[held] for _, held in folds])
                if top is None or _is_clearly_better(scores, top, held_weight):
                    top, best = scores, (shape, count)
    return _map(feature, *best, x, y, weight)


def _shapes(feature: Feature, x: NDArray) -> list[str]:
    """Return the shapes that a column may have; the first is the simplest."""
    if feature.lower is not None and feature.upper is not None:
        return ["logit"]
    if feature.lower is not None:
        return ["log"]
    return ["linear", "asinh"] if feature.flexible and len(x) else ["linear"]


def _map(
    feature: Feature, shape: str, count: int, x: NDArray, y: NDArray, weight: NDArray
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Fit a map of a shape and a number of knots.

    Args:
        feature: description of the column.
        shape: one of the shapes of :class:`~realnvp.columns.layer.TableColumns`.
        count: number of knots.
        x: ``(N,)`` values.
        y: ``(N,)`` values with noise.
        weight: ``(N,)`` weights.
    """
    center, scale = _location(feature, shape, x, weight)
    t = (y - center) / scale
    if shape == "asinh":
        w = np.arcsinh(t)
    elif shape == "log":
        w = np.log(np.maximum(t, SMALLEST))
    elif shape == "logit":
        t = t.clip(1e-9, 1 - 1e-9)
        w = np.log(t) - np.log1p(-t)
    else:
        w = t
    knots, values, slopes = _line(w, weight) if count == 2 else _quantiles(w, weight, count)
    settings = {"kind": "smooth", "shape": shape, "knots": len(knots), "status": feature.indicator}
    settings["step"] = feature.kind == "step"
    tensors = {
        "center": center, "scale": scale, "origin": feature.origin,
        "step": feature.step if feature.kind == "step" else 1.0,
        "knots": knots, "values": values, "slopes": slopes,
        "atoms": np.zeros(0), "atom_edges": np.zeros(1),
    }  # fmt: skip
    return settings, {name: np.asarray(value) for name, value in tensors.items()}


def _location(feature: Feature, shape: str, x: NDArray, weight: NDArray) -> tuple[float, float]:
    """Return the shift of a column, and the scale by which it is then divided."""
    if not len(x):
        return 0.0, 1.0
    largest = np.abs(x).max() or 1.0  # sums neither overflow nor vanish, nor do squares below
    share = weight / weight.sum()
    mean = (share @ (x / largest)) * largest
    unit = np.abs(x - mean).max()
    varies = x.max() > x.min()  # the mean of equal values may be off by rounding
    std = math.sqrt(share @ ((x - mean) / unit) ** 2) * unit if varies else 1.0
    if shape in ("linear", "asinh"):
        if shape == "linear":
            return mean, std
        low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
        return middle, (high - low) / 1.35 if high > low else std
    low, high = feature.lower, feature.upper
    assert low is not None  # both shapes have a lower bound
    if feature.kind == "number":
        # A number at its bound would have an infinite score, so the bound is set a little further
        # out.
        gaps = np.diff(np.unique(x))
        room = 0.5 * gaps.min() if len(gaps) else 1.0
        low, high = low - room, None if high is None else high + room
        # Logarithms of smaller numbers are clamped. A fill value such as 1e20 must not set a scale
        # by which all numbers are smaller.
        std = min(std, room / SMALLEST) or std
    elif high is not None:
        high = high + feature.step
    return low, std if high is None else high - low


def _line(w: NDArray, weight: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return two knots of the straight line that standardizes."""
    share = weight / max(weight.sum(), 1e-300)
    mean = float(share @ w) if len(w) else 0.0
    std = math.sqrt(share @ (w - mean) ** 2) if len(w) and w.max() > w.min() else 1.0
    return np.array([mean - std, mean + std]), np.array([-1.0, 1.0]), np.full(2, 1 / std)


def _quantiles(w: NDArray, weight: NDArray, count: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return knots at quantiles, equally far apart in normal scores."""
    from scipy.special import ndtr, ndtri

    order = np.argsort(w)
    ascending, share = w[order], weight[order] / weight.sum()
    middle = np.cumsum(share) - 0.5 * share
    reach = float(ndtri(1 - PER_KNOT / 2 / max(len(w), PER_KNOT + 1)))
    values = np.linspace(-reach, reach, count)
    knots = np.interp(ndtr(values), middle, ascending)
    apart = 1e-3 * (knots[-1] - knots[0]) / count
    kept = [0]
    for i in range(1, count):
        if knots[i] - knots[kept[-1]] > apart:
            kept.append(i)
    if len(kept) < 3:
        return _line(w, weight)
    knots, values = knots[kept], values[kept]
    secants = np.diff(values) / np.diff(knots)
    slopes = np.empty(len(knots))
    slopes[[0, -1]] = secants[[0, -1]]
    slopes[1:-1] = 2 / (1 / secants[1:] + 1 / secants[:-1])  # monotone (Fritsch and Butland 1984)
    return knots, values, slopes


def _scores(column: tuple[dict[str, Any], dict[str, NDArray]], y: NDArray) -> NDArray:
    """Return the log-densities of numbers, with their noise, under the map of a column."""
    v, log_det = _evaluate(column, y)
    return log_det - 0.5 * np.square(v)


def _evaluate(
    column: tuple[dict[str, Any], dict[str, NDArray]], y: NDArray
) -> tuple[NDArray, NDArray]:
    """Return the scores of numbers, with their noise, and the logarithms of their derivatives."""
    settings, tensors = column
    specs, stacked = layer_settings([({**settings, "step": False, "status": None}, tensors)])
    assert specs is not None  # there is one column
    layer = TableColumns(specs).double()
    layer.fill(stacked)
    layer.train()
    v, log_det = layer(torch.as_tensor(y)[:, None])
    return v[:, 0].numpy(), log_det.numpy()


def _is_clearly_better(scores: NDArray, than: NDArray, weight: NDArray) -> bool:
    """Return whether scores are better by more than a standard error."""
    gain = scores - than
    share = weight / weight.sum()
    mean = float(share @ gain)
    error = math.sqrt(float(share**2 @ (gain - mean) ** 2))
    return mean > error
