"""What the estimator knows about a table's columns and its condition, between scikit-learn's
arrays and the flow's tensors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import _check_sample_weight

from realnvp.data.dataset import integer_columns
from realnvp.utils.errors import some_of

__all__ = ["Columns", "Condition", "row_weights"]


def row_weights(sample_weight: ArrayLike | None, X: NDArray) -> NDArray | None:
    """Checked weights of the rows; None if all count alike.

    Raises:
        ValueError: if they are negative, or leave fewer than two rows.

    >>> row_weights([0, 2, 2], np.zeros((3, 1)))
    array([0., 2., 2.])
    """
    if sample_weight is None:
        return None
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if (weight > 0).sum() < 2:
        raise ValueError("at least 2 rows need a positive sample_weight")
    return None if (weight == weight[0]).all() else weight


@dataclass(frozen=True, eq=False)
class Columns:
    """Which columns vary, which hold whole numbers, and the values of the constant ones.

    The flow sees the columns that vary, standardized in float64, as it computes in float32; those
    of whole numbers are only shifted, by a whole number.

    Args:
        constant: a row of the table.
        varies: ``(D,)`` booleans.
        integers: numbers, among the columns that vary, of those with whole numbers.
        shift: ``(D',)``, subtracted from the columns that vary.
        scale: ``(D',)``, by which they are divided.
    """

    constant: NDArray
    varies: NDArray
    integers: tuple[int, ...]
    shift: NDArray
    scale: NDArray

    @staticmethod
    def of(X: NDArray, integers: str | Sequence, names: Sequence[str] | None = None) -> Columns:
        """Look at the rows of a table.

        Raises:
            ValueError: if fewer than two columns vary, or declared ones do not hold whole numbers.
        """
        varies = (X[0] != X).any(axis=0)
        label = list(map(str, range(X.shape[1]) if names is None else names))
        if varies.sum() < 2:
            raise ValueError(
                f"a density by couplings needs at least 2 columns that vary, got "
                f"{int(varies.sum())} of {X.shape[1]}: use sklearn.neighbors.KernelDensity"
            )
        if not varies.all():
            some = some_of([label[i] for i in np.flatnonzero(~varies)])
            warnings.warn(
                f"constant columns have no density and are left out of it: {some}", stacklevel=3
            )
        whole = set(integer_columns(torch.as_tensor(X - np.floor(X.mean(axis=0)))))
        if isinstance(integers, str):
            if integers not in ("auto", "none"):
                raise ValueError(
                    f'integers is "auto", "none" or a list of columns, got {integers!r}'
                )
            chosen = sorted(whole & set(np.flatnonzero(varies))) if integers == "auto" else []
            if chosen:
                some = some_of([label[i] for i in chosen])
                warnings.warn(
                    f"columns of whole numbers are dequantized, their density is a probability: "
                    f'{some}; declare them with integers=[...], or integers="none"',
                    stacklevel=3,
                )
        else:
            chosen = [_position(column, label) for column in integers]
            for i in chosen:
                if i not in whole:
                    fractions = (X[:, i] != np.floor(X[:, i])).any()
                    why = "fractions" if fractions else "numbers more than 262,144 apart"
                    raise ValueError(f"column {label[i]} is declared in integers, but holds {why}")
        place = np.cumsum(varies) - 1
        integers = tuple(int(place[i]) for i in chosen if varies[i])
        shift, scale = X[:, varies].mean(axis=0), X[:, varies].std(axis=0)
        lost = scale <= 1e-13 * np.abs(shift)
        if lost.any():
            name = label[int(np.flatnonzero(varies)[np.argmax(lost)])]
            raise ValueError(f"column {name} varies less than float64 can tell from its mean")
        shift[list(integers)] = np.floor(shift[list(integers)])
        scale[list(integers)] = 1.0
        return Columns(X[0].copy(), varies, integers, shift, scale)

    @property
    def log_det(self) -> float:
        """The log-determinant of the standardization."""
        return -float(np.log(self.scale).sum())

    def rows(self, X: NDArray) -> torch.Tensor:
        """The columns that vary as the flow sees them, ``(N, D) -> (N, D')``."""
        return torch.as_tensor((X[:, self.varies] - self.shift) / self.scale)

    def table(self, x: torch.Tensor) -> NDArray:
        """All columns, ``(N, D') -> (N, D)``."""
        table = np.repeat(self.constant[None], len(x), axis=0)
        table[:, self.varies] = x.numpy() * self.scale + self.shift
        return table

    def possible(self, X: NDArray) -> NDArray:
        """Rows that can be: constant columns have their value, whole numbers no fraction."""
        same = (X[:, ~self.varies] == self.constant[~self.varies]).all(axis=1)
        whole = X[:, self.varies][:, list(self.integers)]
        return same & (whole == np.floor(whole)).all(axis=1)


@dataclass(frozen=True, eq=False)
class Condition:
    """What the density is conditioned on: nothing, classes, or standardized numbers.

    Args:
        categories: the classes in order, if there are classes.
        mean: of the numbers, ``(K,)``, if there are numbers.
        std: their deviations.
    """

    categories: NDArray | None = None
    mean: NDArray | None = None
    std: NDArray | None = None

    @staticmethod
    def of(condition: ArrayLike | None, n: int) -> Condition:
        """Look at the condition of a table's rows."""
        if condition is None:
            return Condition()
        values = _as_rows(condition, n)
        if _are_classes(values):
            return Condition(np.unique(_comparable(values[:, 0])))
        numbers = values.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("condition contains NaN or infinity")
        std = numbers.std(axis=0)
        return Condition(None, numbers.mean(axis=0), np.where(std > 0, std, 1.0))

    @property
    def classes(self) -> int | None:
        """Number of classes, None if there are none."""
        return None if self.categories is None else len(self.categories)

    def codes(
        self, condition: ArrayLike | None, n: int, repeat: bool = False
    ) -> torch.Tensor | None:
        """The condition as the flow takes it.

        Args:
            condition: as in fit.
            n: how many rows there are.
            repeat: whether a single condition may stand for all of them.

        Raises:
            ValueError: if it is not of the kind that was fitted.
        """
        if self.categories is None and self.mean is None:
            if condition is not None:
                raise ValueError("the density was fitted without a condition: leave it out")
            return None
        if condition is None:
            raise ValueError("the density was fitted with a condition: pass one for each row")
        values = condition
        if repeat and (np.ndim(condition) == 0 or len(np.asarray(condition)) == 1 != n):
            values = np.repeat(np.atleast_1d(np.asarray(condition)), n, axis=0)
        rows = _as_rows(values, n)
        if self.categories is not None:
            rows = _comparable(rows[:, 0])[:, None] if rows.shape[1] == 1 else rows
            if _text(rows) != _text(self.categories):
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
        assert self.mean is not None  # it is one of the two
        numbers = rows.astype(np.float64)
        if numbers.shape[1] != len(self.mean) or not np.isfinite(numbers).all():
            raise ValueError(f"condition must be finite numbers of shape ({n}, {len(self.mean)})")
        return torch.as_tensor((numbers - self.mean) / self.std)


def _text(values: NDArray) -> str:
    """The kind of text in an array, nothing if it holds numbers, whose types may differ."""
    return values.dtype.kind if values.dtype.kind in "SU" else ""


def _as_rows(condition: ArrayLike, n: int) -> NDArray:
    values = np.asarray(condition)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != n:
        raise ValueError(f"condition must have one row for each of {n}, got shape {values.shape}")
    return values


def _comparable(values: NDArray) -> NDArray:
    """Classes that can be sorted: all names, or all numbers."""
    if pd.isna(values).any():
        raise ValueError("condition has missing values")
    if values.dtype.kind != "O":
        return values
    if all(isinstance(value, str) for value in values):
        return values.astype(str)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("condition mixes names and numbers: use one of them") from error
    return numbers


def _are_classes(values: NDArray) -> bool:
    return values.shape[1] == 1 and values.dtype.kind in "OUSbiu"


def _position(column: int | str, names: list[str]) -> int:
    if isinstance(column, str):
        if column not in names:
            raise ValueError(f"integers names a column {column!r} that is not there")
        return names.index(column)
    if not 0 <= column < len(names):
        raise ValueError(f"integers are columns 0 .. {len(names) - 1}, got {column}")
    return int(column)
