"""Conversion of the values of one column to coordinates, float64, and back.

Texts become the indices of their categories, dates days and times of day; a gap is NaN, which is
marked in the status. :class:`realnvp.data.columns.TableSchema` does this for all columns of a
table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from realnvp.data.column_kinds import DAY, Column
from realnvp.data.date_formats import date_readings, parse_dates, write_dates
from realnvp.data.notations import Notation

__all__ = [
    "are_constant",
    "as_series",
    "date_texts",
    "decode_column",
    "encode_column",
    "months_of",
    "numbers_of",
    "on_grid",
    "same_values",
    "seconds_of",
    "wall_clock",
]


FIRST_DAY, LAST_DAY = np.datetime64("1677-09-22"), np.datetime64("2262-04-10")
"""Days that nanoseconds since 1970 can count."""


def encode_column(
    column: Column, values: pd.Series, where: str, unknown: bool
) -> tuple[NDArray, NDArray]:
    """Return the coordinates ``(N, size)`` of a column's values, and which of them are possible.

    Impossible are an unknown category, a gap where there was none unless gaps are ``unknown``
    values, and a date that is not of the column's unit; their coordinates are NaN.
    """
    x, good = _encoded(column, values, where, unknown)
    x[~good] = np.nan
    return x, good


def _encoded(
    column: Column, values: pd.Series, where: str, unknown: bool
) -> tuple[NDArray, NDArray]:
    values = numbers_of(column, values, where)
    n = len(values)
    gap = values.isna().to_numpy()
    good = np.ones(n, dtype=bool) if column.missing or unknown else ~gap
    no_value = 1.0 if column.missing and not unknown else np.nan  # the status of a gap
    if column.kind == "categorical":
        codes = _codes(column, values)
        x = np.where(gap, no_value * len(column.categories), codes)
        return x[:, None], good & (codes >= 0)
    if column.kind == "datetime":
        numbers = _ticks(column, values, where)
        months, first = months_of(numbers)
        whole = months if column.months else numbers // DAY
        parts = [whole, (numbers % DAY) / column.resolution][: 1 + column.timed]
        out = np.column_stack([np.where(gap, np.nan, part) for part in parts]).astype(float)
        if not column.timed:
            good &= gap | (first if column.months else numbers % DAY == 0)
    else:
        number = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isinf(number).any():
            row = int(np.argmax(np.isinf(number)))
            raise ValueError(f"{where} holds infinity, first in row {row} (counting from 0)")
        out = number[:, None].copy()
    if not column.has_status:
        return out, good
    status = np.where(gap, no_value, 0.0)
    if column.kind != "datetime":
        for i, value in enumerate(column.repeated):
            there = out[:, 0] == value
            status[there] = 1 + column.missing + i
    out[status != 0] = np.nan
    return np.column_stack((status, out)), good


def numbers_of(column: Column, values: pd.Series, where: str) -> pd.Series:
    """Return the numbers of a column that are written as text, or durations; all else as it is.

    They may be written otherwise than in training, where that has one meaning.

    Raises:
        ValueError: naming the first that is not a number, or that may be several.
    """
    if column.dtype.startswith("timedelta64"):
        return seconds_of(values)
    numeric = column.kind in ("continuous", "decimal", "integer", "linear")
    if not numeric or types.is_numeric_dtype(values.dtype):
        return values
    notation = Notation.from_text(column.notation) if column.notation else Notation()
    if not column.notation:
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.notna().equals(values.notna()):
            return numbers
    whole = column.kind == "integer"
    found = notation.readings(values, whole)
    if len(found) == 1:
        return pd.Series(found[0], index=values.index)
    raise ValueError(_misread(column, values, where, notation, found))


def _misread(
    column: Column, values: pd.Series, where: str, notation: Notation, found: list[NDArray]
) -> str:
    """Return why texts are not read as numbers."""
    here = "in row {} (counting from 0)"
    written = f"written as in training: {column.notation or 'such as 1234.5'}"
    if found:
        differ = np.any([~np.equal(found[0], each) & ~np.isnan(each) for each in found[1:]], axis=0)
        row = int(np.argmax(differ))
        meanings = " or ".join(f"{each[row]:.12g}" for each in found)
        return (
            f"{where} holds {values.iloc[row]!r} {here.format(row)}, which may be {meanings}: it "
            f"must be {written}"
        )
    known = notation.numbers(values) if column.notation else pd.to_numeric(values, errors="coerce")
    row = int(np.argmax(np.isnan(np.asarray(known, dtype=np.float64)) & values.notna()))
    return (
        f"{where} must hold numbers, as in training, but holds {values.iloc[row]!r} "
        f"{here.format(row)}, which is not {written}"
    )


def on_grid(column: Column, numbers: NDArray) -> NDArray:
    """Return numbers rounded to the steps of their column, if it has a step."""
    if not column.step:
        return numbers
    nearest: NDArray = np.rint((numbers - column.origin) / column.step)
    return column.origin + column.step * nearest


def seconds_of(values: pd.Series) -> pd.Series:
    """Return durations, which may be text as pandas writes them, as seconds, NaN for gaps.

    >>> seconds_of(pd.Series(["0 days 00:01:30", None])).tolist()
    [90.0, nan]
    """
    if types.is_numeric_dtype(values.dtype):
        return values
    return pd.to_timedelta(values).dt.total_seconds()


_TRUTH = (("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"), ("0", "1"), ("0.0", "1.0"))
"""Pairs of words for truth values, in lower case."""


def _truths(place: Mapping[Any, int]) -> dict[str, int]:
    """Return the indices of categories that are truth values, by all words for these.

    >>> found = _truths({"No": 0, "Yes": 1})
    >>> found["true"], found["n"], _truths({"f": 0, "m": 1})
    (1, 0, {})
    """
    own = [str(value).lower() for value in place]
    if not all(isinstance(value, bool) for value in place) and tuple(sorted(own)) not in _TRUTH:
        return {}
    meant = {pair.index(word): i for i, word in enumerate(own) for pair in _TRUTH if word in pair}
    return {pair[truth]: i for pair in _TRUTH for truth, i in meant.items()}


def _codes(column: Column, values: pd.Series) -> NDArray:
    """Return indices of categories, 0 for gaps, and -1 for unknown ones."""
    place = {value: i for i, value in enumerate(column.categories)}
    texts = {str(value): i for value, i in place.items()}
    truths = _truths(place)

    @lru_cache(typed=True, maxsize=None)  # the same texts occur again, and parsing numbers is slow
    def code(value: Any) -> int:
        known = place.get(value, -1)
        if known < 0:  # True as text, where another cell is text; a number that was text
            known = texts.get(str(value), -1)
        if known < 0 and isinstance(value, str):  # 1.0 is 1
            known = place.get(pd.to_numeric(value, errors="coerce"), -1)
        if known < 0:  # True where it was yes
            known = truths.get(str(value).strip().lower(), -1)
        return known

    plain = values.to_numpy(dtype=object)
    there = values.notna().to_numpy()
    codes = np.zeros(len(plain))
    codes[there] = [code(value) for value in plain[there]]
    return codes


def _ticks(column: Column, values: pd.Series, where: str) -> NDArray:
    there = values
    if not types.is_datetime64_any_dtype(values):
        words = date_texts(values)
        found = date_readings(words, column.format, column.zone is not None)
        if len(found) != 1:
            likely = column.format or "%Y-%m-%d"
            bad = (found[0] != found[1]) if found else parse_dates(words, likely).isna()
            row = int(np.argmax((bad & values.notna()).to_numpy()))
            ways = f"may be {found[0][row]:%d %B %Y} or {found[1][row]:%d %B %Y}" if found else ""
            raise ValueError(
                f"{where} holds {values.iloc[row]!r} in row {row} (counting from 0), which "
                f"{ways or 'is not a date'}: write dates in the format of training, {likely}"
            )
        (there,) = found
    if column.zone is not None:
        there = (
            there.dt.tz_localize(column.zone)
            if there.dt.tz is None
            else there.dt.tz_convert(column.zone)
        )
    return wall_clock(there.fillna(pd.Timestamp(0, tz=there.dt.tz)), where)


def decode_column(column: Column, x: NDArray, bounded: bool = True) -> pd.Series:
    if column.kind == "categorical":
        known = len(column.categories)
        codes = np.nan_to_num(x[:, 0], nan=known).astype(int)
        values = [column.categories[c] if c < known else None for c in codes]
        return as_series(values, column)
    number = x[:, -1 - column.timed].copy()
    absent = np.isnan(number)
    if column.kind != "integer":
        number = on_grid(column, number)
    if column.kind == "datetime":
        whole = np.nan_to_num(number).clip(-100_000, 100_000).astype(np.int64)
        if column.months:
            whole = whole.clip(-3_000, 3_000).astype("datetime64[M]").astype("datetime64[D]")
        ticks = whole.astype(np.int64) * DAY
        if column.timed:
            ticks = ticks + np.rint(np.nan_to_num(x[:, -1])).astype(np.int64) * column.resolution
        stamps = pd.Series(ticks.astype("datetime64[ns]")).mask(absent)
        return _stamps(stamps, column)
    if column.decimals is not None:
        number = np.round(number, column.decimals)
    if bounded and (column.lower is not None or column.upper is not None):
        number = number.clip(column.lower, column.upper)
    if column.has_status:
        for i, value in enumerate(column.repeated):
            there = x[:, 0] == 1 + column.missing + i
            number[there] = value
    return as_series(number, column)


def as_series(values: Any, column: Column) -> pd.Series:
    """Return values as a column of the type that it had."""
    dtype: Any = column.dtype
    if column.notation:
        notation = Notation.from_text(column.notation)
        limits = {v: notation.limit(v) for v in column.repeated}
        values = [
            None if np.isnan(v) else limits.get(v) or notation.write(v, column.decimals)
            for v in values
        ]
    if dtype == "category":
        levels = list(column.levels or column.categories)
        return pd.Series(pd.Categorical(values, categories=levels, ordered=column.ordered))
    if dtype.startswith("timedelta64"):
        seconds = pd.Series(values, dtype=np.float64)
        return pd.to_timedelta((seconds * 1e9).round(), unit="ns").astype(dtype)
    if dtype.startswith("datetime64"):  # a constant
        return pd.to_datetime(pd.Series(values)).astype(dtype)
    if isinstance(values, np.ndarray) and re.fullmatch(r"[uU]?[iI]nt\d+", dtype):
        info = np.iinfo(dtype.lower())
        whole = np.rint(values).clip(float(info.min), float(info.max))
        if dtype[0] in "IU":  # pandas' own types, with gaps
            return pd.Series(whole).astype("Float64").astype(dtype)
        return pd.Series(whole.astype(dtype))
    return pd.Series(values, dtype=dtype)


def _stamps(stamps: pd.Series, column: Column) -> pd.Series:
    dtype: Any = column.dtype
    if column.zone is not None:
        every = np.ones(len(stamps), dtype=bool)
        stamps = stamps.dt.tz_localize(column.zone, ambiguous=every, nonexistent="shift_forward")
    if column.format is not None:
        text = write_dates(stamps, column.format)
        return text.astype(dtype) if not types.is_numeric_dtype(dtype) else _as_whole(text, dtype)
    return stamps.astype(dtype)


def date_texts(values: pd.Series) -> pd.Series:
    """Return dates as text, also those that are written as integers, 20200131."""
    if types.is_numeric_dtype(values.dtype):
        return values.astype("Int64").astype("string").astype(object).where(values.notna(), None)
    return values.astype(object).where(values.notna(), None)


def _as_whole(text: pd.Series, dtype: Any) -> pd.Series:
    """Return texts of digits as numbers of a type."""
    return pd.to_numeric(text).astype("Float64").astype(dtype)


def wall_clock(there: pd.Series, where: str) -> NDArray:
    """Return times as nanoseconds since 1970, of local clock time.

    Raises:
        ValueError: if a date is too far away for them.
    """
    local = there.dt.tz_localize(None) if there.dt.tz is not None else there
    stamps = local.to_numpy()
    days = stamps.astype("datetime64[D]")
    far = (days < FIRST_DAY) | (days > LAST_DAY)
    if far.any():
        raise ValueError(
            f"{where} holds {days[far][0]}, but dates are from {FIRST_DAY} to {LAST_DAY}: leave it "
            "empty if it stands for a gap"
        )
    ticks: NDArray = stamps.astype("datetime64[ns]").astype(np.int64)
    return ticks


def months_of(ticks: NDArray) -> tuple[NDArray, NDArray]:
    """Return the months since 1970 of nanoseconds, and which are the start of a month."""
    stamps = ticks.astype("datetime64[ns]")
    months = stamps.astype("datetime64[M]")
    return months.astype(np.int64), months.astype("datetime64[ns]") == stamps


def are_constant(column: Column, values: pd.Series) -> NDArray:
    """Return which values are that of a constant column, which may be written otherwise."""
    there = values.notna().to_numpy()
    if column.value is None:
        return ~there
    if values.dtype == np.float32 and isinstance(column.value, float):
        return (values == np.float32(column.value)).to_numpy()
    if not column.dtype.startswith(("datetime64", "timedelta64")):
        return there & (_codes(replace(column, categories=(column.value,)), values) == 0)
    own = as_series([column.value], column)
    try:
        if column.dtype.startswith("timedelta64"):
            return there & (seconds_of(values) == seconds_of(own)[0]).to_numpy()
        zone = None if own.dt.tz is None else str(own.dt.tz)
        dated = Column(column.name, "datetime", column.dtype, zone=zone)
        ticks = _ticks(dated, values, column.name)
        return there & (ticks == wall_clock(own, column.name)[0])
    except ValueError:  # neither dates nor durations, or too far away
        return same_values(values, pd.Series([own[0]] * len(values)))


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
