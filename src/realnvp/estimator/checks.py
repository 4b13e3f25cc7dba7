"""The estimator's checks of a table's columns and its condition.

:class:`~realnvp.data.columns.TableSchema` detects what the columns are, as for the command line.
Columns that are constant, or follow from others, have an infinite density: they are left out of the
model with a warning, and restored in samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
)

from realnvp.columns.schema import TableSchema
from realnvp.utils.errors import some_of

__all__ = [
    "check_no_gaps",
    "checked_frame",
    "row_weights",
    "schema_of",
]


def check_no_gaps(X: Any) -> None:
    """Raise ValueError if numbers have NaN, which only those of a fitted DataFrame may be."""
    frame = isinstance(X, pd.DataFrame)
    if frame or (isinstance(X, np.ndarray) and X.dtype.kind == "f"):
        gaps = np.asarray(pd.isna(X))
        if gaps.any():
            advice = (
                "the fitted table had none"
                if frame
                else "missing values are modeled in a DataFrame, pass pd.DataFrame(X)"
            )
            row = int(np.argmax(gaps.reshape(len(X), -1).any(axis=1)))
            raise ValueError(f"X has NaN, first in row {row} (counting from 0): {advice}")


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


def _position(column: int | str, names: list[str]) -> int:
    if isinstance(column, str):
        if column not in names:
            raise ValueError(f"integers names a column {column!r} that does not exist")
        return names.index(column)
    if not 0 <= column < len(names):
        raise ValueError(f"integers are columns 0 .. {len(names) - 1}, got {column}")
    return int(column)
