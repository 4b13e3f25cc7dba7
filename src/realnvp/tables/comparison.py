r"""Real and synthetic rows side by side: what a classifier, columns, pairs and neighbors tell.

The measures are those of the field: the area under the ROC curve (AUC) of a classifier that tells
synthetic rows from real ones, 0.5 if it cannot; for each column the distance of Kolmogorov and
Smirnov, or of categories the total variation; for each pair of columns the total variation of their
joint frequencies, of numbers in fifths; and, as a measure of privacy, whether synthetic rows are
copies of the rows that were trained on, or nearer to them than to rows that were kept aside.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from realnvp.columns.schema import TableSchema
from realnvp.outliers.neighbors import RowNeighbors
from realnvp.tables.frames import as_pandas, as_table
from realnvp.utils.hashing import row_hashes

__all__ = ["RowComparison", "compare_rows"]

MOST_ROWS = 20_000
"""Largest number of rows of each table that the classifier and the neighbors see."""

FOLDS = 5


@dataclass(frozen=True)
class RowComparison:
    """How real and synthetic rows differ.

    Attributes:
        rows: number of real and of synthetic rows.
        impossible: fraction of synthetic rows with a value that real rows cannot have.
        auc: AUC of the classifier; 0.5 if it cannot tell the rows apart.
        auc_error: standard error of the AUC, over folds.
        columns: distance by column, 0 if they are equal and 1 at most.
        pairs: distance by pair of columns, the largest first.
        copies: fraction of synthetic rows that equal a real row.
        copies_by_chance: fraction of synthetic rows that equal a row kept aside, of as many as
            there are real rows; None without such rows.
        nearer_to_real: fraction of synthetic rows that are nearer to a real row than to one kept
            aside, of equally many; 0.5 if nothing was memorized. None without such rows.
    """

    rows: tuple[int, int]
    impossible: float
    auc: float
    auc_error: float
    columns: dict[str, float]
    pairs: dict[str, float]
    copies: float
    copies_by_chance: float | None = None
    nearer_to_real: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)


def compare_rows(
    real: Any, synthetic: Any, kept_aside: Any = None, *, seed: int = 0
) -> RowComparison:
    """Compare synthetic rows with the real rows that a model was trained on.

    Args:
        real: table of real rows.
        synthetic: table with the same columns.
        kept_aside: other real rows, which the model has not seen: the classifier compares with
            them, and privacy needs them.
        seed: seed of the classifier and of which rows are taken.

    Raises:
        ValueError: if a table lacks a column, or has fewer than ten rows.

    >>> import pandas as pd
    >>> rows = pd.DataFrame(np.random.default_rng(0).normal(size=(600, 2)), columns=["a", "b"])
    >>> found = compare_rows(rows[:200], rows[200:400], rows[400:])
    >>> abs(found.auc - 0.5) < 0.15, found.copies, max(found.columns.values()) < 0.2
    (True, 0.0, True)
    """
    real, synthetic = as_table(as_pandas(real)), as_table(as_pandas(synthetic))
    schema = TableSchema.of(real, where="the real table")
    random = np.random.default_rng(seed)
    x, _ = schema.encode(real, where="the real table")
    y, possible = schema.encode(synthetic, where="the synthetic table")
    other = None
    if kept_aside is not None:
        other, _ = schema.encode(as_table(as_pandas(kept_aside)), where="the rows kept aside")
    if min(len(x), len(y), len(x) if other is None else len(other)) < 2 * FOLDS:
        raise ValueError(f"each table needs at least {2 * FOLDS} rows")
    auc, error = _auc(schema, x if other is None else other, y, random)
    names = [column.name for column in schema.columns if column.size]
    pairs = {f"{a} and {b}": _pair_distance(schema, x, y, a, b) for a, b in combinations(names, 2)}
    chance = nearer = None
    if other is not None:
        n = min(len(x), len(other), MOST_ROWS)
        few, near, aside = _some(y, MOST_ROWS, random), _some(x, n, random), _some(other, n, random)
        chance = _copies(y, _some(other, min(len(x), len(other)), random))
        nearer = _fraction_nearer(schema, few, near, aside)
    return RowComparison(
        (len(x), len(y)),
        float((~possible).mean()),
        auc,
        error,
        {name: _column_distance(schema, x, y, name) for name in names},
        dict(sorted(pairs.items(), key=lambda pair: -pair[1])),
        _copies(y, x),
        chance,
        nearer,
    )


def _some(rows: NDArray, n: int, random: np.random.Generator) -> NDArray:
    return rows if len(rows) <= n else rows[random.permutation(len(rows))[:n]]


def _auc(
    schema: TableSchema, x: NDArray, y: NDArray, random: np.random.Generator
) -> tuple[float, float]:
    """Return the AUC of boosted trees that tell rows apart, and its standard error."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    n = min(len(x), len(y), MOST_ROWS)
    both = np.concatenate([_some(x, n, random), _some(y, n, random)])
    few = [f.kind == "category" and f.size <= 255 for f in schema.features]
    trees = HistGradientBoostingClassifier(
        max_iter=200, early_stopping=False, categorical_features=few, random_state=0
    )
    labels = np.repeat([0, 1], n)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=int(random.integers(2**31 - 1)))
    scores = cross_val_score(trees, both, labels, cv=folds, scoring="roc_auc")
    return float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(FOLDS))


