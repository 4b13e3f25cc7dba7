"""Columns of numbers that are linear functions of others, which have no density of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from realnvp.columns.kinds.base import Column
from realnvp.columns.kinds.implied import Encoded, Implied
from realnvp.columns.kinds.number import Continuous, Number
from realnvp.columns.kinds.values import is_written, number_series, read_numbers
from realnvp.utils.errors import some_of

__all__ = ["Linear"]

ROUNDING = 5e-7
"""Relative error of numbers in float32."""

DEPENDENT = 1e-7
"""Residual, in standard deviations or the distance of quartiles, up to which a column is a linear
function of others: smaller ones cannot be distinguished from rounding in float32."""


@dataclass(frozen=True)
class Linear(Implied):
    """A column of numbers that is a linear function of other columns of numbers.

    Args:
        weights: the offset, the coefficients of all columns, and how far a row may be off.
        decimals: number of decimals of samples; None for all digits.
        notation: how numbers are written as text.
    """

    weights: tuple[float, ...] = ()
    decimals: int | None = None
    notation: str = ""

    kind: ClassVar[str] = "linear"

    @classmethod
    def among(cls, columns: Sequence[Column], frame: pd.DataFrame) -> tuple[Column, ...]:
        """Return the columns of a table, of which linear functions of others are marked as such.

        Only numbers without missing values are checked. Columns with a step have a probability,
        which is finite whatever they depend on, so they are never replaced.

        Raises:
            ValueError: if a column varies less than float64 can resolve.
        """
        index = [
            i for i, c in enumerate(columns)
            if isinstance(c, Number) and not c.has_indicator
        ]  # fmt: skip
        real = [i for i in index if isinstance(columns[i], Continuous)]
        if not real or len(frame) < len(index) + 2:  # with so few rows, every column is one
            return tuple(columns)
        X = np.column_stack([
            columns[i].encode(frame.iloc[:, i], "the table")[0][:, 0] for i in index
        ])  # fmt: skip
        largest = np.abs(X).max(axis=0)
        mean = (X / largest).mean(axis=0) * largest
        unit = np.abs(X - mean).max(axis=0)
        std = np.sqrt((((X - mean) / unit) ** 2).mean(axis=0)) * unit
        if (lost := std <= 1e-13 * np.abs(mean)).any():
            name = columns[index[int(np.argmax(lost))]].name
            raise ValueError(f"column {name} varies less than float64 can resolve around its mean")
        Z = (X - mean) / std
        order = [j for j, i in enumerate(index) if i not in real]
        order += [j for j, i in enumerate(index) if i in real]
        # The diagonal of R in Z = QR is the part of each column that previous ones do not explain.
        left = np.abs(np.diagonal(np.linalg.qr(Z[:, order], mode="r"))) / len(Z) ** 0.5
        dependent = {
            j for j, rest in zip(order, left, strict=True) if rest <= DEPENDENT and index[j] in real
        }
        free = [j for j in range(len(index)) if j not in dependent]
        result = list(columns)
        for j in sorted(dependent):
            some = np.array(free)
            for _ in range(2):  # a second time without those that make no difference
                slopes = np.linalg.lstsq(Z[:, some], Z[:, j], rcond=None)[0]
                keep = np.abs(slopes) > 10 * DEPENDENT
                some, slopes = some[keep], slopes[keep]
            slopes = slopes * (std[j] / std[some])
            row = np.zeros(len(result))
            row[[index[k] for k in some]] = slopes
            offset = mean[j] - slopes @ mean[some]
            low, high = np.quantile(X[:, j], [0.25, 0.75])
            # A few huge values, such as fills, make everything else look like rounding.
            scale = min(std[j], high - low) or std[j]
            weights = (float(offset), *row.tolist(), float(10 * DEPENDENT * scale))
            old = result[index[j]]
            assert isinstance(old, Number)
            column = cls(old.name, old.dtype, False, weights, old.decimals, old.notation)
            if column.agree(X[:, j], X, {i: k for k, i in enumerate(index)}).all():
                result[index[j]] = column
        return tuple(result)

    @property
    def sources(self) -> tuple[int, ...]:
        return tuple(i for i, weight in enumerate(self.weights[1:-1]) if weight)

    def agrees(self, values: pd.Series, table: Encoded, where: str) -> NDArray:
        places = {i: table.last[i] for i in self.sources}
        return self.agree(self._numbers(values, where), table.x, places)

    def agree(self, numbers: NDArray, x: NDArray, places: Mapping[int, int]) -> NDArray:
        """Return which numbers are the linear function of others, or unknown, ``(N,)``.

        Args:
            numbers: ``(N,)`` numbers of this column.
            x: ``(N, K)`` numbers of others.
            places: where those of each source are.
        """
        terms = [self.weights[1 + i] * x[:, places[i]] for i in self.sources]
        expected = self.weights[0] + np.sum(terms, axis=0)
        largest = np.abs(self.weights[0]) + np.sum(np.abs(terms), axis=0)
        rounding = largest * (ROUNDING if self.dtype.endswith("32") else 1e-12)
        near: NDArray = np.abs(numbers - expected) <= self.weights[-1] + rounding
        return near | np.isnan(expected)

    def implied(self, table: Encoded) -> pd.Series:
        numbers = self._expected(table.x, table.last)
        return number_series(numbers, self.dtype, self.notation, self.decimals)

    def solve(self, values: pd.Series, table: Encoded, where: str) -> None:
        """Solve for the one unknown number of a row, where there is only one."""
        numbers = self._numbers(values, where)
        last = [table.last[i] for i in self.sources]
        alone = np.isfinite(numbers) & (np.isnan(table.x[:, last]).sum(1) == 1)
        for i, feature in zip(self.sources, last, strict=True):
            rows = alone & np.isnan(table.x[:, feature])
            table.x[rows, feature] = 0.0
            rest = numbers[rows] - self._expected(table.x[rows], table.last)
            table.x[rows, feature] = table.columns[i].rounded(rest / self.weights[1 + i])

    def _numbers(self, values: pd.Series, where: str) -> NDArray:
        return read_numbers(values, self.dtype, where, self.notation)

    def _expected(self, x: NDArray, last: Sequence[int]) -> NDArray:
        total = np.full(len(x), self.weights[0])
        for i in self.sources:
            total = total + self.weights[1 + i] * x[:, last[i]]
        return total

    def rule(self, sources: Sequence[str] = ()) -> str:
        return f"followed from {some_of(sources)} in training"

    def is_valid(self, count: int) -> bool:
        return len(self.weights) == count + 2 and is_written(self.notation, self.decimals)
