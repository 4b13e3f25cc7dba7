"""Tables in text: CSV and TSV files as they occur in practice.

Separators and encodings are detected. Gaps, row numbers without a name and codes with leading zeros
are recognized.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import math
import re
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from realnvp.columns.notations import Notation
from realnvp.utils.errors import some_of
from realnvp.utils.progress import warn

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ALWAYS", "MOST_INFLATED", "opened", "read_text", "read_words"]

MOST_INFLATED = 200
"""Largest number of bytes of text, or cells, per byte of a compressed file."""

ALWAYS = 1 << 26
"""Number of bytes, or cells, that is allowed for a file of any size."""

_GAPS = {
    "", "?", "na", "n/a", "n.a.", "nan", "null", "(null)", "none", "nil", "n.d.", "missing",
    "unknown", "undefined", "-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "*", "\\n",
    "#div/0!", "#name?", "#null!", "#num!", "#ref!", "#value!",
}  # fmt: skip
"""Words that stand for a gap among numbers and dates, in lower case."""

_COMPARED = 20
"""Number of lines that are compared to find the separator."""

_EXCEL_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""First line that tells Excel the separator."""

_PADDED = re.compile(rb"(?:^|[\n\r,;\t|\"])[ \"]*0\d")


class _Gzip(gzip.GzipFile):
    """A compressed text whose inflated size is bounded, since no header announces it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._most = max(ALWAYS, MOST_INFLATED * path.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        return self._checked(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        return self._checked(super().read1(size))

    def _checked(self, content: bytes) -> bytes:
        if self.tell() > self._most:
            raise ValueError(
                f"it inflates to more than {MOST_INFLATED} times its size: if that is intended, "
                "extract it first"
            )
        return content


def opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", _Gzip(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def read_text(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV file, which may be compressed (``.gz``).

    A first column without a name whose values are all different numbers the rows: it is left out,
    as are empty columns without a name. Others without one are called ``Unnamed: 2``, as by pandas.
    Numbers of which some begin with a zero, such as postal codes, stay text. Empty rows at the end,
    which spreadsheets write, are left out with a warning, unless there are others.

    Raises:
        ValueError: if the file is damaged, empty, or not text.
    """
    import pandas as pd

    # Before version 3, pandas read a third of all long decimals with another last bit.
    exact: Any = {"float_precision": "round_trip"} if pd.__version__ < "3" else {}
    try:
        encoding, padded = _looked_at(path)
        rows, separator, skipped = _head(path, encoding)
        named = not _are_data(rows[:2])
        names = [name.strip() for name in rows[0]] if named else _numbered(len(rows[0]))

        def read(**options: Any) -> pd.DataFrame:
            with opened(path) as file:
                return pd.read_csv(
                    file, sep=separator, header=0 if named else None, index_col=False,
                    skiprows=skipped, skipinitialspace=True, encoding=encoding,
                    low_memory=False, na_values=["?"], **exact, **options,
                )  # fmt: skip

        with warnings.catch_warnings():
            # pandas only warns when it drops the surplus cells of a row.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = read()
            if count := _empty_at_the_end(frame):
                frame = read(nrows=len(frame) - count)
            if len(names) != frame.shape[1]:
                raise ValueError(f"it has {len(names)} names for {frame.shape[1]} columns")
            whole = [i for i in range(frame.shape[1]) if _is_whole(frame.iloc[:, i], padded)]
            texts = read(usecols=whole, dtype=str, nrows=len(frame)) if whole else frame
            for i, name in zip(whole, texts.columns, strict=False):
                frame.isetitem(i, _as_written(frame.iloc[:, i], texts[name].str.strip()).array)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        why = _surplus(path, encoding, separator, names) or " ".join(str(error).split())
        raise ValueError(f"cannot read {path}: {why}") from error
    except (OSError, ValueError, EOFError, zlib.error, csv.Error, Warning) as error:
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if count:
        rows_are = f"its last {count:,} rows are" if count > 1 else "its last row is"
        warn(f"{path}: {rows_are} empty, and left out")
    frame.columns = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    kept = [i for i, name in enumerate(names) if name or not _says_nothing(frame.iloc[:, i], i)]
    frame = frame.iloc[:, kept]
    for i, kind in enumerate(frame.dtypes):
        if kind.kind not in "iufb":
            frame.isetitem(i, _with_gaps(frame.iloc[:, i]).array)
    return frame


