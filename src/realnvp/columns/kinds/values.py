"""Values of tables: how they are read, compared, and written with the type of their column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from realnvp.columns.look import seconds_of
from realnvp.columns.notations import Notation

__all__ = [
    "category_series",
    "codes_of",
    "is_written",
    "number_series",
    "plain_value",
    "read_numbers",
    "same_values",
    "typed_series",
]

MOST_DECIMALS = 9
"""Largest number of decimals of a grid; a saved column with more is damaged."""


def read_numbers(
    values: pd.Series, dtype: str, where: str, notation: str = "", whole: bool = False
) -> NDArray:
    """Return the numbers of a column, in float64, NaN if missing.

    Text may be written otherwise than in training, where that has one meaning.

    Args:
        values: numbers, texts or durations.
        dtype: type of the column in training; durations are in seconds.
        where: name of the column in messages.
        notation: how numbers were written in training.
        whole: whether numbers can only be integers.

    Raises:
        ValueError: naming the first that is infinite, not a number, or that may be several.
    """
    if dtype.startswith("timedelta64"):
        values = seconds_of(values)
    if types.is_numeric_dtype(values.dtype):
        numbers = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    else:
        numbers = _numbers_of_text(values, where, notation, whole)
    if np.isinf(numbers).any():
        row = int(np.argmax(np.isinf(numbers)))
        raise ValueError(f"{where} holds infinity, first in row {row} (counting from 0)")
    return numbers


def _numbers_of_text(values: pd.Series, where: str, notation: str, whole: bool) -> NDArray:
    expected = Notation.from_text(notation) if notation else Notation()
    if not notation:
        plain = pd.to_numeric(values, errors="coerce")
        if plain.notna().equals(values.notna()):
            return plain.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    readings = expected.readings(values, whole)
    if len(readings) == 1:
        return readings[0]
    written = f"written as in training: {notation or 'such as 1234.5'}"
    if readings:
        differ = [~np.equal(readings[0], each) & ~np.isnan(each) for each in readings[1:]]
        row = int(np.argmax(np.any(differ, axis=0)))
        meanings = " or ".join(f"{each[row]:.12g}" for each in readings)
        raise ValueError(
            f"{where} holds {values.iloc[row]!r} in row {row} (counting from 0), which may be "
            f"{meanings}: it must be {written}"
        )
    read = expected.numbers(values) if notation else pd.to_numeric(values, errors="coerce")
    row = int(np.argmax(np.isnan(np.asarray(read, dtype=np.float64)) & values.notna()))
    raise ValueError(
        f"{where} must hold numbers, as in training, but holds {values.iloc[row]!r} in row {row} "
        f"(counting from 0), which is not {written}"
    )


_TRUTH = (("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"), ("0", "1"), ("0.0", "1.0"))
"""Pairs of words for truth values, in lower case."""


def _truths(place: Mapping[Any, int]) -> dict[str, int]:
    """Return the indices of categories that are truth values, by all words for these.

    >>> found = _truths({"No": 0, "Yes": 1})
    >>> found["true"], found["n"], _truths({"f": 0, "m": 1})
    (1, 0, {})
    """
    words = [str(value).lower() for value in place]
    if not all(isinstance(value, bool) for value in place) and tuple(sorted(words)) not in _TRUTH:
        return {}
    meant = {pair.index(word): i for i, word in enumerate(words) for pair in _TRUTH if word in pair}
    return {pair[truth]: i for pair in _TRUTH for truth, i in meant.items()}


def codes_of(categories: Sequence[Any], values: pd.Series) -> NDArray:
    """Return the indices of categories, 0 for missing values, and -1 for unknown ones."""
    place = {value: i for i, value in enumerate(categories)}
    texts = {str(value): i for value, i in place.items()}
    truths = _truths(place)

    @lru_cache(typed=True, maxsize=None)  # the same texts occur again, and parsing numbers is slow
    def code(value: Any) -> int:
        index = place.get(value, -1)
        if index < 0:  # True as text, where another cell is text; a number that was text
            index = texts.get(str(value), -1)
        if index < 0 and isinstance(value, str):  # 1.0 is 1
            index = place.get(pd.to_numeric(value, errors="coerce"), -1)
        if index < 0:  # True where it was yes
            index = truths.get(str(value).strip().lower(), -1)
        return index

    plain = values.to_numpy(dtype=object)
    present = values.notna().to_numpy()
    codes = np.zeros(len(plain))
    codes[present] = [code(value) for value in plain[present]]
    return codes


def same_values(one: pd.Series, other: pd.Series) -> NDArray:
    """Return where two columns have the same value."""
    a, b = one.to_numpy(dtype=object), other.to_numpy(dtype=object)
    empty = pd.isna(a) & pd.isna(b)
    equal = np.array(
        [x is y or bool(pd.notna(x) and pd.notna(y) and x == y) for x, y in zip(a, b, strict=True)],
        dtype=bool,
    )
    result: NDArray = empty | equal
    return result


def category_series(
    values: Sequence[Any], dtype: str, levels: Sequence[Any], ordered: bool
) -> pd.Series:
    """Return categories as a column of a type, a pandas categorical with all of its levels."""
    if dtype == "category":
        return pd.Series(pd.Categorical(values, categories=list(levels), ordered=ordered))
    return typed_series(values, dtype)


def number_series(
    numbers: NDArray, dtype: str, notation: str = "", decimals: int | None = None
) -> pd.Series:
    """Return numbers as a column of a type, or as text in a notation; NaN is a missing value."""
    if not notation:
        return typed_series(numbers, dtype)
    written = Notation.from_text(notation)
    texts = [None if np.isnan(v) else written.write(v, decimals) for v in numbers]
    return pd.Series(texts, dtype=dtype) if dtype != "category" else pd.Series(texts)


def is_written(notation: str, decimals: int | None) -> bool:
    """Return whether numbers can be written with a notation, if there is one, and decimals."""
    if decimals is not None and not 0 <= decimals <= MOST_DECIMALS:
        return False
    try:
        return not notation or bool(Notation.from_text(notation))
    except ValueError:
        return False


def typed_series(values: Any, dtype: Any) -> pd.Series:
    """Return values as a column of a type; integers are rounded and kept within its limits."""
    if dtype.startswith("timedelta64"):
        seconds = pd.Series(values, dtype=np.float64)
        return pd.to_timedelta((seconds * 1e9).round(), unit="ns").astype(dtype)
    if dtype.startswith("datetime64"):
        return pd.to_datetime(pd.Series(values)).astype(dtype)
    if isinstance(values, np.ndarray) and re.fullmatch(r"[uU]?[iI]nt\d+", dtype):
        info = np.iinfo(dtype.lower())
        whole = np.rint(values).clip(float(info.min), float(info.max))
        if dtype[0] in "IU":  # pandas' own types, which may have missing values
            return pd.Series(whole).astype("Float64").astype(dtype)
        return pd.Series(whole.astype(dtype))
    return pd.Series(values, dtype=dtype)


def plain_value(value: Any) -> Any:
    """Return a category as a value for JSON.

    Raises:
        ValueError: if it is neither a text, a number nor a truth value.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"categories are texts, numbers or booleans, got {type(value).__name__}")
    return value
