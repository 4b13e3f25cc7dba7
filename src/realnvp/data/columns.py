"""Columns of every kind: what they hold, as numbers for a flow, and back as they were.

A table has text, booleans, categories, decimals, dates with time zones, gaps, and columns that say
nothing new. :class:`TableSchema` looks at a table once and remembers what each column is;
:meth:`TableSchema.encode` turns tables of these columns into float64 coordinates, and
:meth:`TableSchema.decode` turns coordinates into a table of the same columns, types and decimals.

===========  ====================================================================================
kind         coordinates, and what they add to a row's log-likelihood
===========  ====================================================================================
continuous   the number: its log-density, in the column's own unit
decimal      multiples of a step: the log of the mean density over one step
integer      a step of 1: the log-probability
categorical  the index of the category: its log-probability; a gap is one more category
datetime     days, and the time of day where there is one: the log-probability, at the resolution
             of the column
constant     none: it is given back, and a row with another value is impossible
copy         none: it equals another column
linear       none: it is a linear function of other columns
drop         none: the column is ignored, and not given back
===========  ====================================================================================

Numbers and dates with gaps have a coordinate more, their status: whether there is a value (0), a
gap, or one of the values that a continuous column repeats, such as 0. Its log-probability counts,
and a number that is not there adds 0: noise in its place, whose density is subtracted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from realnvp.utils.errors import did_you_mean, some_of

__all__ = [
    "KINDS", "MOST_CATEGORIES", "RESOLUTIONS", "Column", "Coordinate", "TableSchema", "wall_clock"
]  # fmt: skip

KINDS = ("continuous", "decimal", "integer", "categorical", "datetime", "drop")
"""Kinds that a column can be declared as."""

MOST_CATEGORIES = 1_000
"""Most different texts of a column."""

FEW_VALUES = 16
"""Integers of so many different values, none of them rare, are categories."""

MOST_CELLS = 20_000
"""Steps from the smallest to the largest number, from which on repeated values count alone."""

RARE = 0.0075
"""Share of the rows below which a value is rare."""

REPEATED = 0.02
"""Share of the rows from which on a value of a continuous column is one that it repeats."""

DEPENDENT = 1e-7
"""Residual, in standard deviations, up to which a column is a linear function of others: what is
less cannot be told from rounding in float32."""

_DAY = 86_400 * 10**9
RESOLUTIONS = (_DAY, 3_600 * 10**9, 60 * 10**9, 10**9, 10**6, 10**3, 1)
"""Of dates, in nanoseconds."""

_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ]\d{1,2}:\d{2}.*)?")


@dataclass(frozen=True)
class Coordinate:
    """One number of a row, as the first layer of a flow sees it.

    Args:
        name: what it is called in messages.
        kind: "number"; "step", a multiple of one; or "category", an index.
        step: the step, and ``origin`` a number on its grid.
        origin: a number on the grid.
        size: number of categories.
        lower: bound that samples keep.
        upper: likewise.
        status: index of the coordinate that is 0 where this one has a value.
        flexible: whether its map may be more than a shift and a scale.
    """

    name: str
    kind: str
    step: float = 1.0
    origin: float = 0.0
    size: int = 1
    lower: float | None = None
    upper: float | None = None
    status: int | None = None
    flexible: bool = True


@dataclass(frozen=True)
class Column:
    """What a column holds.

    Args:
        name: its name.
        kind: one of the kinds of the module.
        dtype: pandas' name of its type, which is given back.
        categories: its categories in order, as plain values.
        levels: all categories of a pandas categorical, used or not.
        ordered: whether these are ordered.
        missing: whether it has gaps.
        repeated: values of a column of numbers that have a probability of their own.
        step: of numbers, their step, 0 if there is none.
        decimals: number of decimals that are given back; None for all digits.
        origin: smallest number.
        lower: bound that is kept.
        upper: likewise.
        resolution: of dates, in nanoseconds.
        timed: of dates, whether there is a time of day.
        zone: of dates, the time zone.
        format: of dates in text, how they are written.
        value: of a constant column.
        source: of a copy, the index of the column that it equals.
        weights: of a linear function, the offset, the coefficients of all columns, and how far a
            row may be off.
    """

    name: str
    kind: str
    dtype: str
    categories: tuple[Any, ...] = ()
    levels: tuple[Any, ...] | None = None
    ordered: bool = False
    missing: bool = False
    repeated: tuple[float, ...] = ()
    step: float = 0.0
    decimals: int | None = None
    origin: float = 0.0
    lower: float | None = None
    upper: float | None = None
    resolution: int = _DAY
    timed: bool = False
    zone: str | None = None
    format: str | None = None
    value: Any = None
    source: int | None = None
    weights: tuple[float, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether its coordinates are numbers, rather than the index of a category."""
        return self.kind in ("continuous", "decimal", "integer", "datetime")

    @property
    def has_status(self) -> bool:
        """Whether it has a coordinate for its status."""
        return self.is_number and (self.missing or bool(self.repeated))

    @property
    def size(self) -> int:
        """Number of its coordinates."""
        if self.kind == "categorical":
            return 1
        return (1 + self.has_status + self.timed) if self.is_number else 0

    def sort_keys(self, x: NDArray) -> NDArray:
        """Return a number for each value of a column of numbers or dates, in their order.

        Args:
            x: ``(N, size)`` coordinates of the column.

        Returns:
            ``(N,)``, infinite for gaps.
        """
        if self.timed:
            return np.nan_to_num(x[:, -2] + x[:, -1] * self.resolution / _DAY, nan=np.inf)
        key = np.nan_to_num(x[:, -1], nan=np.inf)
        for i, value in enumerate(self.repeated):
            key[x[:, 0] == 1 + self.missing + i] = value
        return key

    def describe(self) -> str:
        """Return what is found of the column, in a few words."""
        words = []
        if self.kind == "categorical":
            words.append(
                f"{len(self.categories)} categories: {some_of(list(map(str, self.categories)))}"
            )
        elif self.kind == "decimal":
            words.append(f"step {self.step:g}")
        elif self.kind == "datetime":
            unit = {
                _DAY: "days",
                RESOLUTIONS[1]: "hours",
                RESOLUTIONS[2]: "minutes",
                RESOLUTIONS[3]: "seconds",
            }.get(self.resolution, "fractions of a second")
            words.append(unit + (f", {self.zone}" if self.zone else ""))
        elif self.kind == "constant":
            words.append(f"always {self.value}")
        if self.is_number:
            low, high = (_short(bound) for bound in (self.lower, self.upper))
            if self.kind != "datetime" and (low or high):
                words.append(f"{low or '-inf'} to {high or 'inf'}")
            if self.repeated:
                words.append(f"often {some_of([_short(v) for v in self.repeated])}")
        if self.missing:
            words.append("with gaps")
        return "; ".join(words)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


