"""Parquet files as a sequence of row groups, and which rows of each group are held out.

Which rows of a group are held out depends on the seed and the group, so that nothing of the table's
length is ever in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from realnvp.data.parts import MIN_ROWS_FOR_TEST, held_out_count
from realnvp.data.tables import parquet_files, readable, to_pandas
from realnvp.utils.files import parquet_module
from realnvp.utils.rng import Stream, seed_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from realnvp.config import DataConfig

__all__ = [
    "Division",
    "RowGroup",
    "divide",
    "iter_row_groups",
    "reads_row_groups",
    "row_groups",
    "to_frame",
]

LARGE = 1 << 30
"""Bytes of the numbers in a single file, from which on it is read by row groups."""

MOST_HELD_OUT = 100_000
"""Largest number of rows that a fraction holds out: more would not make results more certain."""

SAMPLE = 100_000
"""Number of training rows from which statistics are computed."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file, and its number of rows."""

    path: Path
    index: int
    rows: int


def row_groups(files: Sequence[Path]) -> list[RowGroup]:
    """Return the row groups of Parquet files that are not empty, in their order.

    Raises:
        ValueError: if pyarrow is not installed, a file is damaged, or there are no rows.
    """
    parquet = parquet_module("reading")
    found = []
    for path in files:
        with readable(path):
            about = parquet.read_metadata(path)
            sizes = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
        found += [RowGroup(path, i, rows) for i, rows in enumerate(sizes) if rows]
    if not found:
        raise ValueError(f"{files[0]} has no rows")
    return found


def reads_row_groups(config: DataConfig) -> bool:
    """Return whether a source is a table that is read by row groups.

    This applies to folders of Parquet files, and to a file that is large, or that ``data.storage``
    keeps on the disk. It does not depend on the machine, since the choice of held-out rows depends
    on it.
    """
    path = Path(config.source).expanduser()
    files = parquet_files(path)
    if not files or path.is_dir() or config.storage == "disk":
        return bool(files)
    with readable(path):
        about = parquet_module("reading").read_metadata(path)
    return 8 * about.num_rows * about.num_columns > LARGE


def iter_row_groups(groups: Sequence[RowGroup]) -> Iterator[pa.Table]:
    """Yield the row groups as tables, with one at a time in memory."""
    parquet = parquet_module("reading")
    for path, inside in groupby(groups, key=lambda group: group.path):
        with readable(path), parquet.ParquetFile(path) as file:
            for group in inside:
                yield file.read_row_group(group.index)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a data frame whose column names are strings."""
    frame = to_pandas(table).reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    return frame


@dataclass(frozen=True)
class Division:
    """Which rows of each row group are held out, and which are in the sample.

    Each group contributes in proportion to its number of rows.

    Args:
        sizes: rows of each group, int64 ``(G,)``.
        validation: rows to validate on, over all groups.
        test: rows to test on.
        sample: training rows of the sample.
        last: hold out the last rows, rather than random ones.
        seed: seed of the choice.

    >>> division = Division(np.array([3, 7]), validation=2, test=1, sample=4)
    >>> division.train.tolist(), {part: len(rows) for part, rows in division.of(1).items()}
    ([3, 4], {'test': 1, 'validation': 2, 'train': 4, 'sample': 3})
    """

    sizes: NDArray[np.int64]
    validation: int
    test: int
    sample: int
    last: bool = False
    seed: int = 0

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.sizes)

    @cached_property
    def _tests(self) -> NDArray[np.int64]:
        return self._at_end(self.test) if self.last else self._shares(self.test, self.sizes)

    @cached_property
    def _validations(self) -> NDArray[np.int64]:
        if self.last:
            return self._at_end(self.validation + self.test) - self._tests
        return self._shares(self.validation, self.sizes)

    @cached_property
    def train(self) -> NDArray[np.int64]:
        """Training rows of each group, int64 ``(G,)``."""
        return np.maximum(self.sizes - self._tests - self._validations, 0)

    @cached_property
    def _samples(self) -> NDArray[np.int64]:
        return self._shares(min(self.sample, int(self.train.sum())), self.train)

    def _at_end(self, count: int) -> NDArray[np.int64]:
        """Return how many of the last ``count`` rows are in each group."""
        first = int(self._ends[-1]) - count
        return np.clip(self._ends - first, 0, self.sizes)

    @staticmethod
    def _shares(count: int, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Divide a number among groups in proportion to their sizes, exactly."""
        ends = np.cumsum(sizes)
        return np.diff(ends * count // max(int(ends[-1]), 1), prepend=0)

    def of(self, group: int) -> dict[str, NDArray[np.int64]]:
        """Return ascending indices of a group's rows by part; the sample is part of "train"."""
        seed = seed_of(self.seed, Stream.HELD_OUT, group)
        generator = torch.Generator().manual_seed(seed)
        size = int(self.sizes[group])
        shuffled = torch.randperm(size, generator=generator).numpy()
        order = np.arange(size)[::-1] if self.last else shuffled
        tests = int(self._tests[group])
        held = tests + int(self._validations[group])
        train = np.sort(order[held:])
        some = torch.randperm(len(train), generator=generator).numpy()
        return {
            "test": np.sort(order[:tests]),
            "validation": np.sort(order[tests:held]),
            "train": train,
            "sample": np.sort(train[some[: int(self._samples[group])]]),
        }


def divide(config: DataConfig, sizes: NDArray[np.int64]) -> Division:
    """Return the division that the settings ask for.

    Args:
        config: source and settings.
        sizes: rows of each group.

    Raises:
        ValueError: if it leaves fewer than two rows to train on.
    """
    n = int(sizes.sum())
    shares = {"validation": config.validation, "test": config.test}
    if config.test is None:
        shares["test"] = 0.1 if n >= MIN_ROWS_FOR_TEST else 0
    counts = {}
    for part, share in shares.items():
        assert share is not None
        count = held_out_count(n, share) if share else 0
        counts[part] = min(count, MOST_HELD_OUT) if share < 1 else count
    left = n - sum(counts.values())
    if left < 2:
        raise ValueError(
            f"validation and test hold out {sum(counts.values()):,} of {n:,} rows, which leaves "
            f"{max(left, 0)} to train on: at least 2 are needed, so hold out less "
            "(--data.validation, --data.test) or give more data"
        )
    return Division(sizes, **counts, sample=SAMPLE, last=config.holdout == "last", seed=config.seed)
