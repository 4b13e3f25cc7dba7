"""Kinds of the columns of a table: the values of each kind, and how samples are written.

:mod:`realnvp.data.column_detection` detects them, :mod:`realnvp.data.column_values` turns values
into coordinates and back, and :class:`realnvp.data.columns.TableSchema` is all columns of a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realnvp.data.notations import Notation
from realnvp.utils.errors import some_of

__all__ = ["DAY", "KINDS", "RESOLUTIONS", "Column", "Coordinate"]

KINDS = ("continuous", "decimal", "integer", "categorical", "datetime", "drop")
"""Kinds that a column can be declared as."""

DAY = 86_400 * 10**9
"""Nanoseconds."""

RESOLUTIONS = (DAY, 3_600 * 10**9, 60 * 10**9, 10**9, 10**6, 10**3, 1)
"""Units that dates may be multiples of, in nanoseconds."""


@dataclass(frozen=True)
class Coordinate:
    """One number of a row, as the first layer of a flow receives it.

    Args:
        name: its name in messages.
        kind: "number"; "step", a multiple of one; or "category", an index.
        step: the step, and ``origin`` a number on its grid.
        origin: a number on the grid.
        size: number of categories.
        lower: lower bound of samples.
        upper: upper bound of samples.
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
        dtype: pandas' name of its type, which samples also have.
        categories: its categories in order, as plain values.
        levels: all categories of a pandas categorical, used or not.
        ordered: whether these are ordered.
        missing: whether it has gaps.
        repeated: values of a column of numbers that have a probability of their own.
        step: of numbers, their step, 0 if there is none; of dates, that of their days or months.
        decimals: number of decimals of samples; None for all digits.
        origin: smallest number; of dates, the first day or month, counted from 1970.
        lower: lower bound of samples.
        upper: upper bound of samples.
        reach: of numbers and dates, the interval that samples are in: the range of the data,
            extended by its width on both sides.
        resolution: of dates, in nanoseconds.
        timed: of dates, whether there is a time of day.
        months: of dates, whether all of them are the first of a month.
        zone: of dates, the time zone.
        format: of dates in text, how they are written.
        notation: of numbers in text, how they are written; see :mod:`realnvp.data.notations`.
        value: of a constant column; None if it is empty.
        note: why it was left out.
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
    reach: tuple[float, ...] = ()
    resolution: int = DAY
    timed: bool = False
    months: bool = False
    zone: str | None = None
    format: str | None = None
    notation: str = ""
    value: Any = None
    note: str = ""
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
            return np.nan_to_num(x[:, -2] + x[:, -1] * self.resolution / DAY, nan=np.inf)
        key = np.nan_to_num(x[:, -1], nan=np.inf)
        for i, value in enumerate(self.repeated):
            key[x[:, 0] == 1 + self.missing + i] = value
        return key

    def describe(self) -> str:
        """Return a short description of what was found in the column."""
        words = []
        if self.kind == "categorical":
            count = len(self.categories)
            names = some_of(list(map(str, self.categories)))
            words.append(f"{count} {'category' if count == 1 else 'categories'}: {names}")
        elif self.kind == "decimal":
            words.append(f"step {self.step:g}")
        elif self.kind == "datetime":
            unit = {
                DAY: "days",
                RESOLUTIONS[1]: "hours",
                RESOLUTIONS[2]: "minutes",
                RESOLUTIONS[3]: "seconds",
            }.get(self.resolution, "fractions of a second")
            unit = "months" if self.months else unit
            unit = f"every {self.step:g} {unit}" if self.step > 1 else unit
            words.append(unit + (f", {self.zone}" if self.zone else ""))
        elif self.kind == "constant":
            words.append("empty" if self.value is None else f"always {self.value}")
        if self.is_number:
            low, high = (_short(bound) for bound in (self.lower, self.upper))
            if self.kind != "datetime" and (low or high):
                words.append(f"{low or '-inf'} to {high or 'inf'}")
            if self.repeated:
                notation = Notation.from_text(self.notation) if self.notation else Notation()
                often = [notation.limit(v) or _short(v) for v in self.repeated]
                words.append(f"often {some_of(often)}")
        if self.dtype.startswith("timedelta64"):
            words.append("seconds")
        if self.note:
            words.append(f"left out: {self.note}")
        if self.notation:
            words.append(f"written {self.notation}")
        if self.missing:
            words.append("with gaps")
        return "; ".join(words)

    @staticmethod
    def from_dict(item: Mapping[str, Any], count: int) -> Column:
        """Return a column from the output of ``dataclasses.asdict``; the file may be untrusted.

        Args:
            item: its properties; those that are left out have their defaults.
            count: number of columns of its table.

        Raises:
            ValueError: if it does not describe a column.
        """
        from pandas.api.types import pandas_dtype

        known = {f.name for f in fields(Column)}
        if not set(item) <= known:
            raise ValueError("the saved columns of a table have unknown properties")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in item.items()
        }
        column = Column(**values)
        texts = (column.name, column.kind, column.dtype)
        numbers = (
            *column.repeated,
            *column.weights,
            *column.reach,
            column.step,
            column.origin,
            column.resolution,
        )
        plain = all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
        source = column.source
        good = (
            all(isinstance(text, str) for text in texts)
            and column.kind in (*KINDS, "constant", "copy", "linear")
            and plain
            and column.step >= 0
            and column.resolution in RESOLUTIONS
            and len(column.reach) in (0, 2)
            and (source is None or (isinstance(source, int) and 0 <= source < count))
            and (column.kind != "copy" or source is not None)
            and (column.kind != "linear" or len(column.weights) == count + 2)
            and all(v is None or isinstance(v, str | int | float | bool) for v in column.categories)
        )
        if good and column.notation != "":
            good = isinstance(column.notation, str) and bool(Notation.from_text(column.notation))
        if good:
            try:
                pandas_dtype(column.dtype)
            except (TypeError, SyntaxError):
                good = False
        if not good:
            raise ValueError(f"the saved column {str(column.name)[:50]!r} of a table is damaged")
        return column


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
