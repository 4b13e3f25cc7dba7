"""Settings of :class:`~realnvp.estimator.RealNVPDensity` that depend on what it is fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from realnvp.columns.schema import TableSchema

__all__ = ["Defaults"]

MEMBERS = 8
"""Flows that are averaged to model one column given numbers."""

MOST_AVERAGED = 20_000
"""Largest number of rows for which flows are averaged by default: eight take eight times as long,
and their gain was measured on up to 10,000 rows."""

MANY_ROWS = 10_000
"""Number of rows above which several columns have wider networks that are trained for longer; the
gain is in benchmarks/results/synthetic.md."""

AUTOREGRESSIVE_ROWS = 2_000
"""Number of rows from which on several numbers are modeled one after the other, or, if they are too
few or too many for that and given others, by wide networks with dropout
(benchmarks/results/posteriors.md). Fewer rows start as a mixture of Gaussians, which is better
there."""

AUTOREGRESSIVE_COLUMNS = range(3, 31)
"""Numbers of columns that are modeled one after the other: each has networks of its own, and two
columns are no worse as halves."""

NETWORKS = 1
"""Networks of each of these columns whose densities are averaged."""

FEW_VALUES = 50
"""Largest number of values of a column that a softmax classifier models: categories, or steps from
the smallest number to the largest."""

ROWS_PER_VALUE = 4
"""Smallest number of rows per value of such a column: frequencies of fewer are too uncertain."""

BINS = 32
"""Quantile intervals in which each number of a condition is encoded, for a density of one
column."""

MOST_FEATURES = 2_000
"""Largest number of features of a condition: with more numbers, there are fewer intervals of
each."""


@dataclass(frozen=True)
class Defaults:
    """The kind of density that is fitted, and the settings that suit it.

    Args:
        rows: number of rows.
        condition_dim: size of the condition, 0 for none.
        is_regression: whether the density is of one column, unconditional or given numbers.
        is_of_few_values: whether this column is discrete, with few values, and there is a
            condition.
        is_autoregressive: whether several columns of numbers are modeled one after the other.
        is_given: whether the density is of many rows of several columns, given numbers.
    """

    rows: int
    condition_dim: int
    is_regression: bool
    is_of_few_values: bool
    is_autoregressive: bool = False
    is_given: bool = False

    @staticmethod
    def of(
        rows: Tensor,
        schema: TableSchema,
        condition_dim: int,
        classes: int | None,
        halves: bool = False,
    ) -> Defaults:
        """Return the settings for coordinates ``(N, D')`` of a table.

        Args:
            rows: the coordinates.
            schema: columns of the table.
            condition_dim: size of the condition, 0 for none.
            classes: number of classes, if the condition is a class.
            halves: whether couplings of halves of the columns are asked for.
        """
        few = bool(condition_dim) and _is_of_few_values(rows, schema)
        numbers = sum(feature.kind != "category" for feature in schema.features)
        is_regression = schema.dim == 1 and classes is None
        several = numbers in AUTOREGRESSIVE_COLUMNS and not is_regression
        enough = len(rows) >= AUTOREGRESSIVE_ROWS and classes is None
        is_autoregressive = several and enough and not halves
        is_given = bool(condition_dim) and enough and not is_regression
        return Defaults(len(rows), condition_dim, is_regression, few, is_autoregressive, is_given)

    @property
    def members(self) -> int:
        """Number of flows to average: several for one column given numbers, or one after others."""
        if self.is_autoregressive:
            return NETWORKS
        regression = self.is_regression and bool(self.condition_dim)
        several = self.is_of_few_values or (regression and self.rows <= MOST_AVERAGED)
        return MEMBERS if several else 1

    @property
    def bins(self) -> int:
        """Number of intervals of each number of the condition of one column."""
        if not self.is_regression or not self.condition_dim:
            return 0
        return min(BINS, max(0, MOST_FEATURES // self.condition_dim - 1))

    def settings(self, coupling: str | None, members: int) -> dict[str, Any]:
        """Return the settings by their names in the estimator, or in the recipe.

        Args:
            coupling: kind of the coupling layers, None for the default.
            members: number of flows that are averaged.
        """
        few = self.is_of_few_values
        found: dict[str, Any] = {
            "architecture": "realnvp", "components": 8, "dropout": 0.0, "networks": 1,
            "coupling": coupling or ("piecewise_linear" if few else "gaussian_mixture"),
            "couplings": 4, "hidden": 32, "mixture_init": "auto", "max_steps": 2000, "patience": 5,
            "lr": "auto", "weight_decay": "auto", "smoothing": "auto", "decay": "constant",
        }  # fmt: skip
        if self.is_regression:
            found |= {"couplings": 2, "hidden": 64, "mixture_init": 1}
            found["patience"] = 15 if members == 1 else 8
        elif self.rows > MANY_ROWS:
            found |= {"hidden": 64, "max_steps": 6000, "decay": "cosine"}
        if self.is_autoregressive:
            found |= {
                "architecture": "autoregressive", "hidden": 64, "components": 16, "dropout": 0.2,
                "max_steps": max(3000, found["max_steps"]), "patience": 15, "decay": "cosine",
                "networks": members,
            }  # fmt: skip
        elif self.is_given:
            found |= {
                "hidden": 128, "dropout": 0.1, "weight_decay": 0.1, "max_steps": 6000,
                "patience": 20, "decay": "cosine",
            }  # fmt: skip
        classifier = few and found["coupling"] == "piecewise_linear"
        if classifier:
            found |= {"couplings": 1, "patience": 5 if members == 1 else 3}
        found["condition_bins"] = self.bins if classifier or members > 1 else 0
        return found


def _is_of_few_values(rows: Tensor, schema: TableSchema) -> bool:
    """Return whether a table is a single discrete column with few cells."""
    if schema.dim > 1 or schema.features[0].kind == "number":
        return False
    cells = float(rows.max() - rows.min()) / schema.features[0].step + 1
    return cells <= FEW_VALUES and len(rows.unique()) * ROWS_PER_VALUE <= len(rows)
