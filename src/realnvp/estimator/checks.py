"""The estimator's checks of a table's columns and its condition.

:class:`~realnvp.data.columns.TableSchema` detects what the columns are, as for the command line.
Columns that are constant, or follow from others, have an infinite density: they are left out of the
model with a warning, and restored in samples.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
)

from realnvp.columns.schema import TableSchema
from realnvp.data.parquet import to_frame
from realnvp.utils.errors import some_of

__all__ = [
    "Condition",
    "as_table",
    "check_no_gaps",
    "checked_frame",
    "row_weights",
    "schema_of",
]

FEW_CLASSES, MOST_CLASSES = 10, 50
"""Integers with at most the first number of values are classes; with more than the second,
numbers."""

ROWS_PER_CLASS = 4
"""Rows per integer from which on integers in between are classes: of rarer ones, some may be
missing."""


def as_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with names and types as a schema has them, and as in files.

    Names are text. Dates and decimal numbers that are Python objects or of Arrow become those of
    pandas, periods their first day, times and intervals text.

    Raises:
        ValueError: if two columns have the same name.

    >>> as_table(pd.DataFrame({3: [0.5]})).columns.tolist()
    ['3']
    >>> as_table(pd.DataFrame({"when": [date(2020, 1, 31), None]})).dtypes.tolist()
    [dtype('<M8[s]')]
    """
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two columns are called {twice!r}: rename one of them")
    frame = frame.set_axis(names, axis=1)
    return frame.assign(
        **{
            name: _plain(frame[name])
            for name, kind in zip(names, frame.dtypes, strict=True)
            if kind in (np.float16, np.longdouble, object) or not isinstance(kind, np.dtype)
        }
    )


def _plain(values: pd.Series) -> pd.Series:
    """Return a column in a type of NumPy or pandas, the same one if it has one already."""
    kind = values.dtype
    if isinstance(kind, pd.ArrowDtype):
        import pyarrow as pa

        if pa.types.is_temporal(kind.pyarrow_dtype) or pa.types.is_decimal(kind.pyarrow_dtype):
            held = pa.table({"": pa.chunked_array(values.array.__arrow_array__())})
            return to_frame(held)[""].set_axis(values.index)
        return values.astype("category") if pa.types.is_dictionary(kind.pyarrow_dtype) else values
    if isinstance(kind, pd.PeriodDtype):
        return values.dt.to_timestamp()
    if isinstance(kind, pd.IntervalDtype):
        return values.astype(str).where(values.notna())
    if isinstance(kind, pd.CategoricalDtype):
        odd = not all(isinstance(v, str | Number | np.bool_) for v in kind.categories)
        return values.cat.rename_categories(list(map(str, kind.categories))) if odd else values
    if kind in (np.float16, np.longdouble):
        return values.astype(np.float32 if kind == np.float16 else np.float64)
    if not pd.api.types.is_object_dtype(kind):
        return values
    there = values.dropna()
    if len(there) and all(isinstance(v, date) for v in there):
        with contextlib.suppress(ValueError):  # several time zones
            return pd.to_datetime(values)
    if len(there) and all(isinstance(v, time) for v in there):
        return values.map(str, na_action="ignore")
    decimals = any(isinstance(v, Decimal) for v in there)
    numbers = decimals and all(isinstance(v, Number) for v in there)
    return pd.to_numeric(values) if numbers else values


def check_no_gaps(X: Any) -> None:
    """Raise ValueError if an array of numbers has NaN, which only a DataFrame's gaps may be."""
    if isinstance(X, np.ndarray) and X.dtype.kind == "f" and np.isnan(X).any():
        row = int(np.argmax(np.isnan(X).reshape(len(X), -1).any(axis=1)))
        raise ValueError(
            f"X has NaN, first in row {row} (counting from 0): missing values are modeled in a "
            "DataFrame, pass pd.DataFrame(X)"
        )


def checked_frame(estimator: Any, X: pd.DataFrame, reset: bool) -> pd.DataFrame:
    """Check a table of columns of any kind as scikit-learn's ``validate_data`` does with numbers.

    Args:
        estimator: the estimator, whose ``n_features_in_`` and ``feature_names_in_`` are set or
            checked.
        X: the table.
        reset: whether the table is that of a fit.

    Raises:
        ValueError: if it has too few rows or columns, or other columns than in the fit.
    """
    _check_feature_names(estimator, X, reset=reset)
    _check_n_features(estimator, X, reset=reset)
    least = {"samples": (len(X), 2 if reset else 1), "features": (X.shape[1], 1)}
    for what, (found, needed) in least.items():
        if found < needed:
            raise ValueError(
                f"Found array with {found} {what[:-1]}(s) (shape={X.shape}) while a "
                f"minimum of {needed} is required by {type(estimator).__name__}."
            )
    return X


