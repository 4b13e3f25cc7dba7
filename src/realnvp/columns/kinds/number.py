"""Columns of numbers: continuous ones, and what all numbers share.

A number is one feature. With missing values, or numbers that are repeated so often that they have a
probability of their own, its missingness indicator comes first: 0 where there is a number, 1 where
it is missing, and one more category for each repeated number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from realnvp.columns.kinds.base import Column, Feature
from realnvp.columns.kinds.category import Category
from realnvp.columns.kinds.values import MOST_DECIMALS, is_written, number_series, read_numbers
from realnvp.columns.look import Look, Numbers
from realnvp.utils.errors import some_of

__all__ = ["Continuous", "Number", "grid_of", "indicator", "range_of", "stand_for_missing"]

REPEATED = 0.05
"""Fraction of the rows from which on a number may have a probability of its own."""


@dataclass(frozen=True)
class Number(Column):
    """A column of numbers.

    Args:
        repeated: numbers that have a probability of their own.
        decimals: number of decimals of samples; None for all digits.
        lower: lower bound of samples.
        upper: upper bound of samples.
        range: the interval that samples are in; see :func:`range_of`.
        notation: how numbers are written as text; see :mod:`realnvp.columns.notations`.
    """

    repeated: tuple[float, ...] = ()
    decimals: int | None = None
    lower: float | None = None
    upper: float | None = None
    range: tuple[float, ...] = ()
    notation: str = ""

    is_number: ClassVar[bool] = True
    is_whole: ClassVar[bool] = False

    @classmethod
    def of(cls, look: Look, numbers: Numbers, step: float = 0.0) -> Column:
        """Return the column of the numbers that are looked at, with this step."""
        x, distinct, counts = numbers
        often = np.zeros(len(distinct), dtype=bool)
        if not look.is_array:
            often = stand_for_missing(numbers)
        rest = distinct[~often]
        lower = upper = None
        if look.keep_range:
            lower, upper = float(rest[0]), float(rest[-1])
        elif not look.is_array and rest[0] >= 0:
            lower = 0.0
        if upper is None and look.notation is not None and look.notation.digits:
            upper = 10.0**look.notation.digits - 1  # the largest code
        bins = (rest[-1] - rest[0]) / step if step else math.inf
        # Where nearly all rows have a value that occurs again, none is singled out.
        ties = counts[counts > 5].sum() >= 0.95 * len(x)
        # A probability among densities per step would depend on the unit; atoms do not.
        if not look.is_array and bins > 20_000 and not ties and step in (0.0, 1.0):
            often = often | (counts > max(5, REPEATED * len(x)))
            if (~often).sum() < 2:
                return Category.of(look)
        column = cls(
            look.name, look.dtype, look.missing,
            repeated=tuple(map(float, distinct[often][:50])),
            decimals=None if look.is_array else grid_of(look, numbers)[0],
            lower=lower, upper=upper,
            range=() if look.is_array else range_of(rest),
            notation="" if look.notation is None else str(look.notation),
        )  # fmt: skip
        return column.on_grid(step, float(rest[0])) if step else column

    def on_grid(self, step: float, origin: float) -> Column:
        """Return the column with a grid, if its kind has one."""
        return self

    @property
    def has_indicator(self) -> bool:
        """Whether it has a missingness indicator."""
        return self.missing or bool(self.repeated)

    @property
    def own_feature(self) -> Feature:
        """The feature of the number itself."""
        return Feature(self.name, "number", lower=self.lower, upper=self.upper)

    def features(self) -> tuple[Feature, ...]:
        return indicator(self.name, self.missing + len(self.repeated), self.own_feature)

    def encode(
        self, values: pd.Series, where: str, unknown: bool = False
    ) -> tuple[NDArray, NDArray]:
        number = read_numbers(values, self.dtype, where, self.notation, self.is_whole)
        missing = np.isnan(number)
        possible = ~missing | self.missing | unknown
        if not self.has_indicator:
            return number[:, None], possible
        state = np.where(missing, 1.0 if self.missing and not unknown else np.nan, 0.0)
        for i, value in enumerate(self.repeated):
            state[number == value] = 1 + self.missing + i
        return np.column_stack((state, np.where(state == 0, number, np.nan))), possible

    def decode(self, x: NDArray, bounded: bool = True) -> pd.Series:
        number = self.rounded(x[:, -1].copy())
        if self.decimals is not None:
            number = np.round(number, self.decimals)
        if bounded and (self.lower is not None or self.upper is not None):
            number = np.clip(number, self.lower, self.upper)
        for i, value in enumerate(self.repeated):
            number[x[:, 0] == 1 + self.missing + i] = value
        return number_series(number, self.dtype, self.notation, self.decimals)

    def doubts(self, values: pd.Series) -> list[str]:
        numbers = read_numbers(values, self.dtype, self.name, self.notation)
        numbers = numbers[~np.isnan(numbers)]
        doubts = []
        fills = [value for value in _fill_values(numbers) if value not in self.repeated]
        if fills:
            doubts.append(
                f"holds {' and '.join(f'{value:g}' for value in fills)}, far from all other "
                "numbers and more than once: leave such values empty if they stand for missing ones"
            )
        if np.abs(numbers).max(initial=0) > 2**53 and "int" in self.dtype.lower():
            doubts.append(
                "holds integers beyond 2**53, whose last digits are lost: drop it if they are "
                "identifiers, or turn them into text"
            )
        return doubts

    def parsed(self, values: pd.Series) -> pd.Series:
        if not self.notation:
            return values
        numbers = read_numbers(values, self.dtype, self.name, self.notation, self.is_whole)
        return pd.Series(numbers, index=values.index)

    def within_range(self, x: NDArray) -> NDArray:
        if self.range:
            x = x.copy()
            x[:, -1] = x[:, -1].clip(self.range[0], self.range[1])
        return x

    def sort_keys(self, x: NDArray) -> NDArray:
        keys = np.nan_to_num(x[:, -1], nan=np.inf)
        for i, value in enumerate(self.repeated):
            keys[x[:, 0] == 1 + self.missing + i] = value
        return keys

    def mean_series(self, means: NDArray) -> pd.Series:
        is_time = self.dtype.startswith("timedelta64")
        return number_series(means, self.dtype if is_time else "float64")

    def words(self) -> list[str]:
        low, high = ("" if v is None else f"{v:g}" for v in (self.lower, self.upper))
        bounds = f"{low} to {high}" if low and high else f"at most {high}" if high else ""
        often = some_of([f"{value:g}" for value in self.repeated])
        return [
            f"at least {low}" if low and not high else bounds,
            f"often {often}" if often else "",
            "seconds" if self.dtype.startswith("timedelta64") else "",
            f"written {self.notation}" if self.notation else "",
        ]

    def is_valid(self, count: int) -> bool:
        return len(self.range) in (0, 2) and is_written(self.notation, self.decimals)


@dataclass(frozen=True)
class Continuous(Number):
    """A column of numbers that have a density."""

    kind: ClassVar[str] = "continuous"

    @classmethod
    def detect(cls, look: Look) -> Column | None:
        if look.declared not in (None, cls.kind) or look.numbers is None:
            return None
        return cls.of(look, look.numbers)


def indicator(name: str, states: int, *features: Feature) -> tuple[Feature, ...]:
    """Return features with a missingness indicator before them, of so many states beside 0."""
    if not states:
        return features
    first = Feature(f"{name} (missing)", "category", size=1 + states, first_missing=1)
    return (first, *(replace(feature, indicator=0) for feature in features))


def range_of(distinct: NDArray) -> tuple[float, ...]:
    """Return the range of ascending numbers, extended by its width on both sides.

    A flow extrapolates tails from few values, and could draw implausible ones.
    """
    low, high = float(distinct[0]), float(distinct[-1])
    extended = (low - (high - low), high + (high - low))
    return extended if np.isfinite(extended).all() else ()


def grid_of(look: Look, numbers: Numbers) -> tuple[int | None, float]:
    """Return the number of decimals, and the largest step of which all numbers are multiples.

    They are None and 0 for numbers with full precision. A step has to be much larger than the
    rounding of the numbers: beyond 2**40 steps, positions on the grid would be off by rounding.
    """
    x, distinct, _ = numbers
    narrow = look.values.dtype == np.float32
    for decimals in range(5 if narrow else MOST_DECIMALS + 1):
        if np.abs(distinct).max() * 10.0**decimals > (2**40 if decimals else 2**52):
            break
        rounded = np.round(distinct, decimals)
        if (
            (np.float32(rounded) == np.float32(distinct)).all()
            if narrow
            else np.isclose(rounded, distinct, rtol=1e-15, atol=0).all()  # also if computed
        ):
            counts = np.rint(distinct * 10.0**decimals).astype(np.int64)
            step = int(np.gcd.reduce(np.diff(counts)))
            # Where nearly all are multiples of a larger round step, a few others are not
            # evidence.
            units = np.rint(x * 10.0**decimals) // max(step, 1)
            fine = (units % 2 != 0) & (units % 5 != 0)
            if fine.mean() < 0.05:
                step = 1
            return decimals, step / 10.0**decimals
    return None, 0.0


def _fill_values(x: NDArray) -> list[float]:
    """Return the smallest and the largest number, if they are repeated and far from all others."""
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) < 16:
        return []
    # Of a heavy tail, distances grow, too, but values are not repeated.
    inner = distinct[2:-2]
    width = 100 * (inner[-1] - inner[0])
    ends = ((0, distinct[1] - distinct[0]), (-1, distinct[-1] - distinct[-2]))
    return [float(distinct[i]) for i, apart in ends if counts[i] > 1 and apart > width]


def stand_for_missing(numbers: Numbers) -> NDArray:
    """Return which distinct numbers stand for a missing value, as -999 does.

    They are repeated, and farther from the other numbers than these are from each other.
    """
    _, distinct, counts = numbers
    far = np.zeros(len(distinct), dtype=bool)
    if len(distinct) < 16:
        return far
    often = counts > max(5, REPEATED * counts.sum())
    for end, first, last in ((0, 1, len(distinct) - 1), (-1, 0, len(distinct) - 2)):
        width = distinct[last] - distinct[first]
        beside = distinct[first] if end == 0 else distinct[last]
        far[end] = often[end] and abs(distinct[end] - beside) > width
    return far
