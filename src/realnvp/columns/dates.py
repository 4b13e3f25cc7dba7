"""Dates: formats of text, detected once to read dates and to write them back; and clock time.

A format is one of ``strftime``, and may have ``%-d``, ``%-m``, ``%-H`` and ``%-I`` for numbers
without a leading zero, ``%3f`` for fewer digits of a second, and ``%:z`` for offsets with a colon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

__all__ = [
    "DAY",
    "date_format",
    "date_readings",
    "date_texts",
    "looks_like_a_date",
    "months_of",
    "parse_dates",
    "swapped",
    "ticks_of",
    "wall_clock",
    "write_dates",
]

DAY = 86_400 * 10**9
"""Nanoseconds."""

FIRST_DAY, LAST_DAY = np.datetime64("1677-09-22"), np.datetime64("2262-04-10")
"""Days that nanoseconds since 1970 can count."""

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sep(?:tember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)

_LOOKS = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?"
    rf"(?:\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}|\d{{4}}[-/]\d\d|\d{{1,2}}[- ]{_MONTH}[- ]\d{{2,4}}|"
    rf"{_MONTH} \d{{1,2}},? \d{{4}}|{_MONTH}[- ]\d{{2,4}})"
    r"(?:(?:T|,? )\d{1,2}:\d\d.*)?",
    re.IGNORECASE,
)

_DAYS = (
    "%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d",
    "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y", "%Y%m%d",
    "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y",
    "%d-%b-%y", "%d %b %y", "%Y-%m", "%Y/%m", "%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%b %y",
)  # fmt: skip

_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %I:%M%p")

_ZONE = re.compile(r"(?:Z|[+-]\d\d:?\d\d)$")

_UNPADDED = re.compile(r"(%-[dmHI]|%\df)")


def looks_like_a_date(word: str) -> bool:
    """Return whether a text may be a date, or a month.

    >>> [looks_like_a_date(w) for w in ("1/31/2020", "Jan 31, 2020 5:00 PM", "May", "12-5", "1.5")]
    [True, True, False, False, False]
    """
    return _LOOKS.fullmatch(word.strip()) is not None


def date_format(words: pd.Series) -> tuple[str | None, NDArray]:
    """Return the format of dates, the most common one where several are possible.

    Args:
        words: texts without gaps.

    Returns:
        the format, None if there is none for all of them; and which words have the format that most
        of them have, ``(N,)``.

    >>> date_format(pd.Series(["1/31/2020 5:00 PM", "12/3/2020 11:30 AM"]))[0]
    '%-m/%-d/%Y %-I:%M %p'
    >>> date_format(pd.Series(["2020-01-31T05:00:00+01:00", "2020-02-01T05:00:00+01:00"]))[0]
    '%Y-%m-%dT%H:%M:%S+01:00'
    """
    words = words.str.strip()
    best = np.zeros(len(words), dtype=bool)
    tried: set[str] = set()
    for example in (words.iloc[0], words.iloc[len(words) // 2], words.iloc[-1]):
        for fmt in _candidates(example, words):
            if fmt in tried:
                continue
            tried.add(fmt)
            parsed = parse_dates(words, fmt)
            fits = parsed.notna().to_numpy()
            if fits.all():
                return _as_written(words, parsed, fmt), fits
            best = fits if fits.sum() > best.sum() else best
    return None, best


def date_readings(words: pd.Series, fmt: str | None, zoned: bool) -> list[pd.Series]:
    """Return all different dates that texts may mean, each as a column with the gaps of the texts.

    In the format of training, there is one meaning; otherwise, all texts have the same format.

    Args:
        words: texts and gaps.
        fmt: format of training, if those were texts.
        zoned: whether dates have a time zone.

    >>> [len(date_readings(pd.Series([text, None]), "%d.%m.%Y", False))
    ...  for text in ("31.01.2020", "2020-01-31", "1/31/2020", "1/2/2020", "soon")]
    [1, 1, 1, 2, 0]
    """
    present = words.dropna().astype(object).str.strip() if words.notna().any() else words.dropna()
    if not len(present):
        return [pd.to_datetime(words.astype(object))]
    if fmt is not None and (dates := parse_dates(words, fmt)).notna().equals(words.notna()):
        return [dates]
    if present.str.match(r"\d{4}-\d\d-\d\d").all():
        dates = pd.to_datetime(words, format="ISO8601", errors="coerce", utc=zoned)
        if dates.notna().equals(words.notna()):
            return [dates]
    meanings: list[pd.Series] = []
    for example in (present.iloc[0], present.iloc[len(present) // 2], present.iloc[-1]):
        for candidate in _candidates(example, present):
            dates = parse_dates(words.str.strip(), candidate)
            if dates.notna().equals(words.notna()) and not any(map(dates.equals, meanings)):
                meanings.append(dates)
    return meanings


def _candidates(word: str, words: pd.Series) -> Iterator[str]:
    """Yield formats that a text may have."""
    plain, end = word, ""
    if ":" in word and (zone := _ZONE.search(word)):
        plain = word[: zone.start()].rstrip()
        same = words.str.endswith(zone[0]).all()  # then it is part of the format
        varying = "%:z" if ":" in zone[0] else "%z"
        end = word[len(plain) : zone.start()] + (zone[0] if same else varying)
    between = "T" if re.search(r"\dT\d", word) else ", " if re.search(r"\d, ?\d+:", word) else " "
    for day in _DAYS:
        for time in _TIMES:
            if bool(time) != (":" in plain):
                continue
            fmt = day + time.replace(" ", between, 1)
            if pd.notna(pd.to_datetime(plain, format=fmt, errors="coerce")):
                yield fmt + end
    if plain[:3].isalpha() and " " in plain:  # perhaps a weekday
        first, _, rest = plain.partition(" ")
        for name in ("%a", "%A"):
            for fmt in _candidates(rest, words) if len(first) >= 3 else ():
                mark = "," * first.endswith(",")
                if pd.notna(pd.to_datetime(plain, format=f"{name}{mark} {fmt}", errors="coerce")):
                    yield f"{name}{mark} {fmt}{end}"


def swapped(fmt: str) -> str | None:
    """Return a format of numbers with day and month exchanged; None if there is no such one.

    >>> swapped("%d/%m/%Y"), swapped("%-m/%-d/%y %H:%M"), swapped("%Y-%m-%d")
    ('%m/%d/%Y', '%-d/%-m/%y %H:%M', None)
    """
    match = re.match(r"(%-?)([dm])([-/.])(%-?)([dm])", fmt)
    if match is None:
        return None
    one, first, mark, two, second = match.groups()
    return f"{one}{second}{mark}{two}{first}{fmt[match.end() :]}"


def _as_written(words: pd.Series, parsed: pd.Series, fmt: str) -> str:
    """Return the variant of a format that reproduces the words, or most of them."""
    variants = [fmt]
    short = fmt
    for token in "dmHI":
        short = short.replace(f"%{token}", f"%-{token}")
    hour = fmt.replace("%H", "%-H").replace("%I", "%-I")
    variants += [hour, re.sub("%([dm])", r"%-\1", fmt), short]
    if "%f" in fmt:
        sizes = {len(found) for found in words.str.extract(r"\.(\d+)", expand=False)}
        if len(sizes) == 1 and (size := sizes.pop()) < 6:
            variants = [v.replace("%f", f"%{size}f") for v in variants]
    scores = [int((write_dates(parsed, v) == words).sum()) for v in variants]
    return variants[int(np.argmax(scores))]


def parse_dates(words: pd.Series, fmt: str) -> pd.Series:
    """Return dates of texts in a format, NaT for others; in UTC if their offsets vary."""
    plain = re.sub(r"%-([dmHI])", r"%\1", fmt).replace("%:z", "%z")
    plain = re.sub(r"%\df", "%f", plain)
    return pd.to_datetime(words, format=plain, errors="coerce", utc=plain.endswith("%z"))


def write_dates(stamps: pd.Series, fmt: str) -> pd.Series:
    """Return dates as texts in a format, None for gaps.

    >>> write_dates(pd.Series(pd.to_datetime(["2020-01-05 17:30"])), "%-m/%d/%y %-I:%M %p").item()
    '1/05/20 5:30 PM'
    """
    fmt = fmt.replace("%:z", "+00:00").replace("%z", "+0000")
    text = pd.Series("", index=stamps.index, dtype=object)
    for piece in _UNPADDED.split(fmt):
        if piece.endswith("f") and _UNPADDED.fullmatch(piece):
            part = stamps.dt.strftime("%f").str[: int(piece[1])]
        elif _UNPADDED.fullmatch(piece):
            part = stamps.dt.strftime(f"%{piece[-1]}").str.replace(r"^0", "", regex=True)
        else:
            part = stamps.dt.strftime(piece) if piece else ""
        text = text + part
    return text.where(stamps.notna(), None)


def date_texts(values: pd.Series) -> pd.Series:
    """Return dates as text, also those that are written as integers, 20200131."""
    if types.is_numeric_dtype(values.dtype):
        return values.astype("Int64").astype("string").astype(object).where(values.notna(), None)
    return values.astype(object).where(values.notna(), None)


def ticks_of(
    values: pd.Series, fmt: str | None, zone: str | None, where: str, utc: bool = False
) -> NDArray:
    """Return dates as nanoseconds since 1970, of local clock time; those of 1970 if missing.

    Args:
        values: dates, or texts, which may be written otherwise than in training, where that has
            one meaning.
        fmt: format of training, if those were texts.
        zone: time zone.
        where: name of the column in messages.
        utc: count in UTC, instead of local clock time.

    Raises:
        ValueError: naming the first text that is not a date, or that may be several.
    """
    stamps = values
    if not types.is_datetime64_any_dtype(values):
        words = date_texts(values)
        readings = date_readings(words, fmt, zone is not None)
        if len(readings) != 1:
            likely = fmt or "%Y-%m-%d"
            bad = (readings[0] != readings[1]) if readings else parse_dates(words, likely).isna()
            row = int(np.argmax((bad & values.notna()).to_numpy()))
            ways = (
                f"may be {readings[0][row]:%d %B %Y} or {readings[1][row]:%d %B %Y}"
                if readings
                else ""
            )
            raise ValueError(
                f"{where} holds {values.iloc[row]!r} in row {row} (counting from 0), which "
                f"{ways or 'is not a date'}: write dates in the format of training, {likely}"
            )
        (stamps,) = readings
    if zone is not None:
        local = stamps.dt.tz is None
        stamps = stamps.dt.tz_localize(zone) if local else stamps.dt.tz_convert(zone)
    if utc and stamps.dt.tz is not None:
        stamps = stamps.dt.tz_convert("UTC")
    return wall_clock(stamps.fillna(pd.Timestamp(0, tz=stamps.dt.tz)), where)


def wall_clock(times: pd.Series, where: str) -> NDArray:
    """Return times as nanoseconds since 1970, of local clock time.

    Raises:
        ValueError: if a date is too far away for them.
    """
    local = times.dt.tz_localize(None) if times.dt.tz is not None else times
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
