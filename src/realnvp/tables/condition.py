"""What the density of a table's rows is conditioned on: nothing, classes, numbers, or a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from realnvp.columns.schema import TableSchema
from realnvp.data.labels import named
from realnvp.flow import Flow
from realnvp.pretrained import condition_names, table_of
from realnvp.tables.frames import as_table
from realnvp.utils.errors import some_of

__all__ = ["Condition"]

FEW_CLASSES, MOST_CLASSES = 10, 50
"""Integers with at most the first number of values are classes; with more than the second,
numbers."""

ROWS_PER_CLASS = 4
"""Rows per integer from which on integers in between are classes: of rarer ones, some may be
missing."""


@dataclass(frozen=True, eq=False)
class Condition:
    """What the density is conditioned on: nothing, classes, or numbers.

    Args:
        categories: classes in order, if there are classes.
        dim: number of numbers, 0 if there are none.
        name: name of the condition in a file.
        schema: columns of a condition that is a table of columns of any kind; it is encoded as
            their features.
        columns: names of the columns of a condition of several numbers that was given as a table.
    """

    categories: NDArray | None = None
    dim: int = 0
    name: str | None = None
    schema: TableSchema | None = None
    columns: tuple[str, ...] | None = None

    @staticmethod
    def of(condition: ArrayLike | None, n: int, name: str | None = None) -> Condition:
        """Detect the kind of a condition from its values."""
        if condition is None:
            return Condition()
        if isinstance(condition, pd.DataFrame):
            condition = as_table(condition)
        if isinstance(condition, pd.DataFrame) and _needs_schema(condition):
            schema = TableSchema.of(condition, where="condition")
            dim = schema.as_condition(np.zeros((1, schema.dim))).shape[1]
            return Condition(None, dim, ",".join(schema.names), schema)
        values = _as_rows(condition, n)
        if values.shape[1] == 1 and values.dtype.kind in "OUSbiu":
            classes = np.unique(_comparable(values[:, 0]))
            if values.dtype.kind in "OUS" and len(classes) == n > FEW_CLASSES:
                raise ValueError(
                    f"condition has {n} different classes in {n} rows, such as '{classes[0]}': "
                    "convert numbers that are text with astype(float), and dates to numbers"
                )
            most = min(MOST_CLASSES, max(FEW_CLASSES, n / ROWS_PER_CLASS))
            if values.dtype.kind not in "iu" or len(classes) <= most:
                return Condition(classes, name=name or "label")
        if not np.isfinite(values.astype(np.float64)).all():
            raise ValueError("condition contains NaN or infinity")
        columns = None
        if isinstance(condition, pd.DataFrame) and values.shape[1] > 1:
            columns = tuple(str(column) for column in condition.columns)
        return Condition(None, values.shape[1], name or "condition", columns=columns)

    @staticmethod
    def of_flow(flow: Flow) -> Condition:
        """Return the condition of a model of a table, wherever it was trained."""
        saved = None if flow.trained_on is None else flow.trained_on.estimator
        if saved is not None:
            return Condition.from_dict(saved["condition"])
        schema = table_of(flow, "condition_table")
        if schema is not None:
            return Condition(None, flow.condition_dim, ",".join(schema.names), schema)
        name = next(iter(condition_names(flow)), None)
        if flow.classes is not None:
            return Condition(np.array(flow.class_names or range(flow.classes)), name=name)
        return Condition(None, flow.condition_dim, name)

    @property
    def names(self) -> list[str]:
        """Names of the columns in which a table has the condition."""
        if self.schema is not None:
            return list(self.schema.names)
        return list(self.columns or ([self.name] if self.name else []))

    def of_table(self, frame: pd.DataFrame, where: str) -> Any:
        """Return the columns of a table that are the condition; None if there is no condition.

        Raises:
            ValueError: if one is missing.
        """
        if not self.names:
            return None
        for name in self.names:
            if name not in frame.columns:
                raise ValueError(
                    f"{where} has no column {name!r}, on which the density is conditioned; its "
                    f"columns are {some_of(list(map(str, frame.columns)))}"
                )
        one = len(self.names) == 1 and self.schema is None
        return frame[self.names[0] if one else self.names]

    @property
    def classes(self) -> int | None:
        """Number of classes, None if there are none."""
        return None if self.categories is None else len(self.categories)

    def codes(
        self, condition: ArrayLike | None, n: int, repeat: bool = False
    ) -> torch.Tensor | None:
        """Return the condition in the form that the flow takes.

        Args:
            condition: condition, as in fit.
            n: number of rows.
            repeat: whether a single condition may stand for all of them.

        Raises:
            ValueError: if it is not of the kind that was fitted.
        """
        if self.categories is None and not self.dim:
            if condition is not None:
                raise ValueError("the density was fitted without a condition: leave it out")
            return None
        if condition is None:
            raise ValueError("the density was fitted with a condition: pass one for each row")
        if isinstance(condition, pd.DataFrame):
            condition = as_table(condition)
        if self.schema is not None:
            return self._features(condition, n, repeat)
        values = condition = self._in_order(condition)
        if repeat and (np.ndim(condition) == 0 or len(np.asarray(condition)) == 1 != n):
            values = np.repeat(np.atleast_1d(np.asarray(condition)), n, axis=0)
        rows = _as_rows(values, n)
        if self.categories is not None:
            rows = _comparable(rows[:, 0])[:, None] if rows.shape[1] == 1 else rows
            if rows.dtype.kind in "biuf" and self.categories.dtype.kind == "U":
                names = named(rows[:, 0], self.categories.tolist())
                rows = names.astype(str)[:, None] if names.dtype == object else rows
            if (rows.dtype.kind == "U") != (self.categories.dtype.kind == "U"):
                raise ValueError(
                    f"condition holds other classes than the fitted {self.categories[:3].tolist()}"
                )
            place = np.searchsorted(self.categories, rows[:, 0]).clip(max=len(self.categories) - 1)
            unknown = self.categories[place] != rows[:, 0]
            if rows.shape[1] != 1 or unknown.any():
                bad = rows[unknown, 0][:1].tolist() or [rows.shape]
                raise ValueError(
                    f"unknown class {bad[0]!r} in condition: there are "
                    f"{some_of(list(map(str, self.categories)))}"
                )
            return torch.as_tensor(place)
        numbers = rows.astype(np.float64)
        if numbers.shape[1] != self.dim or not np.isfinite(numbers).all():
            raise ValueError(f"condition must be finite numbers of shape ({n}, {self.dim})")
        return torch.as_tensor(numbers)

    def _in_order(self, condition: ArrayLike) -> ArrayLike:
        """Return the columns of a table in the order of the fitted table."""
        if self.columns is None or not isinstance(condition, pd.DataFrame):
            return condition
        missing = [column for column in self.columns if column not in condition.columns]
        if missing:
            raise ValueError(
                f"condition has no column {missing[0]!r}: pass {some_of(list(self.columns))}"
            )
        return condition[list(self.columns)]

    def _features(self, condition: Any, n: int, repeat: bool) -> torch.Tensor:
        assert self.schema is not None
        if isinstance(condition, Mapping):
            condition = pd.DataFrame([condition])
        if not isinstance(condition, pd.DataFrame):
            raise ValueError(
                f"the condition is a table: pass a DataFrame with {some_of(self.schema.names)}"
            )
        if repeat and len(condition) == 1 != n:
            condition = condition.loc[condition.index.repeat(n)]
        if len(condition) != n:
            raise ValueError(f"condition must have one row for each of {n}, got {len(condition)}")
        return torch.as_tensor(
            self.schema.as_condition(self.schema.rows(condition, where="condition"))
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        schema = None if self.schema is None else self.schema.as_dict()
        categories = None if self.categories is None else self.categories.tolist()
        columns = None if self.columns is None else list(self.columns)
        return {
            "categories": categories, "dim": self.dim, "name": self.name, "schema": schema,
            "columns": columns,
        }  # fmt: skip

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Condition:
        """Return the inverse of :meth:`as_dict`."""
        categories = value["categories"]
        if categories is not None:
            categories = np.asarray(categories)
            if categories.ndim != 1 or categories.dtype.kind not in "Ubiuf":
                raise ValueError("its classes are neither names nor numbers")
        schema = None if value.get("schema") is None else TableSchema.from_dict(value["schema"])
        columns = value.get("columns")
        if columns is not None:
            columns = tuple(map(str, columns))
        return Condition(categories, int(value["dim"]), value["name"], schema, columns)


def _needs_schema(condition: pd.DataFrame) -> bool:
    """Return whether a table is neither numbers without gaps nor a single column of classes."""
    numeric = all(
        pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
        for kind in condition.dtypes
    )
    return condition.shape[1] > 1 and (not numeric or bool(condition.isna().any(axis=None)))


def _as_rows(condition: ArrayLike, n: int) -> NDArray:
    values = np.asarray(condition)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != n:
        raise ValueError(f"condition must have one row for each of {n}, got shape {values.shape}")
    return values


def _comparable(values: NDArray) -> NDArray:
    """Return classes that can be sorted: all names, or all numbers."""
    if pd.isna(values).any():
        raise ValueError("condition has missing values")
    if values.dtype.kind == "S":
        return values.astype(str)
    if values.dtype.kind != "O":
        return values
    if all(isinstance(value, str) for value in values):
        return values.astype(str)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("condition mixes names and numbers: use one of them") from error
    return numbers
