"""Columns that add no information: constants, dropped columns, and what follows from others.

They have no features: samples have the implied values, and a row with another value is impossible.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from realnvp.columns.dates import ticks_of, wall_clock
from realnvp.columns.kinds.base import Column
from realnvp.columns.kinds.values import (
    category_series,
    codes_of,
    plain_value,
    same_values,
    typed_series,
)
from realnvp.columns.look import Look, seconds_of

__all__ = ["Constant", "Copy", "Dropped", "Encoded", "Implied"]


@dataclass(frozen=True)
class Encoded:
    """A table and its features, as a column that follows from others sees them.

    Args:
        columns: the columns.
        values: values of columns, by index; some may be absent.
        x: ``(N, D)`` features of all columns.
        last: index of the last feature of each column, which is the number itself.
    """

    columns: Sequence[Column]
    values: Mapping[int, pd.Series]
    x: NDArray
    last: Sequence[int]


class _WithoutFeatures(Column):
    """A column without features: whatever its values are, there is nothing to encode."""

    def encode(
        self, values: pd.Series, where: str, unknown: bool = False
    ) -> tuple[NDArray, NDArray]:
        return np.zeros((len(values), 0)), np.ones(len(values), dtype=bool)


@dataclass(frozen=True)
class Dropped(_WithoutFeatures):
    """A column that is ignored, and that samples do not have.

    Args:
        note: why it is left out; empty if it was declared to be.
    """

    note: str = ""

    kind: ClassVar[str] = "drop"

    @classmethod
    def detect(cls, look: Look) -> Column | None:
        return cls(look.name, look.dtype) if look.declared == cls.kind else None

    def decode(self, x: NDArray, bounded: bool = True) -> pd.Series:
        raise TypeError("a dropped column has no values")

    def rule(self, sources: Sequence[str] = ()) -> str:
        return f"is left out ({self.note})" if self.note else "is left out"

    def words(self) -> list[str]:
        return [f"left out: {self.note}" if self.note else ""]


@dataclass(frozen=True)
class Constant(_WithoutFeatures):
    """A column that always has the same value.

    Args:
        value: the value, as a plain one; None if all values are missing.
        levels: all categories of a pandas categorical.
        ordered: whether these are ordered.
    """

    value: Any = None
    levels: tuple[Any, ...] | None = None
    ordered: bool = False

    kind: ClassVar[str] = "constant"
    declarable: ClassVar[bool] = False

    @classmethod
    def detect(cls, look: Look) -> Column | None:
        if len(look.raw) == 0:
            return cls(look.name, look.dtype)
        values = look.raw if look.declared == "categorical" else look.present
        if look.missing or values.nunique() > 1:
            return None
        levels, ordered = None, False
        if isinstance(values.dtype, pd.CategoricalDtype):
            levels, ordered = (
                tuple(map(plain_value, values.cat.categories)),
                bool(values.cat.ordered),
            )
        elif look.declared != "categorical" and look.numbers is not None:
            assert np.isfinite(look.numbers.x).all()
        value = values.iloc[0]
        value = str(value) if isinstance(value, pd.Timestamp) else plain_value(value)
        return cls(look.name, look.dtype, False, value, levels, ordered)

    def encode(
        self, values: pd.Series, where: str, unknown: bool = False
    ) -> tuple[NDArray, NDArray]:
        missing = values.isna().to_numpy()
        agree = self._agree(values, where)
        return np.zeros((len(values), 0)), agree | missing if unknown else agree

    def _agree(self, values: pd.Series, where: str) -> NDArray:
        """Return which values are the constant, which may be written otherwise."""
        present: NDArray = values.notna().to_numpy()
        if self.value is None:
            return ~present
        if values.dtype == np.float32 and isinstance(self.value, float):
            return (values == np.float32(self.value)).to_numpy()
        if not self.dtype.startswith(("datetime64", "timedelta64")):
            return present & (codes_of((self.value,), values) == 0)
        constant = typed_series([self.value], self.dtype)
        try:
            if self.dtype.startswith("timedelta64"):
                return present & (seconds_of(values) == seconds_of(constant)[0]).to_numpy()
            zone = None if constant.dt.tz is None else str(constant.dt.tz)
            return present & (ticks_of(values, None, zone, where) == wall_clock(constant, where)[0])
        except ValueError:  # neither dates nor durations, or too far away
            return same_values(values, pd.Series([constant[0]] * len(values)))

    def decode(self, x: NDArray, bounded: bool = True) -> pd.Series:
        values = [self.value] * len(x)
        return category_series(values, self.dtype, self.levels or (self.value,), self.ordered)

    def rule(self, sources: Sequence[str] = ()) -> str:
        return f"was always {'empty' if self.value is None else repr(self.value)} in training"

    def words(self) -> list[str]:
        return ["empty" if self.value is None else f"always {self.value}"]

    def is_valid(self, count: int) -> bool:
        try:
            return len(self.decode(np.zeros((1, 0)))) == 1
        except (OverflowError, TypeError, ValueError):  # a value that its type cannot hold
            return False


@dataclass(frozen=True)
class Implied(_WithoutFeatures):
    """A column that follows from other columns of its table."""

    declarable: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def among(cls, columns: Sequence[Column], frame: pd.DataFrame) -> tuple[Column, ...]:
        """Return the columns of a table, with those that are of this kind in place of their own."""

    @property
    @abstractmethod
    def sources(self) -> tuple[int, ...]:
        """Indices of the columns that it follows from."""

    @abstractmethod
    def agrees(self, values: pd.Series, table: Encoded, where: str) -> NDArray:
        """Return which values are those that the other columns of a table imply, ``(N,)``."""

    @abstractmethod
    def implied(self, table: Encoded) -> pd.Series:
        """Return the values that the other columns of a table imply."""

    def solve(self, values: pd.Series, table: Encoded, where: str) -> None:
        """Fill in, in place, missing features of other columns that follow from these values."""

    def decode(self, x: NDArray, bounded: bool = True) -> pd.Series:
        raise TypeError("a column that follows from others is decoded with its table")


@dataclass(frozen=True)
class Copy(Implied):
    """A column that equals an earlier one.

    Args:
        source: index of the column that it equals.
    """

    source: int = 0

    kind: ClassVar[str] = "copy"

    @classmethod
    def among(cls, columns: Sequence[Column], frame: pd.DataFrame) -> tuple[Column, ...]:
        result, first = list(columns), dict[Any, int]()
        for i, column in enumerate(columns):
            if not column.size:
                continue
            values = frame.iloc[:, i]
            rows = pd.util.hash_pandas_object(values, index=False, categorize=False)
            j = first.setdefault((column.dtype, int(rows.sum())), i)
            other = frame.iloc[:, j].reset_index(drop=True)
            if j != i and other.equals(values.reset_index(drop=True)):
                result[i] = cls(column.name, column.dtype, source=j)
        return tuple(result)

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    def agrees(self, values: pd.Series, table: Encoded, where: str) -> NDArray:
        if self.source not in table.values:
            return np.ones(len(values), dtype=bool)
        return same_values(values, table.values[self.source])

    def implied(self, table: Encoded) -> pd.Series:
        return table.values[self.source]

    def rule(self, sources: Sequence[str] = ()) -> str:
        return f"was always equal to {sources[0]!r} in training"

    def is_valid(self, count: int) -> bool:
        return 0 <= self.source < count
