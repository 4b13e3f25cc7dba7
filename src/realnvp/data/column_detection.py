"""Detection of what a column of a table holds, from one pass over its values.

Integers, decimals, other numbers, categories, text and dates are distinguished; what cannot be
modeled is refused, with a row that shows why and a remedy.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from realnvp.data.column_kinds import DAY, RESOLUTIONS, Column
from realnvp.data.column_values import months_of, seconds_of, wall_clock
from realnvp.data.date_formats import date_format, looks_like_a_date, parse_dates
from realnvp.data.notations import Notation

__all__ = ["ColumnDetector"]

MOST_CATEGORIES = 1_000
"""Largest number of categories of a column."""

FEW_VALUES = 16
"""Integers with at most this many different values, none of them rare, are categories."""

MOST_CELLS = 20_000
"""Number of steps from the smallest to the largest number, from which on only repeated values
count."""

RARE = 0.0075
"""Share of the rows below which a value is rare."""

REPEATED = 0.05
"""Share of the rows from which on a value of a continuous column counts as repeated."""

LISTED = 0.95
"""Share of the rows whose value occurs again, from which on no value is singled out."""

FINE = 0.05
"""Share of the rows, at least, that are multiples of a step and of no larger round one."""

ENOUGH_ROWS = 20
"""Number of integer rows, all of them multiples of a larger step, that cannot be chance."""

SLIPS = 0.05
"""Share of the rows up to which texts among numbers count as typing errors, which are refused."""

_OPTION = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class ColumnDetector:
    """Detect the kind of one column."""

    values: pd.Series
    name: str
    where: str
    numbers: bool
    keep_range: bool
    dtype: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", str(self.values.dtype))
        if types.is_timedelta64_dtype(self.values.dtype):
            object.__setattr__(self, "values", seconds_of(self.values))

    @property
    def option(self) -> str:
        """The column's name as an option of the command line."""
        return self.name if _OPTION.fullmatch(self.name) else f"'{self.name}'"

    @property
    def remedy(self) -> str:
        """Advice on how to leave the column out, as an option of the command line."""
        return f"drop it (--data.columns.{self.option} drop)"

    @property
    def declare(self) -> str:
        """Advice on how to declare the column categorical, as an option of the command line."""
        return f"declare the column categorical (--data.columns.{self.option} categorical)"

    def column(self, declared: str | None) -> Column:
        """Return what the column is, or what it is declared to be."""
        if declared == "drop":
            return Column(self.name, "drop", self.dtype)
        there = self.values.dropna()
        if len(there) == 0:
            return Column(self.name, "constant", self.dtype)
        if declared == "categorical":
            return self.categorical(there)
        if isinstance(self.values.dtype, pd.DatetimeTZDtype) or types.is_datetime64_dtype(there):
            return self.datetime(there, None)
        kind = self.values.dtype
        text = isinstance(kind, pd.CategoricalDtype) or not (
            types.is_numeric_dtype(kind) or types.is_bool_dtype(kind)
        )
        if types.is_complex_dtype(kind):
            raise ValueError(f"{self.where} holds {self.dtype} values: turn it into numbers")
        if text and not isinstance(kind, pd.CategoricalDtype):
            return self.text(there, declared)
        if text or types.is_bool_dtype(kind):
            if declared not in (None, "categorical"):
                raise ValueError(f"{self.where} is declared {declared}, but holds categories")
            return self.categorical(there)
        return self.number(there, declared)

    # ------------------------------------------------------------------ text

    def text(self, there: pd.Series, declared: str | None) -> Column:
        plain = [v.item() if isinstance(v, np.generic) else v for v in there]
        if all(isinstance(v, bool) for v in plain):
            return self.categorical(there)
        if all(isinstance(v, int | float) for v in plain):
            return self.number(pd.Series(plain, there.index), declared)
        if any(hasattr(v, "year") and hasattr(v, "month") for v in plain):
            raise ValueError(f"{self.where} holds Python dates: convert it with pandas.to_datetime")
        odd = [i for i, v in enumerate(plain) if not isinstance(v, str)]
        if odd:
            row, value = self.row(odd[0]), plain[odd[0]]
            raise ValueError(
                f"{self.where} mixes text and other values: row {row} (counting from 0) holds "
                f"{value!r}; turn all of it into text, or into numbers"
            )
        words = pd.Series(plain, there.index)
        parsed = pd.to_numeric(words.str.strip(), errors="coerce").notna().to_numpy()
        numeric = declared in ("continuous", "decimal", "integer")
        if (numeric or (declared is None and not parsed.all())) and (
            notation := Notation.of(words)
        ) is not None:
            return self.written(words, notation, declared)
        # Many different ones are not typing errors: tickets may be numbers and texts.
        slips = words[~parsed].nunique() <= max(5, SLIPS * len(words))
        mixed = 0.5 <= parsed.mean() < 1
        # Neither are a few that all occur repeatedly: a drive may be 4, f or r.
        if mixed and not numeric and self.is_few(*np.unique(words, return_counts=True)):
            return self.categorical(there)
        if numeric or (slips and mixed):
            bad = int(np.argmin(parsed))
            raise ValueError(
                f"{self.where} mixes numbers and text: row {self.row(bad)} (counting from "
                f"0) holds {plain[bad]!r}; leave it empty if it is a gap, {self.declare}, or "
                f"{self.remedy}"
            )
        distinct = words.nunique()
        dated = declared == "datetime" or words.map(looks_like_a_date).mean() > 0.5
        if dated and (dates := self.dates(words, declared, distinct)) is not None:
            return dates
        if distinct > MOST_CATEGORIES or (
            len(words) >= ENOUGH_ROWS and distinct > 0.9 * len(words)
        ):
            if (notation := Notation.of(words)) is not None and notation.digits:
                return self.written(words, notation, declared)
            note = f"{distinct:,} different texts in {len(words):,} rows, as in a column of names"
            return Column(self.name, "drop", self.dtype, note=note)
        return self.categorical(there)

    def written(self, words: pd.Series, notation: Notation, declared: str | None) -> Column:
        """Return the column of numbers that are written in a notation, as text."""
        numbers = notation.numbers(words)
        limits = [v for v in np.unique(numbers) if notation.limit(v)] if notation.limits else []
        column = self.number(pd.Series(numbers, words.index), declared, tuple(limits))
        if not column.is_number:
            return self.categorical(words)
        upper, last = column.upper, notation.largest
        if upper is None and last is not None and numbers.max() <= last:
            upper = last  # the latest time of a day, or the largest code
        return replace(column, notation=str(notation), upper=upper)

    def row(self, i: int) -> int:
        """Return the row of the i-th value that is not a gap; both count from 0."""
        return int(np.flatnonzero(self.values.notna().to_numpy())[i])

    def dates(self, words: pd.Series, declared: str | None, distinct: int) -> Column | None:
        """Return a column of dates that are written as text, None if most are not dates."""
        fmt, fits = date_format(words)
        if fmt is None:
            if declared is None and fits.mean() <= 0.5:
                return None
            bad, good = int(np.argmin(fits)), int(np.argmax(fits))
            raise ValueError(
                f"{self.where} holds dates in more than one format: row {self.row(bad)} "
                f"(counting from 0) holds {words.iloc[bad]!r}, row {self.row(good)} "
                f"{words.iloc[good]!r}; write all of them in one, or {self.declare}"
                if fits.any()
                else f"{self.where} is declared datetime, but row {self.row(0)} (counting "
                f"from 0) holds {words.iloc[0]!r}, which is not a date in a known format"
            )
        if declared is None and "%d" not in fmt.replace("-", "") and distinct <= FEW_VALUES:
            return None  # a few months are categories
        return self.datetime(parse_dates(words.str.strip(), fmt), fmt)

    def datetime(self, there: pd.Series, fmt: str | None) -> Column:
        zone = None if there.dt.tz is None else str(there.dt.tz)
        if there.nunique() == 1 and not self.values.isna().any():
            value = self.values.iloc[0]
            return Column(self.name, "constant", self.dtype, value=str(value))
        ticks = wall_clock(there, self.where)
        resolution = next(unit for unit in RESOLUTIONS if (ticks % unit == 0).all())
        days = ticks // DAY
        timed = resolution < DAY
        # With enough rows as evidence, dates in between are impossible.
        enough = not timed and len(ticks) >= ENOUGH_ROWS
        counts, first = months_of(ticks)
        months = enough and bool(first.all())
        counts = np.unique(counts if months else days)
        return Column(
            self.name, "datetime", self.dtype, missing=bool(self.values.isna().any()),
            resolution=resolution, timed=timed, months=months, zone=zone, format=fmt,
            step=float(np.gcd.reduce(np.diff(counts))) if enough and len(counts) > 1 else 1.0,
            origin=float(counts[0]), reach=_reach(counts),
        )  # fmt: skip

    # ------------------------------------------------------------------ categories

    def categorical(self, there: pd.Series) -> Column:
        levels, ordered = None, False
        if isinstance(there.dtype, pd.CategoricalDtype):
            levels = tuple(_plain(v) for v in there.cat.categories)
            ordered = bool(there.cat.ordered)
            used = set(there.unique())
            categories = [_plain(v) for v in there.cat.categories if v in used]
        else:
            distinct = [_plain(v) for v in there.unique()]
            mixed = any(isinstance(v, str) for v in distinct) and not all(
                isinstance(v, str) for v in distinct
            )
            if mixed:
                raise ValueError(f"{self.where} mixes text and other values: turn all into text")
            categories = sorted(distinct)
        if len(categories) > MOST_CATEGORIES:
            raise ValueError(
                f"{self.where} has {len(categories):,} categories, more than {MOST_CATEGORIES:,}: "
                f"group them, or {self.remedy}"
            )
        missing = bool(self.values.isna().any())
        if len(categories) == 1 and not missing:
            return Column(
                self.name,
                "constant",
                self.dtype,
                value=categories[0],
                levels=levels,
                ordered=ordered,
            )
        return Column(
            self.name, "categorical", self.dtype, tuple(categories), levels, ordered, missing
        )

    # ------------------------------------------------------------------ numbers

    def number(
        self, there: pd.Series, declared: str | None, limits: tuple[float, ...] = ()
    ) -> Column:
        """Return the column of numbers, of which ``limits``, such as "<0.3", count as repeated."""
        if (dates := self.written_days(there, declared)) is not None:
            return dates
        if declared == "datetime":
            raise ValueError(f"{self.where} is declared datetime, but holds numbers")
        x = there.to_numpy(dtype=np.float64)
        if not np.isfinite(x).all():
            bad = int(np.argmin(np.isfinite(x)))
            raise ValueError(
                f"{self.where} holds {x[bad]}, first in row {self.row(bad)} (counting "
                "from 0): remove or fill in such rows"
            )
        missing = bool(self.values.isna().any())
        x = x[~np.isin(x, limits)]
        distinct, counts = np.unique(x, return_counts=True)
        if len(distinct) <= 1:
            if missing or limits:
                return self.categorical(there)
            return Column(self.name, "constant", self.dtype, value=_plain(there.iloc[0]))
        whole = bool((x == np.floor(x)).all()) and bool((np.abs(x) <= 2.0**53).all())
        if declared == "integer" and not whole:
            raise ValueError(f"{self.where} is declared integer, but holds fractions")
        if declared is None and whole and not self.numbers and self.is_few(distinct, counts):
            return self.categorical(there)
        centered = np.abs(x - np.floor(x.mean())).max() <= 2**18 if self.numbers else True
        decimals, step = self.grid(x, distinct)
        far = (
            np.zeros(len(distinct), dtype=bool)
            if self.numbers
            else _codes_of_gaps(distinct, counts)
        )
        rest = distinct[~far]
        kind = "continuous"
        if declared is not None:
            kind = declared
        elif whole and centered:
            # For example multiples of 100: an integer in between would be an impossible row.
            coarse = step > 1 and len(x) >= ENOUGH_ROWS and not self.numbers
            kind = "decimal" if coarse else "integer"
        elif step and not self.numbers:
            spread = (rest[-1] - rest[0]) / step
            if len(distinct) < 0.99 * len(x) or spread <= 20 * len(x):
                kind = "decimal"
        if kind == "decimal" and not step:
            raise ValueError(f"{self.where} is declared decimal, but its numbers have no step")
        step = {"integer": 1.0, "decimal": step}.get(kind, 0.0)
        lower = upper = None
        if self.keep_range and not self.numbers:
            lower, upper = float(rest[0]), float(rest[-1])
        elif not self.numbers and rest[0] >= 0:
            lower = 0.0
        cells = (rest[-1] - rest[0]) / step if step else math.inf
        often = far
        listed = counts[counts > 5].sum() >= LISTED * len(x)
        if not self.numbers and cells > MOST_CELLS and not listed:
            often = far | (counts > max(5, REPEATED * len(x)))
            if (~often).sum() < 2:
                return self.categorical(there)
        repeated = tuple(map(float, (*limits, *distinct[often][:50])))
        return Column(
            self.name, kind, self.dtype, missing=missing, repeated=repeated, step=step,
            decimals=None if self.numbers else decimals, origin=float(rest[0]) if step else 0.0,
            lower=lower, upper=upper, reach=() if self.numbers else _reach(rest),
        )  # fmt: skip

    def written_days(self, there: pd.Series, declared: str | None) -> Column | None:
        """Return the column of days written as integers, 20200131; None for other columns."""
        if declared not in (None, "datetime") or self.numbers or len(there) < ENOUGH_ROWS:
            return None
        if there.min() < 18_000_101 or there.max() > 22_001_231 or (there % 1 != 0).any():
            return None
        parsed = parse_dates(there.astype("int64").astype(str), "%Y%m%d")
        return self.datetime(parsed, "%Y%m%d") if parsed.notna().all() else None

    def is_few(self, distinct: NDArray, counts: NDArray) -> bool:
        """Return whether values are so few that they are categories, none of them rare.

        Counts have rare values, beyond which there may be others; 0 and 1 mean no and yes, and a
        count with as few ones would hardly include a 2.
        """
        few = len(distinct) <= min(FEW_VALUES, counts.sum() / 8)
        binary = np.array_equal(distinct, [0, 1])
        return few and (binary or bool(counts.min() >= max(2, RARE * counts.sum())))

    def grid(self, x: NDArray, distinct: NDArray) -> tuple[int | None, float]:
        """Return the number of decimals, and the largest step of which all numbers are multiples.

        They are None and 0 for numbers with full precision.
        """
        narrow = self.values.dtype == np.float32
        for decimals in range(5 if narrow else 10):
            if np.abs(distinct).max() * 10.0**decimals > 2**52:
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
                if fine.mean() < FINE:
                    step = 1
                return decimals, step / 10.0**decimals
        return None, 0.0


def _codes_of_gaps(distinct: NDArray, counts: NDArray) -> NDArray:
    """Return which values stand for something else, such as -999: repeated, and far from the rest.

    Args:
        distinct: ascending values.
        counts: how often each occurs.
    """
    far = np.zeros(len(distinct), dtype=bool)
    if len(distinct) < FEW_VALUES:
        return far
    often = counts > max(5, REPEATED * counts.sum())
    for end, first, last in ((0, 1, len(distinct) - 1), (-1, 0, len(distinct) - 2)):
        width = distinct[last] - distinct[first]
        beside = distinct[first] if end == 0 else distinct[last]
        far[end] = often[end] and abs(distinct[end] - beside) > width
    return far


def _reach(distinct: NDArray) -> tuple[float, ...]:
    """Return the range of ascending numbers, extended by its width on both sides."""
    low, high = float(distinct[0]), float(distinct[-1])
    found = (low - (high - low), high + (high - low))
    return found if np.isfinite(found).all() else ()


def _plain(value: Any) -> Any:
    """Return a value for JSON."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"categories are texts, numbers or booleans, got {type(value).__name__}")
    return value