# ---------------------------------------------------------------------- the schema


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table, in order.

    Args:
        columns: the columns.
        flexible: whether the map of a column of numbers may be more than a shift and a scale.
        named: whether columns are found by their names, rather than their places.

    >>> frame = pd.DataFrame({"town": ["Rome", "Oslo", None] * 9, "age": [38.5, 40.0, 41.5] * 9})
    >>> schema = TableSchema.of(frame)
    >>> [column.kind for column in schema.columns], [c.name for c in schema.coordinates]
    (['categorical', 'decimal'], ['town', 'age'])
    >>> schema.decode(schema.encode(frame)[0]).equals(frame)
    True
    """

    columns: tuple[Column, ...]
    flexible: bool = True
    named: bool = True

    def without_names(self) -> TableSchema:
        """Return the schema of a table without names: columns are taken as they come."""
        columns = tuple(replace(c, name=f"x{i}") for i, c in enumerate(self.columns))
        return TableSchema(columns, self.flexible, False)

    @staticmethod
    def of(
        frame: pd.DataFrame,
        kinds: Mapping[str, str] | str | None = None,
        *,
        where: str = "the table",
        numbers: bool = False,
        keep_range: bool = False,
    ) -> TableSchema:
        """Look at a table.

        Args:
            frame: the table.
            kinds: kinds of columns by name, or that of all, instead of those that are found.
            where: what the table is called in messages.
            numbers: whether it is an array of numbers: then integers are integers, all other
                numbers are continuous and without bounds, and each is only shifted and scaled.
            keep_range: let samples keep the range of every column of numbers.

        Raises:
            ValueError: naming the column, if one cannot be modelled.
        """
        names = [str(name) for name in frame.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{where} has two columns called {twice[0]!r}: rename one")
        if len(frame) == 0:
            raise ValueError(f"{where} has no rows")
        declared = dict.fromkeys(names, kinds) if isinstance(kinds, str) else dict(kinds or {})
        for name, kind in declared.items():
            if name not in names:
                hint = did_you_mean(name, names)
                raise ValueError(
                    f"{where} has no column {name!r} to declare: {hint}there are {some_of(names)}"
                )
            if kind not in KINDS:
                hint = did_you_mean(str(kind), KINDS)
                raise ValueError(
                    f"unknown kind {kind!r} of column {name!r}: {hint}there are {', '.join(KINDS)}"
                )
        found: list[Column] = []
        seen: dict[Any, int] = {}
        for i, name in enumerate(names):
            values = frame.iloc[:, i]
            look = _Look(values, name, f"column {name!r} of {where}", numbers, keep_range)
            column = look.column(declared.get(name))
            if column.size:
                key = (
                    column.dtype,
                    len(values),
                    int(pd.util.hash_pandas_object(values, index=False, categorize=False).sum()),
                )
                same = seen.setdefault(key, i)
                if same != i and _equal(frame.iloc[:, same], values):
                    column = Column(name, "copy", column.dtype, source=same)
            found.append(column)
        return _with_linear(TableSchema(tuple(found), not numbers), frame)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that are given back."""
        return tuple(column.name for column in self.columns if column.kind != "drop")

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return sum(column.size for column in self.columns)

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """The coordinates, in order."""
        found: list[Coordinate] = []
        for column in self.columns:
            name, status = column.name, None
            if column.kind == "categorical":
                size = len(column.categories) + column.missing
                found.append(Coordinate(name, "category", size=size))
            if column.has_status:
                status = len(found)
                size = 1 + column.missing + len(column.repeated)
                found.append(Coordinate(f"{name} (status)", "category", size=size))
            if column.kind == "datetime":
                found.append(Coordinate(name, "step", status=status))
                if column.timed:
                    last = _DAY // column.resolution - 1
                    time = Coordinate(f"{name} (time)", "step", status=status)
                    found.append(replace(time, lower=0.0, upper=float(last)))
            elif column.is_number:
                found.append(
                    Coordinate(
                        name, "step" if column.step else "number", column.step or 1.0,
                        column.origin, lower=column.lower, upper=column.upper, status=status,
                        flexible=self.flexible,
                    )
                )  # fmt: skip
        return tuple(found)

    def places(self) -> dict[str, slice]:
        """Return where each column's coordinates are, by name."""
        ends = np.cumsum([column.size for column in self.columns]).tolist()
        return {c.name: slice(e - c.size, e) for c, e in zip(self.columns, ends, strict=True)}

    # ------------------------------------------------------------------ tables to numbers

    def encode(
        self, frame: pd.DataFrame, *, where: str = "the table", unknown: bool = False
    ) -> tuple[NDArray, NDArray]:
        """Return coordinates of a table's rows, and which rows are possible.

        Args:
            frame: table with the schema's columns, in any order; others are ignored.
            where: what the table is called in messages.
            unknown: take every gap as something to be filled in: all of its coordinates are NaN.

        Returns:
            ``(N, D')`` float64, with NaN for numbers that are not there; and ``(N,)``, False for
            rows with a value that a column cannot have: not on its step, or not what follows from
            the others.

        Raises:
            ValueError: naming the column, if it is not there, or holds an unknown category, a gap
                where there was none, or no numbers.
        """
        held = {str(name): i for i, name in enumerate(frame.columns)}
        if not self.named and len(held) == len(self.columns):
            held = {column.name: i for i, column in enumerate(self.columns)}
        missing = [name for name in self.names if name not in held]
        if missing:
            raise ValueError(
                f"{where} has no column {missing[0]!r}; its columns are {some_of(list(held))}"
            )
        x = np.full((len(frame), self.dim), np.nan)
        possible = np.ones(len(frame), dtype=bool)
        places = self.places()
        for column in self.columns:
            if not column.size:
                continue
            values = frame.iloc[:, held[column.name]]
            name = f"column {column.name!r} of {where}"
            x[:, places[column.name]], good = _encode(column, values, name, unknown)
            possible &= good
        for column in self.columns:
            if column.kind in ("constant", "copy", "linear"):
                values = frame.iloc[:, held[column.name]]
                good = self._follows(column, values, frame, held, x)
                possible &= (good | values.isna().to_numpy()) if unknown else good
        return x, possible

    def rows(self, frame: pd.DataFrame, *, where: str = "the table") -> NDArray:
        """Return coordinates as :meth:`encode` does, of a table all of whose rows are possible.

        Without names of its own, the schema takes columns as they come.

        Raises:
            ValueError: naming the first row that is not possible, and as :meth:`encode` does.
        """
        x, possible = self.encode(frame, where=where)
        if not possible.all():
            row = int(np.argmin(possible)) + 1
            raise ValueError(
                f"row {row} (counting from 1) of {where} cannot be: a column that was constant, or "
                "followed from others, in training does not, or a date has a time"
            )
        return x

    def _follows(
        self, column: Column, values: pd.Series, frame: pd.DataFrame, held: Mapping[str, int],
        x: NDArray,
    ) -> NDArray:  # fmt: skip
        """Return which values of a column without coordinates are what they must be."""
        if column.kind == "copy":
            assert column.source is not None
            other = frame.iloc[:, held[self.columns[column.source].name]]
            return _same(values, other)
        if column.kind == "constant":
            return _same(values, pd.Series(_series([column.value] * len(values), column)))
        expected = self._linear(column, x)
        got = values.to_numpy(dtype=np.float64, na_value=np.nan)
        near: NDArray = np.abs(got - expected) <= column.weights[-1]
        return near | np.isnan(expected)

    def _linear(self, column: Column, x: NDArray) -> NDArray:
        total = np.full(len(x), column.weights[0])
        places = self.places()
        for weight, other in zip(column.weights[1:-1], self.columns, strict=True):
            if weight:
                total = total + weight * x[:, places[other.name].stop - 1]
        return total

    # ------------------------------------------------------------------ numbers to tables

    def decode(self, x: NDArray) -> pd.DataFrame:
        """Return the table of coordinates ``(N, D')``: the columns, with their types and decimals.

        Numbers keep to the bounds of their column.
        """
        places = self.places()
        found: dict[int, pd.Series] = {}
        for i, column in enumerate(self.columns):
            if column.size:
                found[i] = _decode(column, x[:, places[column.name]])
            elif column.kind == "constant":
                found[i] = _series([column.value] * len(x), column)
            elif column.kind == "linear":
                found[i] = _series(self._linear(column, x), column)
        for i, column in enumerate(self.columns):
            if column.kind == "copy" and column.source is not None:
                found[i] = found[column.source]
        data = {self.columns[i].name: found[i] for i in sorted(found)}
        return pd.DataFrame(data) if data else pd.DataFrame(index=range(len(x)))

    def features(self, x: NDArray) -> NDArray:
        """Return coordinates as a condition for networks: categories as one-hot vectors.

        A number that is not there is the mean of nothing, 0, and its status says so.

        Args:
            x: ``(N, D')`` coordinates.

        Returns:
            ``(N, K)``.
        """
        parts = []
        for i, coordinate in enumerate(self.coordinates):
            if coordinate.kind == "category":
                parts.append(x[:, [i]] == np.arange(coordinate.size))
            else:
                parts.append(np.nan_to_num(x[:, [i]]))
        return np.concatenate(parts, axis=1).astype(np.float64) if parts else np.zeros((len(x), 0))

    # ------------------------------------------------------------------ JSON

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; what is as by default is left out."""
        bare = asdict(Column("", "", ""))
        columns = [
            {k: v for k, v in asdict(c).items() if k in ("name", "kind", "dtype") or v != bare[k]}
            for c in self.columns
        ]
        return {"columns": columns, "flexible": self.flexible, "named": self.named}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> TableSchema:
        """Return the inverse of :meth:`as_dict`, of what may come from anybody's file.

        Raises:
            ValueError: if it does not describe columns.
        """
        try:
            columns = tuple(_column_of(item, len(value["columns"])) for item in value["columns"])
            names = [column.name for column in columns]
            if not columns or len(set(names)) != len(names):
                raise ValueError("two columns have the same name")
            return TableSchema(columns, value["flexible"] is True, value["named"] is True)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"the saved columns of a table are damaged: {error}") from error


def _column_of(item: Mapping[str, Any], count: int) -> Column:
    known = {f.name for f in fields(Column)}
    if not set(item) <= known:
        raise ValueError("the saved columns of a table have unknown properties")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in item.items()}
    column = Column(**values)
    texts = (column.name, column.kind, column.dtype)
    numbers = (*column.repeated, *column.weights, column.step, column.origin, column.resolution)
    plain = all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
    source = column.source
    good = (
        all(isinstance(text, str) for text in texts)
        and column.kind in (*KINDS, "constant", "copy", "linear")
        and plain
        and column.step >= 0
        and column.resolution in RESOLUTIONS
        and (source is None or (isinstance(source, int) and 0 <= source < count))
        and (column.kind != "copy" or source is not None)
        and (column.kind != "linear" or len(column.weights) == count + 2)
        and all(v is None or isinstance(v, str | int | float | bool) for v in column.categories)
    )
    if not good:
        raise ValueError(f"the saved column {str(column.name)[:50]!r} of a table is damaged")
    return column


# ---------------------------------------------------------------------- looking at a column


@dataclass(frozen=True)
class _Look:
    """Looks at one column."""

    values: pd.Series
    name: str
    where: str
    numbers: bool
    keep_range: bool
    dtype: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", str(self.values.dtype))

    def column(self, declared: str | None) -> Column:
        """Return what the column is, or what it is declared to be."""
        if declared == "drop":
            return Column(self.name, "drop", self.dtype)
        there = self.values.dropna()
        if len(there) == 0:
            raise ValueError(f"{self.where} has no values, only gaps: drop it (kind drop)")
        if declared == "categorical":
            return self.categorical(there)
        if isinstance(self.values.dtype, pd.DatetimeTZDtype) or types.is_datetime64_dtype(there):
            return self.datetime(there, None)
        kind = self.values.dtype
        text = isinstance(kind, pd.CategoricalDtype) or not (
            types.is_numeric_dtype(kind) or types.is_bool_dtype(kind)
        )
        if types.is_complex_dtype(kind) or types.is_timedelta64_dtype(kind):
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
            row, value = self.row(there, odd[0]), plain[odd[0]]
            raise ValueError(
                f"{self.where} mixes text and other values: row {row} (counting from 1) holds "
                f"{value!r}; turn all of it into text, or into numbers"
            )
        words = pd.Series(plain, there.index)
        parsed = pd.to_numeric(words.str.strip(), errors="coerce").notna().to_numpy()
        if declared in ("continuous", "decimal", "integer") or 0.5 <= parsed.mean() < 1:
            bad = int(np.argmin(parsed))
            raise ValueError(
                f"{self.where} mixes numbers and text: row {self.row(there, bad)} (counting from "
                f"1) holds {plain[bad]!r}; mend it, or declare the column categorical"
            )
        dates = words.map(lambda w: _DATE.fullmatch(w.strip()) is not None).to_numpy()
        if declared == "datetime" or dates.mean() > 0.5:
            return self.dates(words, there)
        distinct = words.nunique()
        if distinct > MOST_CATEGORIES or (len(words) >= 20 and distinct > 0.9 * len(words)):
            raise ValueError(
                f"{self.where} holds {distinct:,} different texts in {len(words):,} rows, as names "
                "and identifiers do: drop it (kind drop), or group its texts"
            )
        return self.categorical(there)

    def row(self, there: pd.Series, i: int) -> int:
        """Return the row of the i-th value, counting from 1."""
        return int(np.flatnonzero(self.values.notna().to_numpy())[i]) + 1

    def dates(self, words: pd.Series, there: pd.Series) -> Column:
        first = words.iloc[0]
        fmt = next((f for f in _formats(first) if _parsed(words, f).notna().all()), None)
        if fmt is None:
            guess = max(
                _formats(first) or ["%Y-%m-%d"], key=lambda f: int(_parsed(words, f).notna().sum())
            )
            bad = int(np.argmin(_parsed(words, guess).notna().to_numpy()))
            raise ValueError(
                f"{self.where} holds dates in more than one format: row {self.row(there, bad)} "
                f"(counting from 1) holds {words.iloc[bad]!r}, row {self.row(there, 0)} {first!r}; "
                "write all of them in one, or declare the column categorical"
            )
        return self.datetime(_parsed(words, fmt), fmt)

    def datetime(self, there: pd.Series, fmt: str | None) -> Column:
        zone = None if there.dt.tz is None else str(there.dt.tz)
        ticks = wall_clock(there)
        resolution = next(unit for unit in RESOLUTIONS if (ticks % unit == 0).all())
        days = ticks // _DAY
        timed = resolution < _DAY
        if len(np.unique(ticks)) == 1 and not self.values.isna().any():
            value = self.values.iloc[0]
            return Column(self.name, "constant", self.dtype, value=str(value))
        if timed and len(np.unique(days)) == 1:
            # one day's times are a time of day
            pass
        return Column(
            self.name, "datetime", self.dtype, missing=bool(self.values.isna().any()),
            resolution=resolution, timed=timed, zone=zone, format=fmt, origin=float(days.min()),
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
                "group them, or drop it (kind drop)"
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

    def number(self, there: pd.Series, declared: str | None) -> Column:
        if declared == "datetime":
            raise ValueError(f"{self.where} is declared datetime, but holds numbers")
        x = there.to_numpy(dtype=np.float64)
        if not np.isfinite(x).all():
            bad = int(np.argmin(np.isfinite(x)))
            raise ValueError(
                f"{self.where} holds {x[bad]}, first in row {self.row(there, bad)} (counting "
                "from 1): remove or fill in such rows"
            )
        missing = bool(self.values.isna().any())
        distinct, counts = np.unique(x, return_counts=True)
        if len(distinct) == 1:
            if missing:
                return self.categorical(there)
            return Column(self.name, "constant", self.dtype, value=_plain(there.iloc[0]))
        whole = bool((x == np.floor(x)).all()) and bool((np.abs(x) <= 2.0**53).all())
        if declared == "integer" and not whole:
            raise ValueError(f"{self.where} is declared integer, but holds fractions")
        if declared is None and whole and not self.numbers and self.is_few(distinct, counts):
            return self.categorical(there)
        centered = np.abs(x - np.floor(x.mean())).max() <= 2**18 if self.numbers else True
        decimals, step = self.grid(x, distinct)
        kind = "continuous"
        if declared is not None:
            kind = declared
        elif whole and centered:
            kind = "integer"
        elif step and not self.numbers:
            spread = (distinct[-1] - distinct[0]) / step
            if len(distinct) < 0.99 * len(x) or spread <= 20 * len(x):
                kind = "decimal"
        if kind == "decimal" and not step:
            raise ValueError(f"{self.where} is declared decimal, but its numbers have no step")
        step = {"integer": 1.0, "decimal": step}.get(kind, 0.0)
        lower = upper = None
        if self.keep_range and not self.numbers:
            lower, upper = float(distinct[0]), float(distinct[-1])
        elif not self.numbers and distinct[0] >= 0:
            lower = 0.0
        repeated: tuple[float, ...] = ()
        cells = (distinct[-1] - distinct[0]) / step if step else math.inf
        if not self.numbers and cells > MOST_CELLS:
            often = counts > max(5, REPEATED * len(x))
            repeated = tuple(float(v) for v in distinct[often][:50])
            rest = distinct[~often]
            if len(rest) < 2:
                return self.categorical(there)
        return Column(
            self.name, kind, self.dtype, missing=missing, repeated=repeated, step=step,
            decimals=None if self.numbers else decimals, origin=float(distinct[0]) if step else 0.0,
            lower=lower, upper=upper,
        )  # fmt: skip

    def is_few(self, distinct: NDArray, counts: NDArray) -> bool:
        """Return whether integers are so few that they are categories, and none of them is rare.

        Counts have rare ones, beyond which there may be others.
        """
        few = len(distinct) <= min(FEW_VALUES, counts.sum() / 8)
        return few and bool(counts.min() >= max(2, RARE * counts.sum()))

    def grid(self, x: NDArray, distinct: NDArray) -> tuple[int | None, float]:
        """Return the number of decimals, and the largest step of which all numbers are multiples.

        They are None and 0 where numbers have all their digits.
        """
        narrow = self.values.dtype == np.float32
        for decimals in range(5 if narrow else 10):
            if np.abs(distinct).max() * 10.0**decimals > 2**52:
                break
            rounded = np.round(distinct, decimals)
            if (
                (np.float32(rounded) == np.float32(distinct)).all()
                if narrow
                else (rounded == distinct).all()
            ):
                counts = np.rint(distinct * 10.0**decimals).astype(np.int64)
                step = int(np.gcd.reduce(np.diff(counts)))
                return decimals, step / 10.0**decimals
        return None, 0.0


def _plain(value: Any) -> Any:
    """Return a value for JSON."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"categories are texts, numbers or booleans, got {type(value).__name__}")
    return value


