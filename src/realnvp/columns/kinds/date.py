"""Columns of dates: days, or months, and the time of day.

A date is one feature, the number of its day (or month, if all dates are the first of one) since
1970; a time of day is one more, in units of the column's resolution. Both have steps, so a date has
a probability. With missing values, a missingness indicator comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from realnvp.columns.dates import (
    DAY,
    date_format,
    date_texts,
    months_of,
    parse_dates,
    swapped,
    ticks_of,
    wall_clock,
    write_dates,
)
from realnvp.columns.kinds.base import Column, Feature
from realnvp.columns.kinds.number import indicator, range_of
from realnvp.columns.look import FEW_ROWS, Look

__all__ = ["Date"]

RESOLUTIONS = {
    DAY: "days",
    3_600 * 10**9: "hours",
    60 * 10**9: "minutes",
    10**9: "seconds",
    **dict.fromkeys((10**6, 10**3, 1), "fractions of a second"),
}
"""Units that dates may be multiples of, in nanoseconds."""


@dataclass(frozen=True)
class Date(Column):
    """A column of dates.

    Args:
        step: of days or months.
        origin: the first day or month, counted from 1970.
        range: of days or months, the interval that samples are in.
        resolution: in nanoseconds.
        timed: whether there is a time of day.
        months: whether all dates are the first of a month.
        zone: time zone.
        format: how dates are written as text, or as an integer.
        utc: whether dates are counted in UTC rather than local time: some are in the hour that
            daylight saving repeats, which local time cannot tell apart.
    """

    step: float = 1.0
    origin: float = 0.0
    range: tuple[float, ...] = ()
    resolution: int = DAY
    timed: bool = False
    months: bool = False
    zone: str | None = None
    format: str | None = None
    utc: bool = False

    kind: ClassVar[str] = "datetime"
    is_number: ClassVar[bool] = True

    @classmethod
    def detect(cls, look: Look) -> Column | None:
        if look.declared == "categorical":
            return None
        if types.is_datetime64_any_dtype(look.present.dtype):
            return cls.of(look, look.present)
        if look.declared not in (None, cls.kind):
            return None
        if look.words is not None:
            if look.declared is None and (look.notation is not None or not look.looks_dated):
                return None
            return cls._of_text(look, look.words)
        if (stamps := _written_days(look)) is not None:
            return cls.of(look, stamps, "%Y%m%d")
        if look.declared is not None and look.numbers is not None:
            raise ValueError(f"{look.where} is declared datetime, but holds numbers")
        return None

    @classmethod
    def _of_text(cls, look: Look, words: pd.Series) -> Column | None:
        fmt, fits = date_format(words)
        if fmt is None:
            if look.declared is None and fits.mean() <= 0.5:
                return None
            bad, good = int(np.argmin(fits)), int(np.argmax(fits))
            raise ValueError(
                f"{look.where} holds dates in more than one format: row {look.row(bad)} "
                f"(counting from 0) holds {words.iloc[bad]!r}, row {look.row(good)} "
                f"{words.iloc[good]!r}; write all of them in one, or {look.declare}"
                if fits.any()
                else f"{look.where} is declared datetime, but row {look.row(0)} (counting "
                f"from 0) holds {words.iloc[0]!r}, which is not a date in a known format"
            )
        if look.declared is None and "%d" not in fmt.replace("-", "") and words.nunique() <= 16:
            return None  # a few months are categories
        return cls.of(look, parse_dates(words.str.strip(), fmt), fmt)

    @classmethod
    def of(cls, look: Look, stamps: pd.Series, fmt: str | None = None) -> Column:
        """Return the column of dates without missing ones."""
        zone = None if stamps.dt.tz is None else str(stamps.dt.tz)
        ticks = wall_clock(stamps, look.where)
        utc = zone is not None and bool((_local(ticks, zone).to_numpy() != stamps.to_numpy()).any())
        if utc:
            ticks = wall_clock(stamps.dt.tz_convert("UTC"), look.where)
        resolution = next(unit for unit in RESOLUTIONS if (ticks % unit == 0).all())
        timed = resolution < DAY
        # With enough rows as evidence, dates in between are impossible.
        enough = not timed and len(ticks) >= FEW_ROWS
        counts, first = months_of(ticks)
        months = enough and bool(first.all())
        counts = np.unique(counts if months else ticks // DAY)
        return cls(
            look.name, look.dtype, look.missing,
            step=float(np.gcd.reduce(np.diff(counts))) if enough and len(counts) > 1 else 1.0,
            origin=float(counts[0]), range=range_of(counts), resolution=resolution, timed=timed,
            months=months, zone=zone, format=fmt, utc=utc,
        )  # fmt: skip

    def features(self) -> tuple[Feature, ...]:
        parts = [Feature(self.name, "step", self.step, self.origin)]
        if self.timed:
            last = float(DAY // self.resolution - 1)
            parts.append(Feature(f"{self.name} (time)", "step", lower=0.0, upper=last))
        return indicator(self.name, int(self.missing), *parts)

    def encode(
        self, values: pd.Series, where: str, unknown: bool = False
    ) -> tuple[NDArray, NDArray]:
        missing = values.isna().to_numpy()
        ticks = ticks_of(values, self.format, self.zone, where, self.utc)
        months, first = months_of(ticks)
        possible = ~missing | self.missing | unknown
        if not self.timed:
            possible &= missing | (first if self.months else ticks % DAY == 0)
        parts = [months if self.months else ticks // DAY]
        parts += [(ticks % DAY) / self.resolution] * self.timed
        x = np.column_stack(parts).astype(np.float64)
        x[missing] = np.nan
        if self.missing:
            x = np.column_stack((np.where(missing, np.nan if unknown else 1.0, 0.0), x))
        return x, possible

    def decode(self, x: NDArray, bounded: bool = True) -> pd.Series:
        days = self._days(x)
        whole = np.nan_to_num(self.rounded(days)).clip(-100_000, 100_000).astype(np.int64)
        if self.months:
            whole = whole.clip(-3_000, 3_000).astype("datetime64[M]").astype("datetime64[D]")
        ticks = whole.astype(np.int64) * DAY
        if self.timed:
            ticks = ticks + np.rint(np.nan_to_num(x[:, -1])).astype(np.int64) * self.resolution
        stamps = _local(ticks, self.zone, self.utc).mask(np.isnan(days))
        dtype: Any = self.dtype
        if self.format is None:
            return stamps.astype(dtype)
        text = write_dates(stamps, self.format)
        if types.is_numeric_dtype(dtype):
            return pd.to_numeric(text).astype("Float64").astype(dtype)
        return text.astype(dtype)

    def _days(self, x: NDArray) -> NDArray:
        return x[:, -1 - self.timed]

    def parsed(self, values: pd.Series) -> pd.Series:
        return values if self.format is None else parse_dates(date_texts(values), self.format)

    def rounded(self, numbers: NDArray) -> NDArray:
        return self.origin + self.step * np.rint((numbers - self.origin) / self.step)

    def within_range(self, x: NDArray) -> NDArray:
        if self.range:
            x = x.copy()
            self._days(x)[:] = self._days(x).clip(self.range[0], self.range[1])
        return x

    def sort_keys(self, x: NDArray) -> NDArray:
        time = x[:, -1] * self.resolution / DAY if self.timed else 0.0
        return np.nan_to_num(self._days(x) + time, nan=np.inf)

    def mean_series(self, means: NDArray) -> pd.Series:
        parts = [np.floor(means), means % 1 * DAY / self.resolution] if self.timed else [means]
        return self.decode(np.column_stack(parts))

    def rule(self, sources: Sequence[str] = ()) -> str:
        return f"had {'first days of months' if self.months else 'days'} only in training"

    def doubts(self, values: pd.Series) -> list[str]:
        other = None if self.format is None else swapped(self.format)
        if other is None or not parse_dates(date_texts(values.dropna()), other).notna().all():
            return []
        return [
            f"holds dates such as {values.dropna().iloc[0]!r}, which are read as {self.format}, "
            f"but may be {other}: write them as 2020-01-31 if so"
        ]

    def words(self) -> list[str]:
        unit = "months" if self.months else RESOLUTIONS[self.resolution]
        unit = f"every {self.step:g} {unit}" if self.step > 1 else unit
        return [unit + (f", {self.zone}" if self.zone else "")]

    def is_valid(self, count: int) -> bool:
        return self.step > 0 and self.resolution in RESOLUTIONS and len(self.range) in (0, 2)


def _local(ticks: NDArray, zone: str | None, utc: bool = False) -> pd.Series:
    """Return nanoseconds since 1970, of local clock time or in UTC, as dates of a time zone."""
    stamps = pd.Series(ticks.astype("datetime64[ns]"))
    if zone is None:
        return stamps
    if utc:
        return stamps.dt.tz_localize("UTC").dt.tz_convert(zone)
    first = np.ones(len(stamps), dtype=bool)
    return stamps.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")


def _written_days(look: Look) -> pd.Series | None:
    """Return days that are written as integers, 20200131; None for other numbers."""
    if look.is_array or look.numbers is None or len(look.present) < FEW_ROWS:
        return None
    x = look.numbers.x
    if x.min() < 18_000_101 or x.max() > 22_001_231 or (x % 1 != 0).any():
        return None
    parsed = parse_dates(look.present.astype("int64").astype(str), "%Y%m%d")
    return parsed if parsed.notna().all() else None
