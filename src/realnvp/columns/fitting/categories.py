"""The categories of a table, which are modeled before its other columns.

Columns of numbers with few values are treated as categories if one is nearly a function of another
column, or another of it, as a month is of the day of the year, or if the table of two columns fits
better than a smooth dependence: no smooth map would reproduce it.

How categories depend on each other is in :mod:`realnvp.columns.fitting.category_tables`. The
other columns are conditioned on features of the categories
(:mod:`realnvp.columns.fitting.category_features`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.columns.fitting.category_features import SIZE, embedding, indicator_feature
from realnvp.columns.fitting.category_tables import (
    MANY_ROWS,
    MOST_CELLS,
    MOST_COLUMNS,
    Frequencies,
    edges_of,
    fit_tables,
    pair,
)
from realnvp.columns.fitting.marginals import FittedColumns
from realnvp.columns.layer import TableColumns

if TYPE_CHECKING:
    from realnvp.columns.kinds import Feature  # with pandas, which images do not need

__all__ = ["ROUGH", "ROUGHER", "fit_categories"]

FittedCategories = tuple[dict[str, Any] | None, dict[str, Tensor]]
"""The arguments ``categories`` and ``category_tensors`` of :func:`realnvp.vector_flow`."""

MOST_VALUES = 1_000
"""Largest number of values of a column of numbers that may be categories."""

NEARLY = 0.25
"""Share of a column's entropy that remains given another, up to which it is nearly a function of
it."""

LISTED = 0.95
"""Share of a column's rows that are at its atoms, from which on it may be treated as categories."""

FEW_VALUES = 120
"""Largest number of values of numeric columns whose table is compared with a smooth dependence: for
more, a trained flow fits better, and the other columns get only few features of a table's
columns."""

ROUGH = 0.05
"""Gain in nats over a Gaussian copula from which on the table of a pair is kept."""

ROUGHER = 0.1
"""The same for a second model with fewer tables, between which and the first held-out rows choose:
a column in the tables is given three others at most."""


def fit_categories(
    features: Sequence[Feature],
    maps: FittedColumns,
    scores: Tensor,
    weight: Tensor,
    given: Tensor | None = None,
    rough: float = ROUGH,
) -> FittedCategories:
    """Return settings and tensors of the categories of a table; None if they are not modeled first.

    They are in a table with categories and a column that is not one, or with two and a condition.

    Args:
        features: meaning of each encoded column; empty if the rows are not a table's.
        maps: the maps of the columns; see :func:`~realnvp.columns.fitting.marginals.fit_columns`.
        scores: ``(N, D)`` normal scores of the rows.
        weight: ``(N,)`` weights of the rows, which add up to 1.
        given: ``(N, K)`` condition of the rows in the form that layers take, or None.
        rough: gain in nats over a Gaussian copula from which on the table of a pair is kept.
    """
    if not features:
        return None, {}
    w = weight.cpu().numpy() * len(weight)
    intervals, codes_of, own_of = _intervals(features, maps, scores, w, rough)
    where = [i for i, c in enumerate(features) if c.kind == "category" or i in intervals]
    least = 1 if given is None else min(1, 2 - len(where))
    if not where or len(features) - len(where) < least:
        return None, {}
    codes, own = np.column_stack([codes_of[i] for i in where]), [own_of[i] for i in where]
    sizes = [len(intervals[i]) - 1 for i in where]
    order, parents, tables, slopes = fit_tables(codes, own, w, given)
    place = {j: i for i, j in enumerate(order)}
    links = [
        {"column": where[j], "size": sizes[j], "parents": [place[p] for p in parents[j]]}
        for j in order
    ]
    others = scores[:, [i for i in range(len(features)) if i not in where]].numpy()
    parts = embedding(codes[:, order], [sizes[j] for j in order], others, w)
    for k, j in enumerate(order):
        if features[where[j]].kind != "category":  # also its magnitude
            parts[k] = np.column_stack([parts[k], SIZE * _middles(intervals[where[j]])])
        first_missing = features[where[j]].first_missing
        if first_missing is not None and sizes[j] > 2:
            is_missing = np.arange(sizes[j]) >= first_missing
            parts[k] = np.column_stack([parts[k], indicator_feature(is_missing, own[j].counts)])
    total, done = sum(part.shape[1] for part in parts), 0
    rows = []
    for part in parts:  # each column has its own features
        rows.append(np.pad(part, ((0, 0), (done, total - done - part.shape[1]))))
        done += part.shape[1]
    width = max(sizes) + 1
    edges = [intervals[where[j]] for j in order]
    padded = np.stack([np.pad(row, (0, width - len(row)), constant_values=1.0) for row in edges])
    tensors = {
        "edges": torch.as_tensor(padded),
        "tables": torch.as_tensor(np.concatenate([edges_of(tables[j]).ravel() for j in order])),
        "embedding": torch.as_tensor(np.concatenate(rows)),
    }
    if slopes:
        tensors["slopes"] = torch.cat([slopes[j] for j in order], dim=1)
    return {"links": links, "features": total}, tensors