def _formats(text: str) -> list[str]:
    """Return the formats that a date may be written in, the usual one first."""
    found = []
    for date in (
        "%Y-%m-%d",
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%Y/%m/%d",
        "%d.%m.%Y",
        "%d-%m-%Y",
        "%m-%d-%Y",
        "%Y%m%d",
    ):
        for time in (
            "",
            " %H:%M",
            " %H:%M:%S",
            "T%H:%M:%S",
            "T%H:%M",
            " %H:%M:%S.%f",
            "T%H:%M:%S.%f",
            "T%H:%M:%SZ",
            " %H:%M:%S%z",
            "T%H:%M:%S%z",
        ):
            if pd.notna(pd.to_datetime(text, format=date + time, errors="coerce")):
                found.append(date + time)
    return found


def _parsed(words: pd.Series, fmt: str) -> pd.Series:
    return pd.to_datetime(words, format=fmt, errors="coerce", utc=fmt.endswith("%z"))


def wall_clock(there: pd.Series) -> NDArray:
    """Return times as nanoseconds of what the clock showed, since 1970."""
    local = there.dt.tz_localize(None) if there.dt.tz is not None else there
    ticks: NDArray = local.to_numpy().astype("datetime64[ns]").astype(np.int64)
    return ticks


def _equal(one: pd.Series, other: pd.Series) -> bool:
    return bool(one.reset_index(drop=True).equals(other.reset_index(drop=True)))


