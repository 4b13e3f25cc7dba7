"""One pass over a table's row groups, which detects what its columns hold.

It collects the held-out rows, a random sample of the rest for all statistics, and rows that a
sample could miss but that show what a column can hold: extremes, first gaps, rare categories.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from realnvp.columns.dates import DAY, months_of, wall_clock
from realnvp.columns.kinds.date import RESOLUTIONS
from realnvp.columns.look import MOST_CATEGORIES
from realnvp.data.row_groups import Division, RowGroup, iter_row_groups, to_frame
from realnvp.utils.distributed import rank
from realnvp.utils.files import hash_file
from realnvp.utils.progress import Bar

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["RepresentativeRows", "scan"]


class RepresentativeRows:
    """Find rows with values of columns that a sample may miss: categories, extremes, gaps.

    These are rows with a new extreme or a new category, and the first with a gap, a fraction, more
    decimals, a smaller step, or a finer time than all previous rows.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def rows(self, frame: pd.DataFrame) -> list[int]:
        """Return the rows of the next part of a table that show something new."""
        from pandas.api import types

        found: set[int] = set()
        for name in frame.columns:
            values = frame[name]
            gap = values.isna().to_numpy()
            found |= self._first(name, "gap", gap)
            there = np.flatnonzero(~gap)
            if not len(there):
                continue
            if types.is_datetime64_any_dtype(values):
                ticks = wall_clock(values.iloc[there], f"column {name!r}")
                found |= self._extremes(name, ticks, there)
                for unit in RESOLUTIONS:
                    found |= self._first(name, f"unit {unit}", ticks % unit != 0, there)
                found |= self._first(name, "month", ~months_of(ticks)[1], there)
                found |= self._off_step(name, ticks // DAY, there)
            elif types.is_numeric_dtype(values) and not types.is_bool_dtype(values):
                numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)[there]
                found |= self._extremes(name, numbers, there)
                for decimals in range(self._known.get((name, "decimals"), 0), 10):
                    finer = self._first(
                        name, f"decimal {decimals}", np.round(numbers, decimals) != numbers, there
                    )
                    found |= finer
                    if not finer:
                        break
                    self._known[name, "decimals"] = decimals + 1
                found |= self._off_step(name, numbers, there)
            else:
                found |= self._categories(name, values, there)
        return sorted(found)

    def _off_step(self, name: str, numbers: NDArray, there: NDArray) -> set[int]:
        """Return the rows without which numbers would seem to have a larger step than they have."""
        unit = 10.0 ** -self._known.get((name, "decimals"), 0)
        if unit < 1e-9 or np.abs(numbers).max() / unit > 2**52:
            return set()
        origin, step = self._known.get((name, "step"), (numbers[0], 0.0))
        counts = np.rint((numbers - origin) / unit).astype(np.int64)
        multiple = round(step / unit)
        found = set() if (name, "step") in self._known else {int(there[0])}
        while (off := counts % multiple != 0 if multiple else counts != 0).any():
            row = int(np.argmax(off))
            multiple = math.gcd(multiple, int(counts[row]))
            found.add(int(there[row]))
        self._known[name, "step"] = origin, multiple * unit
        return found

    def _first(self, name: str, what: str, mask: NDArray, there: NDArray | None = None) -> set[int]:
        if (name, what) in self._known or not mask.any():
            return set()
        self._known[name, what] = True
        row = int(np.argmax(mask))
        return {row if there is None else int(there[row])}

    def _extremes(self, name: str, numbers: NDArray, there: NDArray) -> set[int]:
        found = set()
        for what, sign in (("low", 1), ("high", -1)):
            row = int((sign * numbers).argmin())
            known = self._known.get((name, what))
            if known is None or sign * numbers[row] < sign * known:
                self._known[name, what] = numbers[row]
                found.add(int(there[row]))
        return found

    def _categories(self, name: str, values: pd.Series, there: NDArray) -> set[int]:
        known: set[Any] = self._known.setdefault((name, "categories"), set())
        if len(known) > MOST_CATEGORIES:
            return set()
        try:
            distinct = values.iloc[there].drop_duplicates()
        except TypeError:  # lists and the like, which any sample contains
            return set()
        fresh = [
            (row, v) for row, v in zip(distinct.index, distinct, strict=True) if v not in known
        ]
        fresh = fresh[: MOST_CATEGORIES + 1]
        known.update(value for _, value in fresh)
        return {int(row) for row, _ in fresh}


def scan(
    groups: Sequence[RowGroup], division: Division, look: bool, title: str
) -> tuple[dict[str, pd.DataFrame], str]:
    """Read all row groups once.

    Args:
        groups: the row groups.
        division: which rows belong to which part.
        look: whether to find the sample, and rows that show what columns hold ("witnesses").
        title: title of the progress bar.

    Returns:
        the rows of parts, and the hash of the files' content.
    """
    import pyarrow as pa

    wanted = ["validation", "test", *(["sample"] if look else [])]
    parts: dict[str, list[pa.Table]] = {part: [] for part in [*wanted, "witnesses"]}
    witnesses, digest = RepresentativeRows(), hashlib.blake2b(digest_size=16)
    total, done = sum(group.rows for group in groups), 0
    with Bar(title, main=rank() == 0) as bar:
        previous = None
        for i, (group, table) in enumerate(zip(groups, iter_row_groups(groups), strict=True)):
            if group.path != previous:
                hash_file(group.path, digest)
                previous = group.path
            rows = division.of(i)
            for part in wanted:
                parts[part].append(table.take(pa.array(rows[part])))
            if look:
                shown = witnesses.rows(to_frame(table))
                parts["witnesses"].append(table.take(pa.array(shown, pa.int64())))
            done += group.rows
            bar.update(done / total, f"{done:,} of {total:,} rows")
    names = {tuple(table.schema.names) for tables in parts.values() for table in tables}
    if len(names) > 1:
        one, other = sorted(names)[:2]
        odd = sorted(set(one) ^ set(other)) or list(one)
        raise ValueError(f"the Parquet files of one table differ in their columns: {odd[0]!r}")
    frames = {}
    for part, tables in parts.items():
        if tables:
            try:
                frames[part] = to_frame(pa.concat_tables(tables, promote_options="permissive"))
            except pa.ArrowException as error:
                raise ValueError(
                    f"the Parquet files of one table differ in their types: {error}"
                ) from error
    return frames, digest.hexdigest()
