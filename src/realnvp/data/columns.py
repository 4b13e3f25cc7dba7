"""Columns of every kind: detection, conversion to numbers for a flow, and conversion back.

A table has text, booleans, categories, decimals, dates with time zones, gaps, and redundant
columns. :class:`TableSchema` inspects a table once and stores what each column is;
:meth:`TableSchema.encode` turns tables of these columns into float64 coordinates, and
:meth:`TableSchema.decode` turns coordinates into a table of the same columns, types and decimals.

===========  ====================================================================================
kind         coordinates, and what they add to a row's log-likelihood
===========  ====================================================================================
continuous   the number: its log-density, in the column's own unit
decimal      multiples of a step, such as 0.1 or 25: the log of the mean density over one step
integer      a step of 1: the log-probability
categorical  the index of the category: its log-probability; a gap is one more category
datetime     days, and the time of day where there is one: the log-probability, at the resolution
             of the column
constant     none: samples have its value, and a row with another value is impossible
copy         none: it equals another column
linear       none: it is a linear function of other columns
drop         none: the column is ignored, and samples do not have it
===========  ====================================================================================

Numbers and dates with gaps have one more coordinate, their status: whether there is a value (0), a
gap, or one of the values that a continuous column repeats, such as 0. Its log-probability counts,
and a missing number adds 0: it is replaced by noise, whose density is subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from realnvp.data.column_detection import ColumnDetector
from realnvp.data.column_kinds import DAY, KINDS, Column, Coordinate
from realnvp.data.column_values import (
    are_constant,
    as_series,
    date_texts,
    decode_column,
    encode_column,
    numbers_of,
    on_grid,
    same_values,
)
from realnvp.data.date_formats import parse_dates
from realnvp.data.impossible import Impossible, impossible_text
from realnvp.data.linear_columns import with_linear
from realnvp.utils.errors import did_you_mean, some_of

__all__ = ["KINDS", "Column", "Coordinate", "TableSchema"]


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table, in order.

    Args:
        columns: the columns.
        flexible: whether the map of a column of numbers may be more than a shift and a scale.
        named: whether columns are found by their names, rather than their positions.

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
        """Return the schema of a table without names: columns are taken in order."""
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
        """Detect the columns of a table.

        Args:
            frame: the table.
            kinds: kinds of columns by name, or one kind for all, instead of the detected ones.
            where: name of the table in messages.
            numbers: whether it is an array of numbers: then integers are integers, all other
                numbers are continuous and without bounds, and each is only shifted and scaled.
            keep_range: let samples keep the range of every column of numbers.

        Raises:
            ValueError: naming the column, if one cannot be modeled.
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
            look = ColumnDetector(values, name, f"column {name!r} of {where}", numbers, keep_range)
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
        return TableSchema(with_linear(found, frame), not numbers)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that samples have."""
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
                step, origin = (column.step, column.origin) if column.step else (1.0, 0.0)
                found.append(Coordinate(name, "step", step, origin, status=status))
                if column.timed:
                    last = DAY // column.resolution - 1
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

    def column(self, name: str) -> Column:
        """Return the column of a name, which must exist."""
        return next(column for column in self.columns if column.name == name)

    # ------------------------------------------------------------------ tables to numbers

    def encode(
        self, frame: pd.DataFrame, *, where: str = "the table", unknown: bool = False
    ) -> tuple[NDArray, NDArray]:
        """Return coordinates of a table's rows, and which rows are possible.

        Args:
            frame: table with the schema's columns, in any order; others are ignored. It may lack
                those that add no information: constants, and those that follow from others. A
                schema without names takes columns in order.
            where: name of the table in messages.
            unknown: treat every gap as a value to be filled in: all of its coordinates are NaN,
                unless it follows from other columns.

        Returns:
            ``(N, D')`` float64, with NaN for missing numbers and impossible values; and ``(N,)``,
            False for rows with a value that a column cannot have: an unknown category, a gap where
            there was none, a date off its grid, or one that does not follow from other columns.

        Raises:
            ValueError: naming the column, if it is missing, or holds something other than numbers
                or dates.
        """
        x, found = self.inspect(frame, where=where, unknown=unknown)
        possible = np.ones(len(frame), dtype=bool)
        for each in found:
            possible[each.rows] = False
        return x, possible

    def inspect(
        self, frame: pd.DataFrame, *, where: str = "the table", unknown: bool = False
    ) -> tuple[NDArray, list[Impossible]]:
        """Return coordinates as :meth:`encode` does, and the values that are impossible."""
        held = {str(name): i for i, name in enumerate(frame.columns)}
        if not self.named and len(held) == len(self.columns):
            held = {column.name: i for i, column in enumerate(self.columns)}
        missing = [each.name for each in self.columns if each.size and each.name not in held]
        if missing:
            raise ValueError(
                f"{where} has no column {missing[0]!r}; its columns are {some_of(list(held))}"
            )
        x = np.full((len(frame), self.dim), np.nan)
        found: list[Impossible] = []
        places = self.places()
        for i, column in enumerate(self.columns):
            if not column.size:
                continue
            values = frame.iloc[:, held[column.name]]
            for other in self.columns if unknown else ():
                if other.kind == "copy" and other.source == i and other.name in held:
                    values = values.where(values.notna(), frame.iloc[:, held[other.name]])
            x[:, places[column.name]], good = encode_column(
                column, values, f"column {column.name!r} of {where}", unknown
            )
            found += self._impossible(column, values, good, where)
        for column in self.columns:
            if column.kind in ("constant", "copy", "linear") and column.name in held:
                values = frame.iloc[:, held[column.name]]
                if unknown and column.kind == "linear":
                    self._solve(column, values, x)
                good = self._follows(column, values, frame, held, x)
                for each in (column, *self._source(column)) if unknown else ():
                    if each.name in held:  # a gap contradicts nothing
                        good = good | frame.iloc[:, held[each.name]].isna().to_numpy()
                found += self._impossible(column, values, good, where)
        return x, found

    def encode_values(self, name: str, values: pd.Series) -> NDArray:
        """Return the coordinates ``(N, size)`` of the values of one column; see :meth:`encode`."""
        return encode_column(self.column(name), values, f"column {name!r} of the table", False)[0]

    def _impossible(
        self, column: Column, values: pd.Series, good: NDArray, where: str
    ) -> list[Impossible]:
        """Return the impossible values of a column, and its impossible gaps."""
        gap, found = values.isna().to_numpy(), []
        for bad, gaps in ((~good & gap, True), (~good & ~gap, False)):
            if bad.any():
                cells = [] if gaps else values[bad].tolist()
                why = f"but {self._gap_rule(column) if gaps else self.rule(column)}"
                rows = np.flatnonzero(bad).tolist()
                found.append(Impossible(column.name, where, rows, cells, why))
        return found

    def rows(self, frame: pd.DataFrame, *, where: str = "the table") -> NDArray:
        """Return coordinates as :meth:`encode` does, of a table all of whose rows are possible.

        Raises:
            ValueError: naming impossible values, and as :meth:`encode` does.
        """
        x, found = self.inspect(frame, where=where)
        if found:
            raise ValueError(impossible_text(found))
        return x

    def _gap_rule(self, column: Column) -> str:
        return "had none in training" if column.size else self.rule(column)

    def rule(self, column: Column) -> str:
        """Return what all values of a column were in training, for messages."""
        if column.kind == "constant":
            value = "empty" if column.value is None else repr(column.value)
            return f"was always {value} in training"
        if column.kind == "copy":
            assert column.source is not None
            return f"was always equal to {self.columns[column.source].name!r} in training"
        if column.kind == "linear":
            names = [other.name for other in self._used(column)]
            return f"followed from {some_of(names)} in training"
        if column.kind == "categorical":
            number = not isinstance(column.categories[0], str | bool)
            remedy = "; declare it integer when training, to allow others" if number else ""
            return f"had only {some_of(list(map(str, column.categories)))} in training{remedy}"
        return f"had {'first days of months' if column.months else 'days'} only in training"

    def marked_rows(
        self, frame: pd.DataFrame, *, where: str = "the table"
    ) -> tuple[NDArray, list[Impossible]]:
        """Return coordinates, with a mark in impossible rows, and the values that make them so.

        The mark is a NaN in a coordinate that every other row has; see :attr:`gapless`. It is in
        those of the column that is impossible, or of the columns that it must follow from; a
        constant has none, so that all of the row are marked.

        Raises:
            ValueError: naming the column, if it is missing, or does not hold numbers.
        """
        x, found = self.inspect(frame, where=where)
        gapless, places = np.asarray(self.gapless), self.places()
        for each in found:
            column = self.column(each.column)
            concerned = [column] if column.size else self._used(column)
            index = [i for each in concerned for i in range(*places[each.name].indices(self.dim))]
            marks = np.intersect1d(gapless, index) if index else gapless
            x[np.ix_(np.asarray(each.rows), marks)] = np.nan
        return x, found

    def _source(self, column: Column) -> list[Column]:
        """Return the column that a copy equals."""
        return [] if column.source is None else [self.columns[column.source]]

    def _used(self, column: Column) -> list[Column]:
        """Return the columns that a column without coordinates of its own follows from."""
        if column.kind == "copy":
            (source,) = self._source(column)
            return [source] if source.size else self._used(source)
        return [other for _, other in self._terms(column)] if column.kind == "linear" else []

    def _terms(self, column: Column) -> list[tuple[float, Column]]:
        """Return the weights and columns of a linear function."""
        pairs = zip(column.weights[1:-1], self.columns, strict=True)
        return [(weight, other) for weight, other in pairs if weight]

    def _follows(
        self, column: Column, values: pd.Series, frame: pd.DataFrame, held: Mapping[str, int],
        x: NDArray,
    ) -> NDArray:  # fmt: skip
        """Return which values of a column without coordinates are what the other columns imply."""
        if column.kind == "copy":
            (source,) = self._source(column)
            if source.name not in held:
                return np.ones(len(values), dtype=bool)
            return same_values(values, frame.iloc[:, held[source.name]])
        if column.kind == "constant":
            return are_constant(column, values)
        expected = self._linear(column, x)
        got = numbers_of(column, values, column.name).to_numpy(dtype=np.float64, na_value=np.nan)
        near: NDArray = np.abs(got - expected) <= column.weights[-1]
        return near | np.isnan(expected)

    def _solve(self, column: Column, values: pd.Series, x: NDArray) -> None:
        """Solve a linear function for its one unknown column, where there is only one."""
        got = numbers_of(column, values, column.name).to_numpy(dtype=np.float64, na_value=np.nan)
        places = self.places()
        used = self._terms(column)
        index = [places[other.name].stop - 1 for _, other in used]
        alone = np.isfinite(got) & (np.isnan(x[:, index]).sum(1) == 1)
        for (weight, other), i in zip(used, index, strict=True):
            rows = alone & np.isnan(x[:, i])
            x[rows, i] = 0.0
            x[rows, i] = on_grid(other, (got[rows] - self._linear(column, x[rows])) / weight)

    def _linear(self, column: Column, x: NDArray) -> NDArray:
        total = np.full(len(x), column.weights[0])
        places = self.places()
        for weight, other in self._terms(column):
            total = total + weight * x[:, places[other.name].stop - 1]
        return total

    # ------------------------------------------------------------------ numbers to tables

    def decode(self, x: NDArray, *, bounded: bool = True) -> pd.DataFrame:
        """Return the table of coordinates ``(N, D')``: the columns, with their types and decimals.

        Args:
            x: the coordinates.
            bounded: whether numbers keep to the bounds of their column, as samples do.
        """
        places = self.places()
        found: dict[int, pd.Series] = {}
        for i, column in enumerate(self.columns):
            if column.size:
                found[i] = decode_column(column, x[:, places[column.name]], bounded)
            elif column.kind == "constant":
                found[i] = as_series([column.value] * len(x), column)
            elif column.kind == "linear":
                found[i] = as_series(self._linear(column, x), column)
        for i, column in enumerate(self.columns):
            if column.kind == "copy" and column.source is not None:
                found[i] = found[column.source]
        data = {self.columns[i].name: found[i] for i in sorted(found)}
        return pd.DataFrame(data) if data else pd.DataFrame(index=range(len(x)))

    def within_reach(self, x: NDArray) -> NDArray:
        """Return coordinates ``(N, D')`` with numbers clamped to the reach of their column.

        A flow extrapolates tails from few values, and could draw implausible ones.
        """
        x, places = x.copy(), self.places()
        for column in self.columns:
            if column.reach and column.is_number:
                i = places[column.name].stop - 1 - column.timed
                x[:, i] = x[:, i].clip(column.reach[0], column.reach[1])
        return x

    def sums(self, values: NDArray) -> pd.DataFrame:
        """Return values of coordinates ``(N, D')``, added up for each column; a NaN counts as 0."""
        columns = [(c.name, self.places()[c.name]) for c in self.columns if c.size]
        return pd.DataFrame({name: np.nansum(values[:, place], 1) for name, place in columns})

    def numeric(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with numbers in place of those that are written as text."""
        written = [c for c in self.columns if c.notation and c.name in frame.columns]
        return frame.assign(**{c.name: numbers_of(c, frame[c.name], c.name) for c in written})

    @property
    def gapless(self) -> list[int]:
        """Indices of the coordinates that have a value in every row."""
        return [i for i, coordinate in enumerate(self.coordinates) if coordinate.status is None]

    def parsed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with numbers, and dates, in place of those that are text."""
        dates = [c for c in self.columns if c.format is not None and c.name in frame.columns]
        return self.numeric(frame).assign(
            **{c.name: parse_dates(date_texts(frame[c.name]), c.format) for c in dates if c.format}
        )

    def features(self, x: NDArray) -> NDArray:
        """Return coordinates as a condition for networks: categories as one-hot vectors.

        A missing number is encoded as 0, the mean, and its status as missing.

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
        """Return plain values, for JSON; defaults are left out."""
        bare = asdict(Column("", "", ""))
        columns = [
            {k: v for k, v in asdict(c).items() if k in ("name", "kind", "dtype") or v != bare[k]}
            for c in self.columns
        ]
        return {"columns": columns, "flexible": self.flexible, "named": self.named}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> TableSchema:
        """Return the inverse of :meth:`as_dict`, validated, as the file may be untrusted.

        Raises:
            ValueError: if it does not describe columns.
        """
        try:
            columns = tuple(
                Column.from_dict(item, len(value["columns"])) for item in value["columns"]
            )
            names = [column.name for column in columns]
            if not columns or len(set(names)) != len(names):
                raise ValueError("two columns have the same name")
            return TableSchema(columns, value["flexible"] is True, value["named"] is True)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"the saved columns of a table are damaged: {error}") from error


def _equal(one: pd.Series, other: pd.Series) -> bool:
    return bool(one.reset_index(drop=True).equals(other.reset_index(drop=True)))