def _same(one: pd.Series, other: pd.Series) -> NDArray:
    """Return where two columns have the same value."""
    a, b = one.to_numpy(dtype=object), other.to_numpy(dtype=object)
    empty = pd.isna(a) & pd.isna(b)
    equal = np.array(
        [x is y or bool(pd.notna(x) and pd.notna(y) and x == y) for x, y in zip(a, b, strict=True)],
        dtype=bool,
    )
    result: NDArray = empty | equal
    return result


# ---------------------------------------------------------------------- one column's numbers


def _encode(
    column: Column, values: pd.Series, where: str, unknown: bool
) -> tuple[NDArray, NDArray]:
    n = len(values)
    gap = values.isna().to_numpy()
    good = np.ones(n, dtype=bool)
    if gap.any() and not column.missing and not unknown:
        raise ValueError(
            f"{where} has a missing value, first in row {int(np.argmax(gap)) + 1} (counting from "
            "1), of which there were none in training"
        )
    if column.kind == "categorical":
        codes = _codes(column, values, where)
        x = np.where(gap, np.nan if unknown else len(column.categories), codes)
        return x[:, None], good
    if column.kind == "datetime":
        numbers = _ticks(column, values, where)
        parts = [numbers // _DAY, (numbers % _DAY) / column.resolution][: 1 + column.timed]
        out = np.column_stack([np.where(gap, np.nan, part) for part in parts]).astype(float)
        if not column.timed:
            good &= gap | (numbers % _DAY == 0)
    else:
        try:
            number = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where} must hold numbers, as in training: {error}") from error
        if np.isinf(number).any():
            row = int(np.argmax(np.isinf(number))) + 1
            raise ValueError(f"{where} holds infinity, first in row {row} (counting from 1)")
        out = number[:, None].copy()
    if not column.has_status:
        return out, good
    status = np.where(gap, np.nan if unknown else 1.0, 0.0)
    if column.kind != "datetime":
        for i, value in enumerate(column.repeated):
            there = out[:, 0] == value
            status[there] = 1 + column.missing + i
    out[status != 0] = np.nan
    return np.column_stack((status, out)), good


