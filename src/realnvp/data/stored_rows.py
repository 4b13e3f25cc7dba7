"""Training rows that are read from row groups as they are needed.

Row groups are read in random order, as many at a time as fit into a window, and the rows of a
window are shuffled as well. So the batch of a step is a function of the seed and the step, wherever
the rows are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.data.dataset import Split
from realnvp.data.parts import Parts
from realnvp.data.row_groups import (
    Division,
    RowGroup,
    divide,
    iter_row_groups,
    row_groups,
    to_frame,
)
from realnvp.data.tables import KnownColumns, parquet_files, table_parts
from realnvp.utils.model_folder import physical_memory
from realnvp.utils.rng import Stream, seed_of

if TYPE_CHECKING:
    import pandas as pd

    from realnvp.config import DataConfig

__all__ = ["GroupReader", "StoredRows", "read_row_groups"]

WINDOW = 1 << 28
"""Bytes of rows that are shuffled together."""


class GroupReader:
    """Read training rows of row groups, and cache those that were read last.

    Threads may share it.

    Args:
        groups: the row groups.
        division: which of their rows are training rows.
        read: makes examples and conditions of a table: ``(frame, where) -> Split``.
        columns: number of values of a row.
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
        """Description of where the rows are."""
        read = f"{len(self):,} training rows are read from {len(self._groups):,} row groups"
        if math.isinf(self._most):
            size = f"{len(self) * self._row / 2**20:,.0f} MiB"
            return (
                f"{read} and stay in memory ({size}): --data-storage disk keeps the last ones only"
            )
        kept = f"{self._most / 2**20:,.0f} MiB"
        return f"{read}, of which {kept} stay in memory: --data-storage memory keeps all"

    def gather(self, index: Tensor) -> Split:
        """Return training rows by their indices over all groups, int64 ``(M,)``."""
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
        """Return the training rows of a group, and drop those that were read long ago."""
        if i not in self._held:
            group = self._groups[i]
            (table,) = iter_row_groups([group])
            split = self._read(to_frame(table), f"row group {group.index} of {group.path}")
            self._held[i] = split.select(torch.from_numpy(self._division.of(i)["train"]))
        self._held.move_to_end(i)
        while len(self._held) > 1 and self._row * sum(map(len, self._held.values())) > self._most:
            self._held.popitem(last=False)
        return self._held[i]

    def order(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Return the rows at positions ``start`` to ``stop`` of an epoch."""
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
        """Return the groups of an epoch in order, their ends, and the bounds of the windows."""
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
    """Add an entry that is used again soon, and drop all but the last one."""
    while len(known) > 1:
        del known[next(iter(known))]
    known[key] = value


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


def read_row_groups(config: DataConfig, known: KnownColumns) -> Parts:
    """Return the parts of a table that is read by row groups; see ``reads_row_groups``.

    Args:
        config: source and settings.
        known: the columns that a model knows.

    Raises:
        ValueError: if a file is damaged, files differ, or a column cannot be modeled.
    """
    from realnvp.data.scan import scan  # with pandas, which images do not need

    path = Path(config.source).expanduser()
    groups = row_groups(parquet_files(path))
    division = divide(config, np.array([group.rows for group in groups]))
    look = known.schema is None and known.columns is None
    frames, digest = scan(groups, division, look, f"reading {path.name}")
    sample: Split | None = None
    top = None
    if look:
        import pandas as pd

        size, count = len(frames["sample"]), int(division.train.sum())
        shown = pd.concat([frames["sample"], frames["witnesses"]], ignore_index=True)
        where = config.source if size == count else f"a sample of {len(shown):,} rows of {path}"
        whole = table_parts(shown, where, config, known)
        known = known.with_schema(whole)
        split = whole.train()
        top = None if split.labels is None else int(split.labels.max())
        sample = split.select(torch.arange(size))
    names = tuple(known.columns or ())
    if known.schema is not None:
        names = tuple(coordinate.name for coordinate in known.schema.features)

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
            return cast("Tensor", StoredRows(reader, name, example, key, top))

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
