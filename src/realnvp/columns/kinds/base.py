"""The contract of a kind of column, and what all kinds share.

A kind is one class: it detects its columns in a table, turns their values into features (float64
numbers that a flow models) and back, and describes itself in messages and as JSON. What the first
layer of a flow does with a feature follows from the :class:`Feature` alone, so a new kind needs no
change elsewhere.
"""

from __future__ import annotations

import math
import types
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from realnvp.columns.look import Look

__all__ = [
    "KINDS",
    "Column",
    "Feature",
    "detect",
    "from_dict",
    "register_kind",
]


@dataclass(frozen=True)
class Feature:
    """One number of an encoded row, as the first layer of a flow receives it.

    Args:
        name: its name in messages.
        kind: "number"; "step", a multiple of a step; or "category", an index.
        step: the step.
        origin: a number on the grid of steps.
        size: number of categories.
        lower: lower bound of samples.
        upper: upper bound of samples.
        indicator: index of the feature that is 0 where this one has a value: its missingness
            indicator. A column counts from its own first feature, a schema from that of its table.
        flexible: whether its map may be more than a shift and a scale.
        first_missing: category from which on the value is missing, None if it never is.
    """

    name: str
    kind: str
    step: float = 1.0
    origin: float = 0.0
    size: int = 1
    lower: float | None = None
    upper: float | None = None
    indicator: int | None = None
    flexible: bool = True
    first_missing: int | None = None


@dataclass(frozen=True)
class Column(ABC):
    """A column of a table; its fields say everything that is known of it.

    Args:
        name: its name.
        dtype: pandas' name of its type, which samples also have.
        missing: whether it has missing values.
    """

    name: str
    dtype: str
    missing: bool = False

    kind: ClassVar[str]
    """Name of the kind, in settings and in files."""

    declarable: ClassVar[bool] = True
    """Whether a column can be declared to be of this kind."""

    is_number: ClassVar[bool] = False
    """Whether values have an order, and thus quantiles."""

    @classmethod
    def detect(cls, look: Look) -> Column | None:
        """Return the column if it is of this kind, or declared to be; None otherwise.

        Kinds are asked one after the other, those that were registered last first.

        Raises:
            ValueError: if it is declared to be of this kind, but cannot be.
        """
        return None

    def features(self) -> tuple[Feature, ...]:
        """Return the features of a value; none if the value adds no information."""
        return ()

    @property
    def size(self) -> int:
        """Number of features."""
        return len(self.features())

    @abstractmethod
    def encode(
        self, values: pd.Series, where: str, unknown: bool = False
    ) -> tuple[NDArray, NDArray]:
        """Return the features of values, and which values are possible.

        Args:
            values: ``(N,)`` values.
            where: name of the column in messages.
            unknown: whether missing values are to be filled in: all of their features are NaN.

        Returns:
            ``(N, size)`` float64, NaN for impossible values; and ``(N,)``, boolean.

        Raises:
            ValueError: if values cannot be read as those of this column.
        """

    @abstractmethod
    def decode(self, x: NDArray, bounded: bool = True) -> pd.Series:
        """Return the values of features ``(N, size)``, with the column's type and decimals.

        Args:
            x: the features.
            bounded: whether numbers are clamped to the column's bounds, as in samples.
        """

    @property
    def code_of_missing(self) -> int:
        """What the first feature of a missing value is, if there are any."""
        return 1

    def parsed(self, values: pd.Series) -> pd.Series:
        """Return values with numbers and dates in place of text that stands for them."""
        return values

    def doubts(self, values: pd.Series) -> list[str]:
        """Return what may be meant otherwise in the values that it was detected from.

        Each is the end of a sentence that begins with the column's name.
        """
        return []

    def rounded(self, numbers: NDArray) -> NDArray:
        """Return numbers rounded to the column's grid, if it has one."""
        return numbers

    def within_range(self, x: NDArray) -> NDArray:
        """Return features ``(N, size)`` with numbers clamped to the column's plausible range."""
        return x

    def sort_keys(self, x: NDArray) -> NDArray:
        """Return a number for each value ``(N, size)``, in their order; infinite if missing."""
        return np.nan_to_num(x[:, -1], nan=np.inf)

    def mean_series(self, means: NDArray) -> pd.Series:
        """Return means of :meth:`sort_keys` in the unit of the column."""
        return pd.Series(means)

    def rule(self, sources: Sequence[str] = ()) -> str:
        """Return what all values were in training, for messages.

        Args:
            sources: names of the columns that it follows from.
        """
        return "had other values in training"

    def describe(self) -> str:
        """Return a short description of the values."""
        words = [*self.words(), "with missing values" if self.missing else ""]
        return "; ".join(word for word in words if word)

    def words(self) -> list[str]:
        """Return the parts of the description."""
        return []

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; defaults are left out."""
        defaults = {field.name: field.default for field in fields(self)}
        values = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        return {"name": self.name, "kind": self.kind, **values}

    def is_valid(self, count: int) -> bool:
        """Return whether fields of the right types are valid in a table of ``count`` columns."""
        return True


_Kind = TypeVar("_Kind", bound=type[Column])

KINDS: dict[str, type[Column]] = {}
"""Kinds by name; the last is asked first."""


def register_kind(kind: _Kind) -> _Kind:
    """Register a class, whose columns are then detected, declared and loaded by its ``kind``.

    Raises:
        ValueError: if the name is taken.
    """
    if KINDS.setdefault(kind.kind, kind) is not kind:
        raise ValueError(f"there is a kind of column called {kind.kind!r} already")
    return kind


def detect(look: Look) -> Column:
    """Return what a column is, or what it is declared to be.

    Raises:
        ValueError: if it cannot be modeled, or is not what it is declared to be.
    """
    for kind in reversed(KINDS.values()):
        if (column := kind.detect(look)) is not None:
            return column
    raise ValueError(
        f"{look.where} holds {look.dtype} values, which cannot be modeled: {look.drop}"
    )


def from_dict(item: Mapping[str, Any], count: int) -> Column:
    """Return a column from the output of :meth:`Column.as_dict`; the file may be untrusted.

    Args:
        item: its fields; those that are left out have their defaults.
        count: number of columns of its table.

    Raises:
        ValueError: if it does not describe a column.
    """
    values = {n: tuple(v) if isinstance(v, list) else v for n, v in item.items() if n != "kind"}
    if "reach" in values:  # the first saved tables call it so
        values["range"] = values.pop("reach")
    kind, name = item.get("kind"), str(item.get("name"))[:50]
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"the saved column {name!r} is of an unknown kind, {str(kind)[:50]!r}: import the "
            "module that registers it"
        )
    hints = get_type_hints(KINDS[kind])
    required = {field.name for field in fields(KINDS[kind]) if field.default is MISSING}
    good = required <= set(values) <= set(hints) and all(
        _is_a(value, hints[name]) for name, value in values.items()
    )
    if good:
        column = KINDS[kind](**values)  # type: ignore[arg-type]
        if _is_dtype(column.dtype) and column.is_valid(count):
            return column
    raise ValueError(f"the saved column {name!r} of a table is damaged")


def _is_a(value: Any, hint: Any) -> bool:
    """Return whether a value of JSON has the type of a field; numbers must be finite."""
    if hint is Any:
        return value is None or isinstance(value, str | bool) or _is_a(value, float)
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is_a(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_a(each, get_args(hint)[0]) for each in value)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, hint)


def _is_dtype(name: str) -> bool:
    try:
        pd.api.types.pandas_dtype(name)
    except (TypeError, SyntaxError):
        return False
    return True