def _codes(column: Column, values: pd.Series, where: str) -> NDArray:
    place = {value: i for i, value in enumerate(column.categories)}
    plain = values.to_numpy(dtype=object)
    codes = np.array([place.get(v, -1) if pd.notna(v) else 0 for v in plain], dtype=np.float64)
    if (codes < 0).any():
        if not all(isinstance(v, str) for v in column.categories):  # 1.0 is 1, and "1" may be
            numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=object)
            codes = np.array([place.get(v, -1) if pd.notna(v) else 0 for v in numbers], dtype=float)
        elif not any(isinstance(v, str) for v in plain):  # numbers in a file, but text in training
            texts = [str(v) for v in plain]
            codes = np.array([place.get(v, -1) if v != "nan" else 0 for v in texts], dtype=float)
    bad = (codes < 0) & values.notna().to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        known = list(map(str, column.categories))
        remedy = (
            "" if isinstance(column.categories[0], str) else "; or declare it integer when training"
        )
        raise ValueError(
            f"{where} holds {plain[row]!r}, first in row {row + 1} (counting from 1), which is "
            f"none of the known categories {some_of(known)}{remedy}"
        )
    return codes


def _ticks(column: Column, values: pd.Series, where: str) -> NDArray:
    there = values
    if column.format is not None and not types.is_datetime64_any_dtype(values):
        there = _parsed(values.astype(object).where(values.notna(), None), column.format)
    elif not types.is_datetime64_any_dtype(values):
        there = pd.to_datetime(values, errors="coerce", utc=column.zone is not None)
    bad = there.isna() & values.notna()
    if bad.any():
        row = int(np.argmax(bad.to_numpy()))
        raise ValueError(
            f"{where} holds {values.iloc[row]!r} in row {row + 1} (counting from 1), which is no "
            "date of the format in training"
        )
    if column.zone is not None:
        there = (
            there.dt.tz_localize(column.zone)
            if there.dt.tz is None
            else there.dt.tz_convert(column.zone)
        )
    return wall_clock(there.fillna(pd.Timestamp(0, tz=there.dt.tz)))