def read_words(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV file with names of columns; all values are text, and gaps empty text.

    Raises:
        ValueError: if the file is damaged, empty, or not text.
    """
    import pandas as pd

    try:
        encoding, _ = _looked_at(path)
        _, separator, skipped = _head(path, encoding)
        frame = pd.read_csv(
            path, sep=separator, index_col=False, skiprows=skipped, skipinitialspace=True,
            encoding=encoding, dtype=str, keep_default_na=False,
        )  # fmt: skip
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    frame.columns = frame.columns.str.strip()
    return frame.apply(lambda words: words.str.strip())


def _head(path: Path, encoding: str) -> tuple[list[list[str]], str, int]:
    """Return the first rows of a text, what separates its columns, and how many lines to skip."""
    with opened(path) as raw, io.TextIOWrapper(raw, encoding, newline="") as text:
        lines = list(itertools.islice((line for line in text if line.strip()), _COMPARED))
    chosen = _EXCEL_SEPARATOR.fullmatch(lines[0]) if lines else None
    lines = lines[1:] if chosen else lines
    if not lines:
        raise ValueError("it is empty")
    separator = chosen[1] if chosen else _separator(lines)
    return _rows(lines, separator), separator, 1 if chosen else 0


def _looked_at(path: Path) -> tuple[str, bool]:
    """Return the encoding of a text, and whether a number in it may begin with a zero.

    Raises:
        ValueError: if it is not text.
    """
    padded, strict = False, True
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as file:
        block = file.read(1 << 20)
        if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16", True
        while block:
            if b"\0" in block:
                raise ValueError("it is not text")
            padded = padded or bool(_PADDED.search(block))
            if strict:
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    strict = False
            block = file.read(1 << 20)
    if strict:
        return "utf-8-sig", padded
    warn(f"{path} is not UTF-8 text: it is read as Windows-1252 (Latin-1)")
    return "cp1252", padded


def _rows(lines: Iterable[str], separator: str) -> list[list[str]]:
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _separator(lines: list[str]) -> str:
    """Return the separator that divides most lines as the first; of several, the most frequent.

    >>> _separator(["size (x, y, z);weight", "2;1.5", "3;2.5"])
    ';'
    """

    def fits(separator: str) -> tuple[int, int]:
        counts = [len(row) for row in _rows(lines, separator)]
        return counts.count(counts[0]) if counts[0] > 1 else 0, counts[0]

    return max(",;\t|", key=fits)


def _surplus(path: Path, encoding: str, separator: str, names: list[str]) -> str | None:
    """Return a message about the first line that has more cells than there are names."""
    with contextlib.suppress(csv.Error), opened(path) as raw:
        reader = csv.reader(
            io.TextIOWrapper(raw, encoding, newline=""), delimiter=separator, skipinitialspace=True
        )
        for row in reader:
            count = max((i + 1 for i, cell in enumerate(row) if cell), default=0)
            if count > len(names):
                return (
                    f"line {reader.line_num} has {count} cells, more than there are names of "
                    f"columns ({some_of(names)}): delete lines above the names, and quote cells "
                    f"that hold {separator!r}"
                )
    return None


def _empty_at_the_end(frame: pd.DataFrame) -> int:
    """Return the number of empty rows at the end of a table of several columns without others."""
    filled = np.flatnonzero(frame.notna().any(axis=1))
    count = len(frame) - 1 - int(filled[-1]) if len(filled) else 0
    return count if frame.shape[1] > 1 and len(filled) + count == len(frame) else 0


def _is_whole(values: pd.Series, padded: bool) -> bool:
    """Return whether the text of a column of numbers has information that the numbers lack."""
    if values.dtype.kind in "iu":
        return padded
    present = values.dropna()
    return (
        values.dtype.kind == "f"
        and 0 < len(present) < len(values)
        and bool((present % 1 == 0).all())
    )


def _as_written(values: pd.Series, words: pd.Series) -> pd.Series:
    """Return a column of integers as codes, which are text, or as integers with gaps."""
    present = words.dropna()
    if present.str.match(r"0\d").any():
        return words if present.str.fullmatch(r"\d+").all() else values
    if values.dtype.kind == "f" and present.str.fullmatch(r"[-+]?\d{1,18}").all():
        return values.astype("Int64")
    return values


def _says_nothing(values: pd.Series, place: int) -> bool:
    """Return whether a column without a name only numbers or names the rows, or is empty."""
    return bool(values.isna().all() or (place == 0 and values.notna().all() and values.is_unique))


def _with_gaps(values: pd.Series) -> pd.Series:
    """Return a column of text as numbers or dates with gaps, if the rest are words for gaps.

    In a column of categories, such a word may be one of them: it stays.
    """
    import pandas as pd

    from realnvp.columns.dates import looks_like_a_date

    words = values.dropna()
    if not len(words) or not all(isinstance(word, str) for word in words):
        return values
    gap = np.array([isinstance(w, str) and w.strip().lower() in _GAPS for w in values], dtype=bool)
    rest = values[~gap].dropna().str.strip()
    if not gap.any() or not len(rest):
        return values
    cleared = values.mask(gap)
    if pd.to_numeric(rest, errors="coerce").notna().all():
        return _as_written(pd.to_numeric(cleared).astype(float), cleared.str.strip())
    if rest.map(looks_like_a_date).all() or Notation.of(rest) is not None:
        return cleared
    return values


def _numbered(count: int) -> list[str]:
    return [f"x{i}" for i in range(count)]


def _are_data(rows: list[list[str]]) -> bool:
    """Return whether the first line of a file is data, judging by it and the second."""
    first = [word.strip() for word in rows[0]]
    numbers = [_is_number(word) for word in first]
    if not any(numbers):
        return False
    if not all(
        number or word.lower() in _GAPS for number, word in zip(numbers, first, strict=True)
    ):
        return False
    counted = first == [str(i) for i in range(len(first))]
    return not (counted and any("." in word for row in rows[1:] for word in row))


def _is_number(word: str) -> bool:
    try:
        return not math.isnan(float(word))
    except ValueError:
        return False
