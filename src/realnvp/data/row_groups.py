"""Tables in Parquet files that need not fit in memory: one pass for statistics, then row groups.

A Parquet file is a sequence of row groups, which are read one by one. Which rows of a group are
held out depends on the seed and the group, so that nothing as long as the table is ever in memory.
In one pass, held-out rows are taken, and a random sample of the rest that all statistics are of;
beside it, rows that a sample could miss, and that say what a column can hold: extremes, first gaps,
rare categories. Training rows come from row groups in random order, as many groups at once as fit
in a window, the rows of a window in random order, too. So a step's batch is a function of the seed
and the step, wherever the rows are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.data.column_detection import MOST_CATEGORIES
from realnvp.data.column_kinds import RESOLUTIONS
from realnvp.data.column_values import wall_clock
from realnvp.data.dataset import TEST_FROM, Parts, Split, held_out_count
from realnvp.data.tables import KnownColumns, parquet_files, parquet_module, readable, table_parts
from realnvp.utils.distributed import rank
from realnvp.utils.files import hash_file
from realnvp.utils.model_folder import physical_memory
from realnvp.utils.progress import Bar
from realnvp.utils.rng import Stream, seed_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from realnvp.config import DataConfig

__all__ = ["Division", "GroupedRows", "RowGroup", "by_row_groups", "read_parts", "row_groups"]

LARGE = 1 << 30
"""Bytes of a single file's numbers from which on it is read by row groups."""

WINDOW = 1 << 28
"""Bytes of rows that are shuffled together."""

MOST_HELD_OUT = 100_000
"""Rows of a part that is held out by a fraction: more would make no result more certain."""

SAMPLE = 100_000
"""Training rows that statistics are of."""


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
    parquet = parquet_module()
    found = []
    for path in files:
        with readable(path):
            about = parquet.read_metadata(path)
            sizes = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
        found += [RowGroup(path, i, rows) for i, rows in enumerate(sizes) if rows]
    if not found:
        raise ValueError(f"{files[0]} has no rows")
    return found


def by_row_groups(config: DataConfig) -> bool:
    """Return whether a source is a table that is read by row groups.

    That are folders of Parquet files, and a file that is large, or is not to be read at once. It
    does not depend on the machine, since which rows are held out does depend on it.
    """
    path = Path(config.source).expanduser()
    files = parquet_files(path)
    if not files or path.is_dir() or config.storage == "disk":
        return bool(files)
    with readable(path):
        about = parquet_module().read_metadata(path)
    return 8 * about.num_rows * about.num_columns > LARGE


# ---------------------------------------------------------------------- which rows are what


@dataclass(frozen=True)
class Division:
    """Which rows of each row group are held out, and which are in the sample.

    Each group gives as much as its share of all rows.

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
        """Return how many of the last rows of all groups are in each."""
        first = int(self._ends[-1]) - count
        return np.clip(self._ends - first, 0, self.sizes)

    @staticmethod
    def _shares(count: int, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Divide a number over groups in proportion to their sizes, to the last one."""
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


def _division(config: DataConfig, sizes: NDArray[np.int64]) -> Division:
    n = int(sizes.sum())
    shares = {"validation": config.validation, "test": config.test}
    if config.test is None:
        shares["test"] = 0.1 if n >= TEST_FROM else 0
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


# ---------------------------------------------------------------------- the pass


