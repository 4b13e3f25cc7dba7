"""One look at the values of a column: what every kind asks before it says whether they are its own.

A :class:`Look` has the values without the missing ones, texts that stand for numbers, and advice
for messages, each computed once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from realnvp.columns.dates import looks_like_a_date
from realnvp.columns.notations import Notation

__all__ = ["FEW_ROWS", "MOST_CATEGORIES", "Look", "Numbers", "is_few", "seconds_of"]

MOST_CATEGORIES = 1_000
"""Largest number of categories of a column."""

FEW_ROWS = 20
"""With fewer rows, that all values have a property in common may be chance."""


@dataclass(frozen=True)
class Look:
    """The values of a column, and what is said of it.

    Args:
        column: the values, with missing ones.
        name: name of the column.
        where: the column in messages.
        declared: the kind that it is declared to be, if any.
        is_array: whether it belongs to an array of numbers: then integers are integers, and all
            other numbers are continuous and without bounds.
        keep_range: let samples keep the range of numbers.
    """

    column: pd.Series
    name: str
    where: str
    declared: str | None = None
    is_array: bool = False
    keep_range: bool = False

    @property
    def dtype(self) -> str:
        """pandas' name of the type."""
        return str(self.column.dtype)

    @cached_property
    def values(self) -> pd.Series:
        """All values; durations in seconds."""
        durations = types.is_timedelta64_dtype(self.column.dtype)
        return seconds_of(self.column) if durations else self.column

    @cached_property
    def raw(self) -> pd.Series:
        """The values that are not missing."""
        return self.values.dropna()

    @cached_property
    def missing(self) -> bool:
        """Whether values are missing."""
        return bool(self.values.isna().any())

    @property
    def drop(self) -> str:
        """Advice on how to leave the column out, as an option of the command line."""
        return f"drop it (--data.columns.{self._option} drop)"

    @property
    def declare(self) -> str:
        """Advice on how to declare the column categorical, as an option of the command line."""
        return f"declare the column categorical (--data.columns.{self._option} categorical)"

    @property
    def _option(self) -> str:
        return self.name if re.fullmatch(r"[\w.-]+", self.name) else f"'{self.name}'"

    def row(self, i: int) -> int:
        """Return the row of the i-th value that is not missing; both count from 0."""
        return int(np.flatnonzero(self.values.notna().to_numpy())[i])

    @cached_property
    def present(self) -> pd.Series:
        """The values that are not missing: numbers, truth values, dates, categories, or texts.

        Objects that are all numbers or all truth values have the type of these.

        Raises:
            ValueError: if there are several types of values, or one that cannot be modeled.
        """
        dtype = self.raw.dtype
        if types.is_complex_dtype(dtype):
            raise ValueError(f"{self.where} holds {self.dtype} values: turn it into numbers")
        if not (types.is_object_dtype(dtype) or types.is_string_dtype(dtype)) or isinstance(
            dtype, pd.CategoricalDtype
        ):
            return self.raw
        plain = [v.item() if isinstance(v, np.generic) else v for v in self.raw]
        if all(isinstance(v, bool) for v in plain) or all(
            isinstance(v, int | float) for v in plain
        ):
            return pd.Series(plain, self.raw.index)
        if any(hasattr(v, "year") and hasattr(v, "month") for v in plain):
            raise ValueError(f"{self.where} holds Python dates: convert it with pandas.to_datetime")
        odd = [i for i, v in enumerate(plain) if not isinstance(v, str)]
        if odd:
            row, value = self.row(odd[0]), plain[odd[0]]
            raise ValueError(
                f"{self.where} mixes text and other values: row {row} (counting from 0) holds "
                f"{value!r}; turn all of it into text, or into numbers"
            )
        return pd.Series(plain, self.raw.index, dtype=object)

    @cached_property
    def words(self) -> pd.Series | None:
        """The texts that are not missing; None for other values."""
        is_text = types.is_object_dtype(self.present.dtype)
        return self.present if is_text else None

    @cached_property
    def notation(self) -> Notation | None:
        """How numbers are written as text; None if values are no such texts.

        Raises:
            ValueError: if most texts are numbers, and few are not, as typing errors.
        """
        words = self.words
        if words is None:
            return None
        are_numbers = pd.to_numeric(words.str.strip(), errors="coerce").notna().to_numpy()
        declared = self.declared in ("continuous", "decimal", "integer")
        if declared or (self.declared is None and not are_numbers.all()):
            written = Notation.of(words)
            if written is not None:
                return written
        mixed = 0.5 <= are_numbers.mean() < 1
        # Many different ones are not typing errors: tickets may be numbers and texts.
        slips = words[~are_numbers].nunique() <= max(5, 0.05 * len(words))
        # Neither are a few that all occur repeatedly: a drive may be 4, f or r.
        few = not declared and is_few(*np.unique(words, return_counts=True))
        if declared or (slips and mixed and not few):
            bad = int(np.argmin(are_numbers))
            raise ValueError(
                f"{self.where} mixes numbers and text: row {self.row(bad)} (counting from "
                f"0) holds {words.iloc[bad]!r}; leave it empty if it is missing, {self.declare}, "
                f"or {self.drop}"
            )
        if are_numbers.all() and self.are_names:  # perhaps codes with zeros in front
            written = Notation.of(words)
            return written if written is not None and written.digits else None
        return None

    @cached_property
    def are_names(self) -> bool:
        """Whether so many texts differ that they are no categories."""
        distinct, count = self.present.nunique(), len(self.present)
        return distinct > MOST_CATEGORIES or (count >= FEW_ROWS and distinct > 0.9 * count)

    @cached_property
    def looks_dated(self) -> bool:
        """Whether most texts look like dates."""
        return self.words is not None and bool(self.words.map(looks_like_a_date).mean() > 0.5)

    @cached_property
    def numbers(self) -> Numbers | None:
        """The numbers, also those that are written as text; None if values are not numbers.

        Raises:
            ValueError: if one is not finite.
        """
        if self.notation is not None:
            x = self.notation.numbers(self.present)
        elif types.is_numeric_dtype(self.present.dtype) and not types.is_bool_dtype(
            self.present.dtype
        ):
            x = self.present.to_numpy(dtype=np.float64)
        else:
            return None
        if not np.isfinite(x).all():
            bad = int(np.argmin(np.isfinite(x)))
            raise ValueError(
                f"{self.where} holds {x[bad]}, first in row {self.row(bad)} (counting "
                "from 0): remove or fill in such rows"
            )
        return Numbers(x, *np.unique(x, return_counts=True))


class Numbers(NamedTuple):
    """Numbers, their distinct values in ascending order, and how often each occurs."""

    x: NDArray
    distinct: NDArray
    counts: NDArray

    @property
    def are_whole(self) -> bool:
        """Whether all are integers that float64 represents exactly."""
        return bool((self.x == np.floor(self.x)).all()) and bool((np.abs(self.x) <= 2.0**53).all())


def is_few(distinct: NDArray, counts: NDArray) -> bool:
    """Return whether values are so few that they are categories, none of them rare.

    Counts have rare values, beyond which there may be others; 0 and 1 mean no and yes, and a
    count with as few ones would hardly include a 2.
    """
    few = len(distinct) <= min(16, counts.sum() / 8)
    binary = np.array_equal(distinct, [0, 1])
    return few and (binary or bool(counts.min() >= max(2, 0.0075 * counts.sum())))


def seconds_of(values: pd.Series) -> pd.Series:
    """Return durations, which may be text as pandas writes them, as seconds, NaN if missing.

    >>> seconds_of(pd.Series(["0 days 00:01:30", None])).tolist()
    [90.0, nan]
    """
    if types.is_numeric_dtype(values.dtype):
        return values
    return pd.to_timedelta(values).dt.total_seconds()
