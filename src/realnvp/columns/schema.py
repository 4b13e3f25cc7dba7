"""All columns of a table: from a table to features, float64 numbers that a flow models, and back.

===========  ====================================================================================
kind         features, and what they add to a row's log-likelihood
===========  ====================================================================================
continuous   the number: its log-density, in the column's own unit
decimal      multiples of a step, such as 0.1 or 25: the log of the mean density over one step
integer      a step of 1: the log-probability
categorical  the index of the category: its log-probability; a missing value is one more category
datetime     days, and the time of day where there is one: the log-probability, at the resolution
             of the column
constant     none: samples have its value, and a row with another value is impossible
copy         none: it equals another column
linear       none: it is a linear function of other columns
drop         none: the column is ignored, and samples do not have it
===========  ====================================================================================

Numbers and dates with missing values have one more feature, their missingness indicator: whether
there is a value (0), a missing one, or one of the values that a continuous column repeats, such as
0. Its log-probability counts, and a missing number adds 0: it is replaced by noise, whose density
is subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from realnvp.columns.impossible import Impossible, impossible_text, possible_rows
from realnvp.columns.kinds import Column, Copy, Dropped, Feature, Linear
from realnvp.columns.kinds.base import KINDS, detect, from_dict
from realnvp.columns.kinds.implied import Encoded, Implied
from realnvp.columns.look import Look
from realnvp.utils.errors import did_you_mean, some_of

__all__ = ["TableSchema", "declarable"]


def declarable() -> tuple[str, ...]:
    """Return the kinds that a column can be declared to be of."""
    return tuple(name for name, kind in KINDS.items() if kind.declarable)


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table, in order.

    Args:
        columns: the columns.
        flexible: whether the map of a column of numbers may be more than a shift and a scale.
        named: whether columns are found by their names, rather than their positions.

    >>> frame = pd.DataFrame({"town": ["Rome", "Oslo", None] * 9, "age": [38.5, 40.0, 41.5] * 9})
    >>> schema = TableSchema.of(frame)
    >>> [column.kind for column in schema.columns], [f.name for f in schema.features]
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
            if kind not in declarable():
                hint = did_you_mean(str(kind), declarable())
                raise ValueError(
                    f"unknown kind {kind!r} of column {name!r}: {hint}there are "
                    f"{', '.join(declarable())}"
                )
        columns = tuple(
            detect(
                Look(
                    frame.iloc[:, i], name, f"column {name!r} of {where}", declared.get(name),
                    numbers, keep_range,
                )
            )
            for i, name in enumerate(names)
        )  # fmt: skip
        for implied in (Copy, Linear):
            columns = implied.among(columns, frame)
        return TableSchema(columns, not numbers)

    # ------------------------------------------------------------------ what there is

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that samples have."""
        return tuple(column.name for column in self.columns if column.kind != "drop")

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The features of all columns, in order."""
        features: list[Feature] = []
        for column in self.columns:
            first = len(features)
            for each in column.features():
                indicator = None if each.indicator is None else first + each.indicator
                flexible = each.flexible and self.flexible
                features.append(replace(each, indicator=indicator, flexible=flexible))
        return tuple(features)

    @property
    def dim(self) -> int:
        """Number of features."""
        return len(self.features)

    @cached_property
    def places(self) -> dict[str, slice]:
        """Where each column's features are, by name."""
        ends = np.cumsum([column.size for column in self.columns]).tolist()
        return {c.name: slice(e - c.size, e) for c, e in zip(self.columns, ends, strict=True)}

    @property
    def left_out(self) -> dict[str, str]:
        """Why columns are left out that cannot be modeled, by name."""
        dropped = [column for column in self.columns if isinstance(column, Dropped)]
        return {column.name: column.note for column in dropped if column.note}

    def doubts(self, frame: pd.DataFrame) -> list[str]:
        """Return sentences about values of the training table that may be meant otherwise."""
        columns = zip(self.columns, frame.columns, strict=True)
        return [
            f"column {column.name!r} {doubt}"
            for column, name in columns
            for doubt in column.doubts(frame[name])
        ]

    def column(self, name: str) -> Column:
        """Return the column of a name, which must exist."""
        return next(column for column in self.columns if column.name == name)

    @cached_property
    def always_present(self) -> list[int]:
        """Indices of the features that have a value in every row."""
        return [i for i, feature in enumerate(self.features) if feature.indicator is None]

    def rule(self, column: Column) -> str:
        """Return what all values of a column were in training, for messages."""
        sources = column.sources if isinstance(column, Implied) else ()
        return column.rule([self.columns[i].name for i in sources])

    def following(self, name: str) -> list[int]:
        """Return the indices of the columns that follow from a column with features."""
        return [
            i for i, each in enumerate(self.columns)
            if isinstance(each, Implied) and name in [used.name for used in self._used(each)]
        ]  # fmt: skip

    def _used(self, column: Column) -> list[Column]:
        """Return the columns with features that a column follows from."""
        sources = [self.columns[i] for i in column.sources] if isinstance(column, Implied) else []
        return [used for each in sources for used in ([each] if each.size else self._used(each))]

    def _encoded(self, values: Mapping[int, pd.Series], x: NDArray) -> Encoded:
        last = [self.places[column.name].stop - 1 for column in self.columns]
        return Encoded(self.columns, values, x, last)

    # ------------------------------------------------------------------ tables to features

    def encode(
        self, frame: pd.DataFrame, *, where: str = "the table", unknown: bool = False
    ) -> tuple[NDArray, NDArray]:
        """Return the features of a table's rows, and which rows are possible.

        Args:
            frame: table with the schema's columns, in any order; others are ignored. It may lack
                those that add no information: constants, and those that follow from others. A
                schema without names takes columns in order.
            where: name of the table in messages.
            unknown: treat every missing value as one to be filled in: all of its features are
                NaN, unless it follows from other columns.

        Returns:
            ``(N, D)`` float64, with NaN for missing numbers and impossible values; and ``(N,)``,
            False for rows with a value that a column cannot have: an unknown category, a missing
            value where there was none, a date off its grid, or one that does not follow from other
            columns.

        Raises:
            ValueError: naming the column, if it is missing, or holds something other than numbers
                or dates.
        """
        x, impossible = self.inspect(frame, where=where, unknown=unknown)
        return x, possible_rows(impossible, len(x))

    def inspect(
        self, frame: pd.DataFrame, *, where: str = "the table", unknown: bool = False
    ) -> tuple[NDArray, list[Impossible]]:
        """Return features as :meth:`encode` does, and the values that are impossible."""
        index = {str(name): i for i, name in enumerate(frame.columns)}
        if not self.named and len(index) == len(self.columns):
            index = {column.name: i for i, column in enumerate(self.columns)}
        absent = [each.name for each in self.columns if each.size and each.name not in index]
        if absent:
            raise ValueError(
                f"{where} has no column {absent[0]!r}; its columns are {some_of(list(index))}"
            )
        values = {
            i: frame.iloc[:, index[column.name]]
            for i, column in enumerate(self.columns)
            if column.name in index and column.kind != "drop"
        }
        present = {i: each.notna().to_numpy() for i, each in values.items()} if unknown else {}
        for i, column in enumerate(self.columns if unknown else ()):
            if isinstance(column, Copy) and i in values and column.source in values:
                source = values[column.source]
                # A column of None is one of objects, which the copy's values are not.
                values[column.source] = source.where(source.notna(), values[i]).infer_objects()
        x = np.full((len(frame), self.dim), np.nan)
        table, impossible = self._encoded(values, x), []
        implied = [i for i in values if isinstance(self.columns[i], Implied)]
        for i in (*(i for i in values if i not in implied), *implied):
            column, place = self.columns[i], f"column {self.columns[i].name!r} of {where}"
            if isinstance(column, Implied):
                if unknown:
                    column.solve(values[i], table, place)
                possible = column.agrees(values[i], table, place)
                for known in (i, *column.sources) if unknown else ():
                    if known in present:  # a missing value contradicts nothing
                        possible = possible | ~present[known]
            else:
                part, possible = column.encode(values[i], place, unknown)
                part[~possible] = np.nan
                x[:, self.places[column.name]] = part
            impossible += self._impossible(column, values[i], possible, where)
        return x, impossible

    def encode_values(self, name: str, values: pd.Series) -> NDArray:
        """Return the features ``(N, size)`` of the values of one column; see :meth:`encode`."""
        x, possible = self.column(name).encode(values, f"column {name!r} of the table")
        x[~possible] = np.nan
        return x

    def _impossible(
        self, column: Column, values: pd.Series, possible: NDArray, where: str
    ) -> list[Impossible]:
        """Return the impossible values of a column, and its impossible missing ones."""
        missing, impossible = values.isna().to_numpy(), []
        for rows, shown in ((~possible & missing, False), (~possible & ~missing, True)):
            if rows.any():
                rule = self.rule(column) if shown or not column.size else "had none in training"
                impossible.append(
                    Impossible(
                        column.name, where, np.flatnonzero(rows).tolist(),
                        values[rows].tolist() if shown else [], f"but {rule}",
                    )
                )  # fmt: skip
        return impossible

    def rows(self, frame: pd.DataFrame, *, where: str = "the table") -> NDArray:
        """Return features as :meth:`encode` does, of a table all of whose rows are possible.

        Raises:
            ValueError: naming impossible values, and as :meth:`encode` does.
        """
        x, impossible = self.inspect(frame, where=where)
        if impossible:
            raise ValueError(impossible_text(impossible))
        return x

    def marked_rows(
        self, frame: pd.DataFrame, *, where: str = "the table"
    ) -> tuple[NDArray, list[Impossible]]:
        """Return features, with a mark in impossible rows, and the values that make them so.

        The mark is a NaN in a feature that every other row has; see :attr:`always_present`. It is
        in those of the column that is impossible. If that has none, all of the row are marked.

        Raises:
            ValueError: naming the column, if it is missing, or does not hold numbers.
        """
        x, impossible = self.inspect(frame, where=where)
        for each in impossible:
            index = range(self.dim)[self.places[each.column]]
            marks = [i for i in self.always_present if i in index or not index]
            x[np.asarray(each.rows)[:, None], marks] = np.nan
        return x, impossible

    # ------------------------------------------------------------------ features to tables

    def decode(self, x: NDArray, *, bounded: bool = True) -> pd.DataFrame:
        """Return the table of features ``(N, D)``: the columns, with their types and decimals.

        Args:
            x: the features.
            bounded: whether numbers keep to the bounds of their column, as samples do.
        """
        values: dict[int, pd.Series] = {}
        table = self._encoded(values, x)
        implied = {i: c for i, c in enumerate(self.columns) if isinstance(c, Implied)}
        for i, column in enumerate(self.columns):
            if column.kind != "drop" and i not in implied:
                values[i] = column.decode(x[:, self.places[column.name]], bounded)
        # A copy may equal a linear function, but not the other way around.
        for i in sorted(implied, key=lambda i: isinstance(implied[i], Copy)):
            values[i] = implied[i].implied(table)
        data = {self.columns[i].name: values[i] for i in sorted(values)}
        return pd.DataFrame(data) if data else pd.DataFrame(index=range(len(x)))

    def within_range(self, x: NDArray) -> NDArray:
        """Return features ``(N, D)`` with numbers clamped to the plausible range of their column.

        A flow extrapolates tails from few values, and could draw implausible ones.
        """
        x = x.copy()
        for column in self.columns:
            place = self.places[column.name]
            x[:, place] = column.within_range(x[:, place])
        return x

    def sums(self, values: NDArray) -> pd.DataFrame:
        """Return values of features ``(N, D)``, added up for each column; a NaN counts as 0."""
        columns = [(c.name, self.places[c.name]) for c in self.columns if c.size]
        return pd.DataFrame({name: np.nansum(values[:, place], 1) for name, place in columns})

    def parsed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with numbers and dates in place of text that stands for them."""
        columns = [column for column in self.columns if column.name in frame.columns]
        return frame.assign(**{each.name: each.parsed(frame[each.name]) for each in columns})

    def observed(self, frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
        """Return the smallest and the largest value of numbers and dates, as text, by column.

        Args:
            frame: a table all of whose rows are possible.
        """
        x = self.rows(frame)
        observed = {}
        for column in (column for column in self.columns if column.is_number):
            encoded = x[:, self.places[column.name]]
            keys = column.sort_keys(encoded)
            present = np.flatnonzero(np.isfinite(keys))
            if present.size:
                ends = present[[keys[present].argmin(), keys[present].argmax()]]
                low, high = map(_as_text, column.decode(encoded[ends], bounded=False))
                observed[column.name] = (low, high)
        return observed

    def as_condition(self, x: NDArray) -> NDArray:
        """Return features as a condition for networks, ``(N, K)``: categories as one-hot vectors.

        A missing number is 0, the mean, and its indicator says that it is missing.

        Args:
            x: ``(N, D)`` features.
        """
        parts = []
        for i, feature in enumerate(self.features):
            if feature.kind == "category":
                parts.append(x[:, [i]] == np.arange(feature.size))
            else:
                parts.append(np.nan_to_num(x[:, [i]]))
        return np.concatenate(parts, axis=1).astype(np.float64) if parts else np.zeros((len(x), 0))

    # ------------------------------------------------------------------ JSON

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; defaults are left out."""
        columns = [column.as_dict() for column in self.columns]
        return {"columns": columns, "flexible": self.flexible, "named": self.named}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> TableSchema:
        """Return the inverse of :meth:`as_dict`, validated, as the file may be untrusted.

        Raises:
            ValueError: if it does not describe columns.
        """
        try:
            items: Sequence[Mapping[str, Any]] = value["columns"]
            columns = tuple(from_dict(item, len(items)) for item in items)
            names = [column.name for column in columns]
            if not columns or len(set(names)) != len(names):
                raise ValueError("two columns have the same name")
            return TableSchema(columns, value["flexible"] is True, value["named"] is True)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"the saved columns of a table are damaged: {error}") from error


def _as_text(value: Any) -> str:
    """Return a number or a date in few characters.

    >>> _as_text(0.1 + 0.2), _as_text(pd.Timestamp("2020-01-31")), _as_text("1,200 kg")
    ('0.3', '2020-01-31', '1,200 kg')
    """
    return f"{value:.6g}" if isinstance(value, float) else str(value).removesuffix(" 00:00:00")