def _features(schema: TableSchema, rows: NDArray, name: str) -> tuple[NDArray, NDArray | None]:
    """Return the state of a column, such as its category or that it is missing, and its number."""
    part, last = rows[:, schema.places[name]], schema.features[schema.places[name].stop - 1]
    if last.kind == "category":
        return part[:, 0], None
    state = part[:, 0] if part.shape[1] > 1 else np.zeros(len(part))
    return state, part[:, -1]


def _column_distance(schema: TableSchema, x: NDArray, y: NDArray, name: str) -> float:
    """Return the distance of Kolmogorov and Smirnov, or the total variation of states if larger."""
    (state_x, number_x), (state_y, number_y) = (_features(schema, r, name) for r in (x, y))
    distance = _variation(np.nan_to_num(state_x, nan=-1), np.nan_to_num(state_y, nan=-1))
    if number_x is None or number_y is None:
        return distance
    own, new = number_x[np.isfinite(number_x)], number_y[np.isfinite(number_y)]
    if not len(own) or not len(new):
        return max(distance, float(len(own) != len(new)))
    return max(distance, float(ks_2samp(own, new).statistic))


def _pair_distance(schema: TableSchema, x: NDArray, y: NDArray, a: str, b: str) -> float:
    """Return the total variation of the joint frequencies of two columns, numbers in fifths."""
    joint_x, joint_y = np.zeros(len(x)), np.zeros(len(y))
    for name in (a, b):
        cells_x, cells_y = _cells(schema, x, y, name)
        width = max(cells_x.max(), cells_y.max()) + 2
        joint_x, joint_y = joint_x * width + cells_x + 1, joint_y * width + cells_y + 1
    return _variation(joint_x, joint_y)


def _cells(schema: TableSchema, x: NDArray, y: NDArray, name: str) -> tuple[NDArray, NDArray]:
    (state_x, number_x), (state_y, number_y) = (_features(schema, r, name) for r in (x, y))
    states = np.nan_to_num(state_x, nan=-1), np.nan_to_num(state_y, nan=-1)
    if number_x is None or number_y is None:
        return states
    seen = number_x[np.isfinite(number_x)]
    if not len(seen):
        return states
    edges = np.unique(np.quantile(seen, np.linspace(0, 1, 6)[1:-1]))
    bins = (np.searchsorted(edges, np.nan_to_num(n), side="right") for n in (number_x, number_y))
    first, second = (s * 6 + b for s, b in zip(states, bins, strict=True))
    return first, second


def _variation(a: NDArray, b: NDArray) -> float:
    """Return the total variation between the frequencies of values in two samples."""
    values = np.unique(np.concatenate([a, b]))
    p, q = (np.bincount(np.searchsorted(values, v), minlength=len(values)) / len(v) for v in (a, b))
    return float(np.abs(p - q).sum() / 2)


def _copies(y: NDArray, x: NDArray) -> float:
    """Return the fraction of rows that equal one of others."""
    same = np.isin(row_hashes(np.nan_to_num(y, nan=1e300)), row_hashes(np.nan_to_num(x, nan=1e300)))
    return float(same.mean())


def _fraction_nearer(schema: TableSchema, y: NDArray, x: NDArray, other: NDArray) -> float:
    """Return the fraction of rows ``y`` that are nearer to ``x`` than to ``other``; ties are half.

    Columns are standardized by both together.
    """
    both = np.concatenate([x, other])
    nearest = RowNeighbors(both, [f.kind == "category" for f in schema.features])
    to_real, to_other = nearest.to_parts(y, len(x))
    return float((to_real < to_other).mean() + 0.5 * (to_real == to_other).mean())
