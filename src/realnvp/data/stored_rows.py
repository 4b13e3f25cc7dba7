"""Training rows that are read from Parquet files as they are needed.

One pass over the files draws a random sample, which shows what the columns are. Another one divides
the rows by a hash of their values, so that equal rows are in one part, and collects rows that the
sample does not explain. Training then reads row groups in random order, as many at a time as fit
into a window, and shuffles the rows of a window. So the batch of a step is a function of the seed
and the step, wherever the rows are kept.

How uniform that is: every row is equally likely at every place of an epoch, and a batch is a
uniform sample of its window. Rows of one group are always in one window. If a file is sorted, the
mean over a window of ``g`` of ``G`` groups has the standard error of ``g`` draws from the means of
the groups without replacement, which is ``sqrt((1 / g - 1 / G))`` times their standard deviation.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.columns.bin_map import ON_GRID
from realnvp.data.dataset import Split
from realnvp.data.parquet import ParquetRows, parquet_files, table_hashes, to_frame
from realnvp.data.parts import MIN_ROWS_FOR_TEST, Parts, are_expected, held_out_count, is_discrete
from realnvp.data.tables import KnownColumns, condition_names, table_parts
from realnvp.utils.distributed import rank
from realnvp.utils.hashing import scrambled
from realnvp.utils.model_folder import physical_memory
from realnvp.utils.progress import Bar
from realnvp.utils.rng import Stream, seed_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from realnvp.columns.schema import TableSchema
    from realnvp.config import DataConfig

__all__ = ["StoredRows", "read_row_groups", "reads_row_groups"]

LARGE = 1 << 30
"""Bytes of the numbers in a single file, from which on it is read by row groups."""

MOST_HELD_OUT = 100_000
"""Largest number of rows that a fraction holds out: more would not make results more certain."""

SAMPLE = 100_000
"""Number of rows from which statistics are computed, less those of them that are held out."""

WINDOW = 1 << 28
"""Bytes of rows that are shuffled together."""


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
    rows = ParquetRows(files)
    return 8 * len(rows) * len(rows.columns) > LARGE


# ---------------------------------------------------------------------- two passes over the rows


def _bar(config: DataConfig, verb: str) -> Bar:
    return Bar(f"{verb} {Path(config.source).name}", main=rank() == 0)


def _sample(rows: ParquetRows, config: DataConfig) -> tuple[pd.DataFrame, list[NDArray]]:
    """Return random rows of all groups in proportion to their sizes, and which rows of each."""
    import pyarrow as pa

    ends = np.cumsum(rows.sizes)
    counts = np.diff(ends * min(SAMPLE, len(rows)) // len(rows), prepend=0)
    tables, chosen = [], []
    with _bar(config, "reading") as bar:
        for i, (size, count) in enumerate(zip(rows.sizes, counts, strict=True)):
            seed = seed_of(config.seed, Stream.HELD_OUT, i)
            order = torch.randperm(int(size), generator=torch.Generator().manual_seed(seed))
            chosen.append(np.sort(order[:count].numpy()))
            tables.append(rows.read(i).take(pa.array(chosen[-1])))
            bar.update(ends[i] / ends[-1], f"{ends[i]:,} of {ends[-1]:,} rows")
    return to_frame(pa.concat_tables(tables)), chosen


class _Witnesses:
    """Rows that a sample may miss, but that show what the columns of a table can hold.

    These have a value that is impossible by the sample, such as another category or a missing
    value, one with more decimals, or one beyond all before it.

    Args:
        schema: columns by the sample.
    """

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        self._seen: dict[str, set[Any]] = defaultdict(set)
        self._highest = np.full(2 * schema.dim, -np.inf)
        self.frames: list[pd.DataFrame] = []

    def look(self, frame: pd.DataFrame, where: str) -> None:
        """Look at the next rows."""
        from realnvp.columns.look import MOST_CATEGORIES  # with pandas, which images do not need

        x, impossible = self._schema.inspect(frame, where=where)
        odd = [(each.column, each.rows, each.values) for each in impossible]
        for i, feature in enumerate(self._schema.features):
            if feature.kind == "step":
                place = (x[:, i] - feature.origin) / feature.step
                off_grid = np.flatnonzero(np.abs(place - np.rint(place)) > ON_GRID)
                odd.append((feature.name, off_grid.tolist(), x[off_grid, i].tolist()))
        rows = set()
        for name, places, values in odd:
            seen = self._seen[name]
            for row, value in zip_longest(places, values):  # missing ones have no values
                if value not in seen and len(seen) < MOST_CATEGORIES:
                    seen.add(value)
                    rows.add(row)
        both = np.nan_to_num(np.concatenate((x, -x), axis=1), nan=-np.inf)
        top, highest = both.argmax(0), both.max(0)
        rows |= set(top[highest > self._highest].tolist())
        self._highest = np.maximum(highest, self._highest)
        self.frames.append(frame.iloc[sorted(rows)])


@dataclass(frozen=True)
class _Division:
    """Rows that are held out.

    Args:
        held: indices of the rows of each group that are not for training.
        frames: the rows of the validation and the test part.
        key: hash of all rows and of how they are divided.
        expected: whether most held-out rows have copies.
    """

    held: list[NDArray]
    frames: dict[str, pd.DataFrame]
    key: str
    expected: bool


def _divide(
    rows: ParquetRows,
    config: DataConfig,
    columns: Sequence[str],
    by_place: bool,
    witnesses: _Witnesses | None = None,
) -> _Division:
    """Hold out rows by a hash of some columns, or of their places; see :func:`_division`."""
    import pyarrow as pa

    n, last, names = len(rows), config.holdout == "last", ("test", "validation")
    counts = _held_out_counts(config, n)
    ends = np.cumsum([counts[name] for name in names])
    seed = np.uint64(seed_of(config.seed, Stream.HELD_OUT))
    starts = np.cumsum(rows.sizes) - rows.sizes
    digest = hashlib.blake2b(json.dumps([*ends.tolist(), last, config.seed, by_place]).encode())
    held: list[NDArray] = [np.empty(0)] * len(starts)
    tables: dict[str, list[pa.Table]] = {name: [] for name in names}
    keys = [np.empty(0, np.uint64) for _ in names]
    done = 0
    with _bar(config, "dividing") as bar:
        # From the end, since the last rows are held out, and earlier copies of them left out.
        for i in reversed(range(len(starts))):
            table = rows.read(i)
            hashes = table_hashes(table.select(columns))
            digest.update(hashes.tobytes())
            place = (starts[i] + np.arange(len(table))).astype(np.uint64)
            key = place if by_place else hashes
            order = n - 1 - place if last else n * (scrambled(key + seed) / 2.0**64)
            part = np.searchsorted(ends, order, side="right")
            for p, name in enumerate(names):
                keys[p] = np.concatenate((keys[p], key[part == p]))
                if last:
                    part[(part > p) & np.isin(key, keys[p])] = len(names) + 1
                chosen = np.flatnonzero(part == p)
                room = 2 * counts[name] + 1000 - sum(map(len, tables[name]))  # copies may be many
                tables[name].append(table.take(pa.array(chosen[: max(room, 0)])))
            held[i] = np.flatnonzero(part != len(names))
            if witnesses is not None:
                witnesses.look(to_frame(table), rows.where(i))
            done += len(table)
            bar.update(done / n, f"{done:,} of {n:,} rows")
    frames = {name: to_frame(pa.concat_tables(tables[name][::-1])) for name in names}
    held_out = np.concatenate(keys)
    return _Division(
        held, {name: frame for name, frame in frames.items() if len(frame)}, digest.hexdigest(),
        are_expected(len(held_out), len(np.unique(held_out))),
    )  # fmt: skip


def _held_out_counts(config: DataConfig, n: int) -> dict[str, int]:
    """Return how many of ``n`` rows are held out for validation and for a test, on average.

    Raises:
        ValueError: if they leave fewer than two rows to train on.
    """
    fractions = {"validation": config.validation, "test": config.test}
    if config.test is None:
        fractions["test"] = 0.1 if n >= MIN_ROWS_FOR_TEST else 0
    counts = {}
    for part, fraction in fractions.items():
        assert fraction is not None
        count = held_out_count(n, fraction) if fraction else 0
        counts[part] = min(count, MOST_HELD_OUT) if fraction < 1 else count
    left = n - sum(counts.values())
    if left < 2:
        raise ValueError(
            f"validation and test hold out {sum(counts.values()):,} of {n:,} rows, which leaves "
            f"{max(left, 0)} to train on: at least 2 are needed, so hold out less "
            "(--data.validation, --data.test) or give more data"
        )
    return counts


def _division(
    rows: ParquetRows,
    config: DataConfig,
    known: KnownColumns,
    witnesses: _Witnesses | None = None,
) -> _Division:
    """Divide the rows, so that equal ones are in the same part.

    Columns that are not modeled do not count. Where all columns are discrete and most rows have
    copies, these are to be expected, and rows are divided by their places instead.
    """
    modeled = known.columns if known.schema is None else known.schema.names
    condition = condition_names(config.condition, rows.columns)
    columns = [name for name in rows.columns if name in {*(modeled or ()), *condition}]
    division = _divide(rows, config, columns, by_place=False, witnesses=witnesses)
    if is_discrete(known.schema) and division.expected:
        division = _divide(rows, config, columns, by_place=True)
    return division


def read_row_groups(config: DataConfig, known: KnownColumns) -> Parts:
    """Return the parts of a table that is read by row groups; see ``reads_row_groups``.

    Args:
        config: source and settings.
        known: the columns that a model knows.

    Raises:
        ValueError: if a file is damaged, files differ, or a column cannot be modeled.
    """
    import pandas as pd

    from realnvp.columns.schema import TableSchema

    path = Path(config.source).expanduser()
    rows = ParquetRows(parquet_files(path))
    sample: Split | None = None
    top = None
    if known.schema is None and known.columns is None:
        drawn, chosen = _sample(rows, config)
        looked_at = TableSchema.of(drawn, config.columns, where=str(path))
        witnesses = _Witnesses(looked_at)
        division = _division(rows, config, KnownColumns(schema=looked_at), witnesses)
        shown = pd.concat([drawn, *witnesses.frames], ignore_index=True)
        whole = len(drawn) == len(rows)
        where = config.source if whole else f"a sample of {len(shown):,} rows of {path}"
        parts = table_parts(shown, where, config, known)
        known = known.with_schema(parts)
        assert known.schema is not None
        if (known.schema.names, is_discrete(known.schema)) != (
            looked_at.names, is_discrete(looked_at)
        ):  # fmt: skip
            division = _division(rows, config, known)
        split = parts.train()
        top = None if split.labels is None else int(split.labels.max())
        learned = [~np.isin(*pair) for pair in zip(chosen, division.held, strict=True)]
        sample = split.select(torch.from_numpy(np.flatnonzero(np.concatenate(learned))))
    else:
        division = _division(rows, config, known)
    names = tuple(known.columns or ())
    if known.schema is not None:
        names = tuple(feature.name for feature in known.schema.features)

    def read(frame: pd.DataFrame, where: str) -> Split:
        return table_parts(frame, where, config, known).train()

    held_out = {
        part: partial(read, frame, f"the {part} rows of {config.source}")
        for part, frame in division.frames.items()
    }
    example = sample or next(iter(held_out.values()))()
    reader = _Reader(rows, division.held, read, example, config.storage)

    def train() -> Split:
        def field(name: str, example: Tensor) -> Tensor:
            return cast("Tensor", StoredRows(reader, name, example, division.key, top))

        condition = None
        if example.condition is not None:
            condition = field("condition", example.condition)
        labels = None if example.labels is None else condition
        return Split(field("x", example.x), condition, labels)

    return Parts(
        train, held_out.get("validation"), held_out.get("test"), columns=names,
        categories=None if known.categories is None else tuple(known.categories),
        schema=known.schema,
        condition_schema=known.condition_schema, sample=sample, is_divided=True,
    )  # fmt: skip


# ---------------------------------------------------------------------- training rows


class _Reader:
    """Read training rows of row groups, and cache those that were read last.

    Threads may share it.

    Args:
        rows: all rows.
        held: indices of the rows of each group that are left out.
        read: makes examples and conditions of a table: ``(frame, where) -> Split``.
        example: some examples.
        storage: "memory" keeps all that was read, "disk" two windows, "auto" all that takes at most
            a quarter of the memory.
    """

    def __init__(
        self,
        rows: ParquetRows,
        held: Sequence[NDArray],
        read: Callable[[pd.DataFrame, str], Split],
        example: Split,
        storage: str,
    ) -> None:
        self._rows, self._held, self._read = rows, held, read
        self._sizes = rows.sizes - np.array(list(map(len, held)))
        self._starts = np.concatenate(([0], np.cumsum(self._sizes)))
        self._row = 8 * (example.x.shape[1] + 1)
        self._in_memory = storage == "memory"
        if storage == "auto":
            self._in_memory = self._row * len(self) <= (physical_memory() or 0) // 4
        self._per_window = max(1, WINDOW // (self._row * max(1, int(self._sizes.max()))))
        self._group = lru_cache(None if self._in_memory else 2 * self._per_window)(self._load)
        self._epoch = lru_cache(2)(self._ordered)
        self._window = lru_cache(2)(self._shuffled)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def where(self) -> str:
        """Description of where the rows are."""
        read = f"{len(self):,} training rows are read from {len(self._sizes):,} row groups"
        if self._in_memory:
            size = f"{len(self) * self._row / 2**20:,.0f} MiB"
            return (
                f"{read} and stay in memory ({size}): --data-storage disk keeps the last ones only"
            )
        kept = f"{2 * WINDOW / 2**20:,.0f} MiB"
        return f"{read}, of which {kept} stay in memory: --data-storage memory keeps all"

    def gather(self, index: Tensor) -> Split:
        """Return training rows by their indices over all groups, int64 ``(M,)``."""
        rows = index.numpy()
        group = np.searchsorted(self._starts, rows, side="right") - 1
        parts = [
            self._group(i).select(torch.from_numpy(rows[group == i] - self._starts[i]))
            for i in np.unique(group).tolist() or [0]
        ]
        back = torch.from_numpy(np.argsort(np.argsort(group, kind="stable")))
        condition = [part.condition for part in parts if part.condition is not None]
        return Split(
            torch.cat([part.x for part in parts])[back],
            torch.cat(condition)[back] if condition else None,
        )

    def _load(self, group: int) -> Split:
        """Return the training rows of a group."""
        split = self._read(to_frame(self._rows.read(group)), self._rows.where(group))
        return split.select(torch.from_numpy(np.delete(np.arange(len(split)), self._held[group])))

    def order(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Return the rows at positions ``start`` to ``stop`` of an epoch."""
        _, bounds = self._epoch(seed, epoch)
        windows = np.flatnonzero((bounds[:-1] < stop) & (bounds[1:] > start))
        rows = [torch.arange(0), *(self._window(seed, epoch, int(i)) for i in windows)]
        first = int(bounds[windows[0]]) if len(windows) else 0
        return torch.cat(rows)[start - first : stop - first]

    def _ordered(self, seed: int, epoch: int) -> tuple[NDArray, NDArray]:
        """Return the groups of an epoch in order, and where its windows begin and end."""
        shuffle = torch.Generator().manual_seed(seed_of(seed, Stream.ORDER, epoch))
        groups = torch.randperm(len(self._sizes), generator=shuffle).numpy()
        ends = np.cumsum(self._sizes[groups])
        return groups, np.array([0, *ends[self._per_window - 1 : -1 : self._per_window], ends[-1]])

    def _shuffled(self, seed: int, epoch: int, window: int) -> Tensor:
        """Return the rows of a window in their order."""
        groups = self._epoch(seed, epoch)[0][self._per_window * window :][: self._per_window]
        rows = [torch.arange(self._starts[i], self._starts[i + 1]) for i in groups]
        shuffle = torch.Generator().manual_seed(seed_of(seed, Stream.ORDER, epoch, window))
        return torch.cat(rows)[torch.randperm(sum(map(len, rows)), generator=shuffle)]


class StoredRows:
    """Training rows in row groups, or their conditions, with the needed part of Tensor's interface.

    Indexing reads the groups that have the rows.

    Args:
        reader: reads them.
        field: "x" or "condition".
        example: some rows, which determine shape and type.
        key: name of the content.
        top: largest label, for labels.
    """

    device = torch.device("cpu")

    def __init__(
        self, reader: _Reader, field: str, example: Tensor, key: str, top: int | None = None
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
        """Description of where the rows are."""
        return self.reader.where

    def is_floating_point(self) -> bool:
        """Return whether these are floating-point numbers, rather than labels."""
        return self.dtype.is_floating_point

    def max(self) -> Tensor:
        """Return the largest label."""
        assert self._top is not None  # only called for labels
        return torch.tensor(self._top)

    def cached_fingerprint(self, others: Sequence[Tensor], compute: Callable[[], str]) -> str:
        """Return the fingerprint, which is that of the files and of the choice of the rows."""
        return self._key