class Witnesses:
    """Finds rows that show what columns hold, of those that a sample may miss.

    They are the rows of a new extreme, of a new category, and the first with a gap, a fraction,
    more decimals, a smaller step, or a finer time than all before.
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
                ticks = wall_clock(values.iloc[there])
                found |= self._extremes(name, ticks, there)
                for unit in RESOLUTIONS:
                    found |= self._first(name, f"unit {unit}", ticks % unit != 0, there)
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
        except TypeError:  # lists and the like, which no sample misses
            return set()
        fresh = [
            (row, v) for row, v in zip(distinct.index, distinct, strict=True) if v not in known
        ]
        fresh = fresh[: MOST_CATEGORIES + 1]
        known.update(value for _, value in fresh)
        return {int(row) for row, _ in fresh}


def _tables(groups: Sequence[RowGroup]) -> Iterator[pa.Table]:
    """Yield row groups as they are, of which one at once is in memory."""
    parquet = parquet_module()
    for path, inside in groupby(groups, key=lambda group: group.path):
        with readable(path), parquet.ParquetFile(path) as file:
            for group in inside:
                yield file.read_row_group(group.index)


def _frame(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas().reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _pass(
    groups: Sequence[RowGroup], division: Division, look: bool, title: str
) -> tuple[dict[str, pd.DataFrame], str]:
    """Read all row groups once.

    Args:
        groups: the row groups.
        division: which rows are what.
        look: whether to find the sample, and rows that show what columns hold ("witnesses").
        title: what is read, for the progress bar.

    Returns:
        the rows of parts, and the hash of the files' content.
    """
    import pyarrow as pa

    wanted = ["validation", "test", *(["sample"] if look else [])]
    parts: dict[str, list[pa.Table]] = {part: [] for part in [*wanted, "witnesses"]}
    witnesses, digest = Witnesses(), hashlib.blake2b(digest_size=16)
    total, done = sum(group.rows for group in groups), 0
    with Bar(title, main=rank() == 0) as bar:
        previous = None
        for i, (group, table) in enumerate(zip(groups, _tables(groups), strict=True)):
            if group.path != previous:
                hash_file(group.path, digest)
                previous = group.path
            rows = division.of(i)
            for part in wanted:
                parts[part].append(table.take(pa.array(rows[part])))
            if look:
                shown = witnesses.rows(_frame(table))
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
                frames[part] = _frame(pa.concat_tables(tables, promote_options="permissive"))
            except pa.ArrowException as error:
                raise ValueError(
                    f"the Parquet files of one table differ in their types: {error}"
                ) from error
    return frames, digest.hexdigest()


# ---------------------------------------------------------------------- training rows


class GroupReader:
    """Reads training rows of row groups, and remembers those that it has read last.

    Threads may share it.

    Args:
        groups: the row groups.
        division: which of their rows are training rows.
        read: makes examples and conditions of a table: `(frame, where) -> Split`.
        columns: numbers of a row.
        most: bytes of rows that are kept in memory, at least.
    """

    def __init__(
        self,
        groups: Sequence[RowGroup],
        division: Division,
        read: Callable[[pd.DataFrame, str], Split],
        columns: int,
        most: float,
    ) -> None:
        self._groups, self._division, self._read = groups, division, read
        self._row, self._most = 8 * columns, most
        self._starts = np.concatenate(([0], np.cumsum(division.train)))
        self._held: OrderedDict[int, Split] = OrderedDict()
        self._epochs: dict[tuple[int, int], tuple[NDArray, NDArray, NDArray]] = {}
        self._windows: dict[tuple[int, int, int], Tensor] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def where(self) -> str:
        """Where the rows are, in words."""
        read = f"{len(self):,} training rows are read from {len(self._groups):,} row groups"
        if math.isinf(self._most):
            size = f"{len(self) * self._row / 2**20:,.0f} MiB"
            return (
                f"{read} and stay in memory ({size}): --data-storage disk keeps the last ones only"
            )
        kept = f"{self._most / 2**20:,.0f} MiB"
        return f"{read}, of which {kept} stay in memory: --data-storage memory keeps all"

    def gather(self, index: Tensor) -> Split:
        """Return training rows, numbered through all groups, int64 ``(M,)``."""
        rows = index.numpy()
        of = np.searchsorted(self._starts, rows, side="right") - 1
        parts, places = [], []
        with self._lock:
            for group in np.unique(of).tolist():
                here = np.flatnonzero(of == group)
                split = self._group(group)
                parts.append(split.select(torch.from_numpy(rows[here] - self._starts[group])))
                places.append(here)
            if not parts:
                some = self._group(int(np.argmax(self._division.train)))
                return some.select(torch.arange(0))
        back = torch.from_numpy(np.argsort(np.concatenate(places)))
        condition = [part.condition for part in parts if part.condition is not None]
        return Split(
            torch.cat([part.x for part in parts])[back],
            torch.cat(condition)[back] if condition else None,
        )

    def _group(self, i: int) -> Split:
        """Return the training rows of a group, and forget those that were read long ago."""
        if i not in self._held:
            group = self._groups[i]
            (table,) = _tables([group])
            split = self._read(_frame(table), f"row group {group.index} of {group.path}")
            self._held[i] = split.select(torch.from_numpy(self._division.of(i)["train"]))
        self._held.move_to_end(i)
        while len(self._held) > 1 and self._row * sum(map(len, self._held.values())) > self._most:
            self._held.popitem(last=False)
        return self._held[i]

    def order(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Return which rows come in the places from ``start`` to ``stop`` of an epoch."""
        found = [torch.arange(0)]
        with self._lock:
            _, _, bounds = self._epoch(seed, epoch)
            window = int(np.searchsorted(bounds, start, side="right")) - 1
            while window < len(bounds) - 1 and bounds[window] < stop:
                low = int(bounds[window])
                order = self._shuffled(seed, epoch, window)
                found.append(order[max(start - low, 0) : stop - low])
                window += 1
        return torch.cat(found)

    def _shuffled(self, seed: int, epoch: int, window: int) -> Tensor:
        """Return the rows of a window in their order."""
        key = seed, epoch, window
        if key not in self._windows:
            groups, ends, bounds = self._epoch(seed, epoch)
            inside = groups[(ends > bounds[window]) & (ends <= bounds[window + 1])]
            rows = [np.arange(self._starts[i], self._starts[i + 1]) for i in inside]
            shuffle = torch.Generator().manual_seed(seed_of(seed, Stream.ORDER, epoch, window))
            all_rows = torch.from_numpy(np.concatenate(rows))
            _remember(
                self._windows, key, all_rows[torch.randperm(len(all_rows), generator=shuffle)]
            )
        return self._windows[key]

    def _epoch(self, seed: int, epoch: int) -> tuple[NDArray, NDArray, NDArray]:
        """Return an epoch's groups in order, where they end, and the bounds of the windows."""
        if (seed, epoch) not in self._epochs:
            shuffle = torch.Generator().manual_seed(seed_of(seed, Stream.ORDER, epoch))
            groups = torch.randperm(len(self._groups), generator=shuffle).numpy()
            groups = groups[self._division.train[groups] > 0]
            ends = np.cumsum(self._division.train[groups])
            most, bounds = WINDOW // self._row, [0]
            for end, following in zip(ends, [*ends[1:], math.inf], strict=True):
                if following - bounds[-1] > most:
                    bounds.append(int(end))
            _remember(self._epochs, (seed, epoch), (groups, ends, np.array(bounds)))
        return self._epochs[seed, epoch]


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Add what is used again soon, in the place of what was added before the last one."""
    while len(known) > 1:
        del known[next(iter(known))]
    known[key] = value


class GroupedRows:
    """Training rows in row groups, or their conditions, with as much of a tensor as is needed.

    Indexing reads the groups that have the rows.

    Args:
        reader: reads them.
        field: "x" or "condition".
        example: some rows, whose shape and type all have.
        key: name of the content.
        top: largest number, of labels.
    """

    device = torch.device("cpu")

    def __init__(
        self, reader: GroupReader, field: str, example: Tensor, key: str, top: int | None = None
    ) -> None:
        self.reader, self._field, self._key, self._top = reader, field, key, top
        self.shape = torch.Size((len(reader), *example.shape[1:]))
        self.dtype, self.ndim = example.dtype, example.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        if isinstance(index, slice):
            index = torch.arange(*index.indices(len(self)))
        return getattr(self.reader.gather(index), self._field)

    @property
    def where(self) -> str:
        """Where the rows are, in words."""
        return self.reader.where

    def is_floating_point(self) -> bool:
        """Return whether these are numbers, rather than labels."""
        return self.dtype.is_floating_point

    def max(self) -> Tensor:
        """Return the largest label."""
        assert self._top is not None  # only labels are asked
        return torch.tensor(self._top)

    def remembered(self, others: Sequence[Tensor], compute: Callable[[], str]) -> str:
        """Return the fingerprint, which is that of the files and of the choice of the rows."""
        return self._key


def read_parts(config: DataConfig, known: KnownColumns) -> Parts:
    """Return the parts of a table that is read by row groups; see `by_row_groups`.

    Args:
        config: source and settings.
        known: what a model knows of the columns.

    Raises:
        ValueError: when a file is damaged, files differ, or a column cannot be modelled.
    """
    path = Path(config.source).expanduser()
    groups = row_groups(parquet_files(path))
    division = _division(config, np.array([group.rows for group in groups]))
    look = known.schema is None and known.columns is None
    frames, digest = _pass(groups, division, look, f"reading {path.name}")
    sample: Split | None = None
    top = None
    if look:
        import pandas as pd

        size, count = len(frames["sample"]), int(division.train.sum())
        shown = pd.concat([frames["sample"], frames["witnesses"]], ignore_index=True)
        where = config.source if size == count else f"a sample of {len(shown):,} rows of {path}"
        whole = table_parts(shown, where, config, known)
        known = known.with_those_of(whole)
        split = whole.train()
        top = None if split.labels is None else int(split.labels.max())
        sample = split.select(torch.arange(size))
    names = tuple(known.columns or ())
    if known.schema is not None:
        names = tuple(coordinate.name for coordinate in known.schema.coordinates)

    def read(frame: pd.DataFrame, where: str) -> Split:
        return table_parts(frame, where, config, known).train()

    held = {
        part: partial(read, frames[part], f"the {part} rows of {config.source}")
        for part in ("validation", "test")
        if len(frames[part])
    }
    example = sample or next(iter(held.values()))()
    width = example.x.shape[1] + 1
    in_memory = config.storage == "memory"
    if config.storage == "auto":
        in_memory = 8 * width * int(division.train.sum()) <= (physical_memory() or 0) // 4
    reader = GroupReader(groups, division, read, width, math.inf if in_memory else 2 * WINDOW)
    choice = [digest, division.validation, division.test, division.last, division.seed]
    key = hashlib.blake2b(json.dumps(choice).encode(), digest_size=16).hexdigest()

    def train() -> Split:
        def field(name: str, example: Tensor) -> Tensor:
            return cast("Tensor", GroupedRows(reader, name, example, key, top))

        condition = None
        if example.condition is not None:
            condition = field("condition", example.condition)
        labels = None if example.labels is None else condition
        return Split(field("x", example.x), condition, labels)

    return Parts(
        train, held.get("validation"), held.get("test"), columns=names,
        categories=None if known.categories is None else tuple(known.categories),
        schema=known.schema,
        condition_schema=known.condition_schema, sample=sample, is_divided=True,
    )  # fmt: skip
