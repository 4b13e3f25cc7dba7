"""What the estimator knows of a table's columns and its condition, beside the flow.

The flow models the columns that vary freely, in their own units. The others follow from them, or
are constant: a density in them would be infinite, so they are left out of it and given back.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import _check_sample_weight

from realnvp.data.dataset import integer_columns
from realnvp.training.initialization import moments
from realnvp.utils.errors import some_of

__all__ = ["Columns", "Condition", "row_weights"]

DEPENDENT = 1e-7
"""Residual, in standard deviations, up to which a column is a linear function of others: what is
less cannot be told from rounding in float32."""


def row_weights(sample_weight: ArrayLike | None, X: NDArray) -> NDArray | None:
    """Return checked weights of the rows, with the mean 1; None if all count alike.

    Raises:
        ValueError: if they are negative, or leave fewer than two rows.

    >>> row_weights([0, 2e-50, 6e-50], np.zeros((3, 1)))
    array([0. , 0.5, 1.5])
    """
    if sample_weight is None:
        return None
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if (weight > 0).sum() < 2:
        raise ValueError("at least 2 rows need a positive sample_weight")
    weight = weight / weight.max()  # the sum of large ones could overflow
    # Smaller shares than float32 can hold count as none.
    weight = np.where(weight < 1e-30, 0.0, weight)
    return None if (weight == weight[0]).all() else weight * ((weight > 0).sum() / weight.sum())


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of a table: free ones, which the flow models, and those that follow from them.

    Args:
        names: names of all D columns.
        free: ``(D',)``, indices of the free columns.
        integers: indices, among the free columns, of the integer columns.
        offsets: ``(D - D',)`` values of constant columns; intercepts of the others.
        coefficients: ``(D - D', D')``; a column that is not free is
            ``offset + coefficients @ free columns``.
        tolerances: ``(D - D',)``, how far a row may be off; 0 of constant and of equal columns.
    """

    names: tuple[str, ...]
    free: NDArray
    integers: tuple[int, ...]
    offsets: NDArray
    coefficients: NDArray
    tolerances: NDArray

    @staticmethod
    def of(X: NDArray, integers: str | Sequence, names: Sequence[str] | None = None) -> Columns:
        """Look at the rows of a table.

        Args:
            X: ``(N, D)`` rows.
            integers: "auto", "none", or indices or names of the integer columns.
            names: names of the columns.

        Raises:
            ValueError: if fewer than two columns are free, or a declared one does not hold
                integers.
        """
        label = [str(name) for name in (range(X.shape[1]) if names is None else names)]
        varies = (X[0] != X).any(axis=0)
        mean, std = (t.numpy() for t in moments(torch.as_tensor(X)))
        if (lost := varies & (std <= 1e-13 * np.abs(mean))).any():
            name = label[int(np.argmax(lost))]
            raise ValueError(f"column {name} varies less than float64 can tell from its mean")
        chosen = _integer_columns(X - np.floor(mean), X, varies, integers, label)
        free = _independent(X, (X - mean) / std, varies, chosen)
        if len(free) < 2:
            raise ValueError(
                f"a density by couplings needs at least 2 columns that vary freely, got "
                f"{len(free)} of {X.shape[1]}: use sklearn.neighbors.KernelDensity"
            )
        fixed = np.setdiff1d(np.arange(X.shape[1]), free)
        _warn(
            "constant columns have no density and are left out of it",
            [label[i] for i in fixed if not varies[i]],
        )
        _warn(
            "columns that are a linear function of others have no density of their own and are "
            "left out of it",
            [label[i] for i in fixed if varies[i]],
        )
        follow = [_follow(X, mean, std, free, i) for i in fixed]
        place = {column: i for i, column in enumerate(free.tolist())}
        return Columns(
            tuple(label),
            free,
            tuple(place[i] for i in chosen if i in place),
            np.array([offset for offset, _, _ in follow]),
            np.array([row for _, row, _ in follow]).reshape(len(fixed), len(free)),
            np.array([tolerance for _, _, tolerance in follow]),
        )

    @property
    def fixed(self) -> NDArray:
        """Indices of the columns that are not free."""
        return np.setdiff1d(np.arange(len(self.names)), self.free)

    def rows(self, X: NDArray) -> torch.Tensor:
        """Return the free columns, ``(N, D) -> (N, D')``."""
        return torch.as_tensor(X[:, self.free])

    def table(self, x: torch.Tensor) -> NDArray:
        """Return all columns, ``(N, D') -> (N, D)``."""
        free = x.numpy()
        table = np.empty((len(free), len(self.names)))
        table[:, self.free] = free
        table[:, self.fixed] = free @ self.coefficients.T + self.offsets
        return table

    def possible(self, X: NDArray) -> NDArray:
        """Return which rows can be: columns that are not free follow, integers have no fraction."""
        free = X[:, self.free]
        expected = free @ self.coefficients.T + self.offsets
        follows = (np.abs(X[:, self.fixed] - expected) <= self.tolerances).all(axis=1)
        whole = free[:, list(self.integers)]
        possible: NDArray = follows & (whole == np.floor(whole)).all(axis=1)
        return possible

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists, for JSON."""
        return {
            "names": list(self.names),
            "free": self.free.tolist(),
            "integers": list(self.integers),
            "offsets": self.offsets.tolist(),
            "coefficients": self.coefficients.tolist(),
            "tolerances": self.tolerances.tolist(),
        }

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Columns:
        """Return the inverse of :meth:`as_dict`, of which every size is checked.

        Raises:
            ValueError: if it does not describe columns.
        """
        names, free = tuple(value["names"]), np.asarray(value["free"], dtype=np.int64)
        d, fixed = len(free), len(names) - len(free)
        found = Columns(
            names,
            free,
            tuple(value["integers"]),
            np.asarray(value["offsets"], dtype=np.float64).reshape(fixed),
            np.asarray(value["coefficients"], dtype=np.float64).reshape(fixed, d),
            np.asarray(value["tolerances"], dtype=np.float64).reshape(fixed),
        )
        ordered = free.tolist() == sorted(set(free.tolist()) & set(range(len(names))))
        inside = set(found.integers) <= set(range(d))
        if not (ordered and inside and all(isinstance(name, str) for name in names)):
            raise ValueError("its columns contradict each other")
        return found


def _warn(what: str, names: list[str]) -> None:
    if names:
        warnings.warn(f"{what}: {some_of(names)}", stacklevel=4)


def _integer_columns(
    centered: NDArray, X: NDArray, varies: NDArray, integers: str | Sequence, label: list[str]
) -> list[int]:
    """Return the indices of the columns to dequantize."""
    whole = set(integer_columns(torch.as_tensor(centered)))
    if isinstance(integers, str):
        if integers not in ("auto", "none"):
            raise ValueError(f'integers is "auto", "none" or a list of columns, got {integers!r}')
        chosen = sorted(whole & set(np.flatnonzero(varies).tolist())) if integers == "auto" else []
        if chosen:
            some = some_of([label[i] for i in chosen])
            warnings.warn(
                f"integer columns are dequantized, their density is a probability: {some}; "
                f'declare them with integers=[...], or integers="none"',
                stacklevel=4,
            )
        return chosen
    chosen = [_position(column, label) for column in integers]
    for i in chosen:
        if i not in whole:
            fractions = (X[:, i] != np.floor(X[:, i])).any()
            why = "fractions" if fractions else "numbers more than 262,144 apart"
            raise ValueError(f"column {label[i]} is declared in integers, but holds {why}")
    return [i for i in chosen if varies[i]]


def _independent(X: NDArray, Z: NDArray, varies: NDArray, integers: list[int]) -> NDArray:
    """Return the indices of the columns that are not a linear function of columns before them.

    Integer columns have a probability, which is finite whatever they depend on; of them, only
    copies are left out.

    Args:
        X: rows.
        Z: standardized rows.
        varies: which columns vary.
        integers: indices of the integer columns.
    """
    _, first = np.unique(X, axis=1, return_index=True)
    free = [i for i in range(X.shape[1]) if varies[i] and i in first]
    order = [i for i in free if i in integers] + [i for i in free if i not in integers]
    if len(Z) < len(order) + 2:  # so few rows always are
        return np.array(free, dtype=np.int64)
    # Of R in Z = QR, the diagonal is what the columns before a column leave of it.
    left = np.abs(np.diagonal(np.linalg.qr(Z[:, order], mode="r"))) / len(Z) ** 0.5
    dependent = {i for i, rest in zip(order, left, strict=True) if rest <= DEPENDENT}
    return np.array([i for i in free if i in integers or i not in dependent], dtype=np.int64)


def _follow(
    X: NDArray, mean: NDArray, std: NDArray, free: NDArray, column: int
) -> tuple[float, NDArray, float]:
    """Return offset, coefficients and tolerance of a column that follows from the free ones."""
    row = np.zeros(len(free))
    equal = (X[:, free] == X[:, [column]]).all(axis=0)
    if (X[0, column] == X[:, column]).all():
        return float(X[0, column]), row, 0.0
    if equal.any():
        row[np.argmax(equal)] = 1.0
        return 0.0, row, 0.0
    Z = (X[:, free] - mean[free]) / std[free]
    target = (X[:, column] - mean[column]) / std[column]
    some = np.arange(len(free))
    for _ in range(2):  # once more without those that make no difference
        slopes = np.linalg.lstsq(Z[:, some], target, rcond=None)[0]
        keep = np.abs(slopes) > 10 * DEPENDENT
        some, slopes = some[keep], slopes[keep]
    row[some] = slopes * (std[column] / std[free[some]])
    offset = mean[column] - row @ mean[free]
    return float(offset), row, float(10 * DEPENDENT * std[column])


@dataclass(frozen=True, eq=False)
class Condition:
    """What the density is conditioned on: nothing, classes, or numbers.

    Args:
        categories: classes in order, if there are classes.
        dim: number of numbers, 0 if there are none.
        name: name of the condition in a file.
    """

    categories: NDArray | None = None
    dim: int = 0
    name: str | None = None

    @staticmethod
    def of(condition: ArrayLike | None, n: int, name: str | None = None) -> Condition:
        """Look at the condition of a table's rows."""
        if condition is None:
            return Condition()
        values = _as_rows(condition, n)
        if values.shape[1] == 1 and values.dtype.kind in "OUSbiu":
            return Condition(np.unique(_comparable(values[:, 0])), name=name or "label")
        if not np.isfinite(values.astype(np.float64)).all():
            raise ValueError("condition contains NaN or infinity")
        return Condition(None, values.shape[1], name or "condition")

    @property
    def classes(self) -> int | None:
        """Number of classes, None if there are none."""
        return None if self.categories is None else len(self.categories)

    def codes(
        self, condition: ArrayLike | None, n: int, repeat: bool = False
    ) -> torch.Tensor | None:
        """Return the condition as the flow takes it.

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
        values = condition
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

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        categories = None if self.categories is None else self.categories.tolist()
        return {"categories": categories, "dim": self.dim, "name": self.name}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Condition:
        """Return the inverse of :meth:`as_dict`."""
        categories = value["categories"]
        if categories is not None:
            categories = np.asarray(categories)
            if categories.ndim != 1 or categories.dtype.kind not in "Ubiuf":
                raise ValueError("its classes are no names or numbers")
        return Condition(categories, int(value["dim"]), value["name"])


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
            raise ValueError(f"integers names a column {column!r} that is not there")
        return names.index(column)
    if not 0 <= column < len(names):
        raise ValueError(f"integers are columns 0 .. {len(names) - 1}, got {column}")
    return int(column)