def row_weights(sample_weight: ArrayLike | None, X: Any) -> NDArray | None:
    """Return checked weights of the rows, with the mean 1; None if all count alike.

    Raises:
        ValueError: if they are negative, or leave fewer than two rows.

    >>> row_weights([0, 2e-50, 6e-50], np.zeros((3, 1)))
    array([0. , 0.5, 1.5])
    """
    if sample_weight is None:
        return None
    rows = np.empty((len(X), 1))
    weight = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
    if (weight > 0).sum() < 2:
        raise ValueError("at least 2 rows need a positive sample_weight")
    weight = weight / weight.max()  # the sum of large ones could overflow
    # Shares that are too small for float32 count as 0.
    weight = np.where(weight < 1e-30, 0.0, weight)
    return None if (weight == weight[0]).all() else weight * ((weight > 0).sum() / weight.sum())


def schema_of(
    frame: pd.DataFrame,
    integers: str | Sequence,
    columns: Mapping[Any, str] | str | None,
    *,
    numbers: bool,
    keep_range: bool = False,
) -> TableSchema:
    """Detect the columns of a table, and warn about those that are not modeled as they are.

    Args:
        frame: the table.
        integers: "auto", "none", or indices or names of the integer columns.
        columns: kinds of columns by name or index, or one kind for all.
        numbers: whether the table is an array of numbers, whose names are indices.
        keep_range: whether samples keep the range of every column of numbers.

    Raises:
        ValueError: if no column varies freely, or one cannot be modeled.
    """
    names = [str(name) for name in frame.columns]
    kinds: dict[str, str] | str | None = columns if isinstance(columns, str) else {}
    if not isinstance(kinds, str):
        assert kinds is not None
        kinds |= {str(name): kind for name, kind in dict(columns or {}).items()}  # type: ignore[arg-type]
        kinds = {**_declared(frame, names, integers, numbers), **kinds}
    if numbers and keep_range:
        raise ValueError("keep_range is for the columns of a DataFrame, and X is an array")
    schema = TableSchema.of(frame, kinds, numbers=numbers, keep_range=keep_range)
    if schema.dim < 1:
        raise ValueError(
            f"a density needs a column that varies, and all of {len(names)} are constant"
        )
    declared = set(kinds) if isinstance(kinds, dict) else set(names)
    _warn(
        "columns are left out, and samples do not have them",
        [f"{name} ({why})" for name, why in schema.left_out.items()],
    )
    for doubt in schema.doubts(frame):
        warnings.warn(doubt, stacklevel=3)
    _warn("constant columns have no density and are left out of it", _of_kind(schema, "constant"))
    _warn(
        "columns that are a linear function of others have no density of their own and are left "
        "out of it",
        _of_kind(schema, "copy", "linear"),
    )
    if numbers and (
        chosen := [name for name in _of_kind(schema, "integer") if name not in declared]
    ):
        warnings.warn(
            f"integer columns are dequantized, their density is a probability: {some_of(chosen)}; "
            f'declare them with integers=[...], or integers="none"',
            stacklevel=3,
        )
    return schema


def _of_kind(schema: TableSchema, *kinds: str) -> list[str]:
    return [column.name for column in schema.columns if column.kind in kinds]


def _declared(
    frame: pd.DataFrame, names: list[str], integers: str | Sequence, numbers: bool
) -> dict[str, str]:
    """Return the kinds that the setting ``integers`` declares."""
    real = [
        name for i, name in enumerate(names)
        if pd.api.types.is_numeric_dtype(frame.dtypes.iloc[i]) and frame.iloc[:, i].nunique() > 1
    ]  # fmt: skip
    if isinstance(integers, str):
        if integers not in ("auto", "none"):
            raise ValueError(f'integers is "auto", "none" or a list of columns, got {integers!r}')
        return dict.fromkeys(real, "continuous") if integers == "none" else {}
    chosen = [names[_position(column, names)] for column in integers]
    for name in chosen:
        values = frame.iloc[:, names.index(name)].dropna().to_numpy(dtype=np.float64)
        if (values != np.floor(values)).any():
            raise ValueError(f"column {name} is declared in integers, but holds fractions")
        if numbers and np.abs(values - np.floor(values.mean())).max() > 2**18:
            raise ValueError(
                f"column {name} is declared in integers, but holds numbers more than 262,144 apart"
            )
    kinds = dict.fromkeys(real, "continuous") if numbers else {}
    return kinds | {name: "integer" for name in chosen if name in real}


def _warn(what: str, names: list[str]) -> None:
    if names:
        warnings.warn(f"{what}: {some_of(names)}", stacklevel=4)


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


def _position(column: int | str, names: list[str]) -> int:
    if isinstance(column, str):
        if column not in names:
            raise ValueError(f"integers names a column {column!r} that does not exist")
        return names.index(column)
    if not 0 <= column < len(names):
        raise ValueError(f"integers are columns 0 .. {len(names) - 1}, got {column}")
    return int(column)