def _decode(column: Column, x: NDArray) -> pd.Series:
    if column.kind == "categorical":
        known = len(column.categories)
        codes = np.nan_to_num(x[:, 0], nan=known).astype(int)
        values = [column.categories[c] if c < known else None for c in codes]
        return _series(values, column)
    number = x[:, -1 - column.timed].copy()
    absent = np.isnan(number)
    if column.kind == "datetime":
        ticks = np.nan_to_num(number).clip(-100_000, 100_000).astype(np.int64) * _DAY
        if column.timed:
            ticks = ticks + np.rint(np.nan_to_num(x[:, -1])).astype(np.int64) * column.resolution
        stamps = pd.Series(ticks.astype("datetime64[ns]")).mask(absent)
        return _stamps(stamps, column)
    if column.step and column.kind != "integer":
        number = column.origin + column.step * np.rint((number - column.origin) / column.step)
    if column.decimals is not None:
        number = np.round(number, column.decimals)
    if column.lower is not None or column.upper is not None:
        number = number.clip(column.lower, column.upper)
    if column.has_status:
        for i, value in enumerate(column.repeated):
            there = x[:, 0] == 1 + column.missing + i
            number[there] = value
    return _series(number, column)


def _series(values: Any, column: Column) -> pd.Series:
    """Return values as a column of the type that it had."""
    dtype: Any = column.dtype
    if dtype == "category":
        levels = list(column.levels or column.categories)
        return pd.Series(pd.Categorical(values, categories=levels, ordered=column.ordered))
    if dtype.startswith("datetime64"):  # a constant
        return pd.to_datetime(pd.Series(values)).astype(dtype)
    if isinstance(values, np.ndarray) and re.fullmatch(r"[uU]?[iI]nt\d+", dtype):
        info = np.iinfo(dtype.lower())
        whole = np.rint(values).clip(float(info.min), float(info.max))
        if dtype[0] in "IU":  # pandas' own, with gaps
            return pd.Series(whole).astype("Float64").astype(dtype)
        return pd.Series(whole.astype(dtype))
    return pd.Series(values, dtype=dtype)