def _intervals(
    features: Sequence[Feature], maps: FittedColumns, scores: Tensor, w: NDArray, rough: float
) -> tuple[dict[int, NDArray], dict[int, NDArray], dict[int, Frequencies]]:
    """Return the edges of the intervals of every column that is modeled first, from 0 to 1.

    These are the categories, and, with many rows, the numbers with few values that are nearly a
    function of another column, or of which another column is one, or that are in a pair whose table
    fits better than a smooth dependence; edges between two unseen values are left out. Unseen
    numbers have the share that their own map gives them.

    Returns:
        the edges of each column, the intervals of the rows, and how often each occurs.
    """
    columns, tensors = maps
    assert columns is not None  # a table has maps
    edges = {i: row.numpy() for i, row in _cell_edges(columns, tensors).items()}
    found = {i: row for i, row in edges.items() if features[i].kind == "category"}
    numbers = []
    if len(w) >= MANY_ROWS and len(features) <= MOST_COLUMNS:
        for i in edges.keys() - found.keys():
            own = np.unique(np.concatenate(([0.0], edges[i], [1.0])))
            there = np.bincount(_codes(scores[:, i].numpy(), own), minlength=len(own) - 1) > 0
            if there.sum() <= MOST_VALUES and features[i].indicator is None:
                inner = there[:-1] | there[1:]
                found[i] = own[np.concatenate(([True], inner, [True]))]
                numbers.append(i)
    codes = {i: _codes(scores[:, i].numpy(), row) for i, row in found.items()}
    seen = {i: len(np.unique(own)) for i, own in codes.items()}
    frequencies = {}
    for i, row in found.items():
        unseen = w.sum() * np.diff(row) if i in numbers else np.full(len(row) - 1, 0.5)
        frequencies[i] = Frequencies.of(codes[i], w, unseen)
    near: set[int] = set()
    for j in found if numbers else []:
        entropy = -frequencies[j].alone
        for i in found:
            sizes = len(found[i]) - 1, len(found[j]) - 1
            if i != j and (i in numbers or j in numbers) and math.prod(sizes) <= MOST_CELLS:
                left = -pair(codes[i], codes[j], sizes[0], frequencies[j], w)[0]
                near |= {i, j} if left <= NEARLY * entropy else set()
                if all(seen[k] <= FEW_VALUES for k in (i, j)):
                    smooth = _smooth_gain(i, j, codes, scores, numbers) * w.sum()
                    near |= {i, j} if entropy - left > smooth + rough * w.sum() else set()
    kept = {i: row for i, row in found.items() if i in near or i not in numbers}
    return kept, codes, frequencies


def _smooth_gain(
    i: int, j: int, codes: Mapping[int, NDArray], scores: Tensor, numbers: Sequence[int]
) -> float:
    """Return the gain in nats per row of a Gaussian dependence of two columns."""
    number, group = (i, codes[j]) if i in numbers else (j, codes[i])
    x = scores[:, number].numpy()
    if i in numbers and j in numbers:
        explained = float(np.corrcoef(x, scores[:, j].numpy())[0, 1]) ** 2
    else:  # a number, by its mean in each category
        counts = np.maximum(np.bincount(group), 1)
        explained = float(np.var((np.bincount(group, x) / counts)[group]) / np.var(x))
    return -0.5 * math.log(max(1 - explained, 1e-12))


def _cell_edges(
    columns: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]
) -> dict[int, Tensor]:
    """Return the edges of the intervals of columns of cells, and of columns with mostly atoms."""
    layer = TableColumns(columns).double()
    layer.fill(tensors)
    kinds = [[i for i, c in enumerate(columns) if c["kind"] == k] for k in ("cells", "smooth")]
    found = {i: layer.edges[k, : columns[i]["size"] + 1] for k, i in enumerate(kinds[0])}
    if any(layer.columns[i]["atoms"] for i in kinds[1]):
        starts, stops, _ = layer.atom_intervals()
        for k, i in enumerate(kinds[1]):
            if layer.atom_edges[k, -1] >= LISTED:
                ends = torch.cat((starts[:, k], stops[:, k]))
                found[i] = torch.special.ndtr(ends[ends.isfinite()]).sort().values
    return found


def _codes(scores: NDArray, edges: NDArray) -> NDArray:
    """Return the interval of each score, as :class:`CategoriesFirst` does."""
    shares = torch.special.ndtr(torch.as_tensor(scores)).numpy()
    found = np.searchsorted(edges, shares, side="right") - 1
    return found.clip(0, len(edges) - 2)


def _middles(edges: NDArray) -> NDArray:
    """Return the scores in the middle of intervals, by their shares."""
    found: NDArray = torch.special.ndtri(torch.as_tensor((edges[1:] + edges[:-1]) / 2)).numpy()
    return found