def _stamps(stamps: pd.Series, column: Column) -> pd.Series:
    dtype: Any = column.dtype
    if column.zone is not None:
        every = np.ones(len(stamps), dtype=bool)
        stamps = stamps.dt.tz_localize(column.zone, ambiguous=every, nonexistent="shift_forward")
    if column.format is not None:
        text = stamps.dt.strftime(column.format.replace("%z", "+0000"))
        return pd.Series(text.where(stamps.notna(), None), dtype=dtype)
    return stamps.astype(dtype)


# ---------------------------------------------------------------------- linear functions


def _with_linear(schema: TableSchema, frame: pd.DataFrame) -> TableSchema:
    """Return the schema, with the columns that are a linear function of others as such.

    Only columns of numbers without gaps are looked at. Discrete columns have a probability, which
    is finite whatever they depend on.
    """
    index = [
        i for i, c in enumerate(schema.columns)
        if c.kind in ("continuous", "integer", "decimal") and not c.has_status
    ]  # fmt: skip
    real = [i for i in index if not schema.columns[i].step]
    if not real or len(frame) < len(index) + 2:  # so few rows always are
        return schema
    X = np.column_stack([frame.iloc[:, i].to_numpy(dtype=np.float64) for i in index])
    largest = np.abs(X).max(axis=0)
    mean = (X / largest).mean(axis=0) * largest
    unit = np.abs(X - mean).max(axis=0)
    std = np.sqrt((((X - mean) / unit) ** 2).mean(axis=0)) * unit
    if (lost := std <= 1e-13 * np.abs(mean)).any():
        name = schema.columns[index[int(np.argmax(lost))]].name
        raise ValueError(f"column {name} varies less than float64 can tell from its mean")
    Z = (X - mean) / std
    order = [j for j, i in enumerate(index) if i not in real]
    order += [j for j, i in enumerate(index) if i in real]
    # Of R in Z = QR, the diagonal is what the columns before a column leave of it.
    left = np.abs(np.diagonal(np.linalg.qr(Z[:, order], mode="r"))) / len(Z) ** 0.5
    dependent = {
        j for j, rest in zip(order, left, strict=True) if rest <= DEPENDENT and index[j] in real
    }
    free = [j for j in range(len(index)) if j not in dependent]
    columns = list(schema.columns)
    for j in sorted(dependent):
        some = np.array(free)
        for _ in range(2):  # once more without those that make no difference
            slopes = np.linalg.lstsq(Z[:, some], Z[:, j], rcond=None)[0]
            keep = np.abs(slopes) > 10 * DEPENDENT
            some, slopes = some[keep], slopes[keep]
        slopes = slopes * (std[j] / std[some])
        row = np.zeros(len(columns))
        row[[index[k] for k in some]] = slopes
        offset = mean[j] - slopes @ mean[some]
        weights = (float(offset), *row.tolist(), float(10 * DEPENDENT * std[j]))
        old = columns[index[j]]
        columns[index[j]] = Column(
            old.name, "linear", old.dtype, decimals=old.decimals, weights=weights
        )
    return TableSchema(tuple(columns), schema.flexible)
