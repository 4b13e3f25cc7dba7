"""Columns of numbers that grow block by block, and are written as a table in constant memory."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from realnvp.utils.files import csv_text, parquet_module, replacing

__all__ = ["SUFFIXES", "Spool"]

SUFFIXES = (".csv", ".parquet", ".npz")

BLOCK = 65_536
"""Rows per block of output."""


class Spool:
    """Columns of float64 in a file.

    Args:
        names: names of the columns.
        file: an empty file.

    >>> with Spool.temporary(["a", "b"]) as spool:
    ...     spool.append({"a": np.array([1.0, 2.0, -np.inf]), "b": np.ones(3)})
    ...     len(spool), spool.column("a", most=2), spool.mean("a")
    (3, array([  1., -inf]), (1.5, 2))
    """

    def __init__(self, names: Sequence[str], file: IO[bytes]) -> None:
        self.names, self._file, self._rows = list(names), file, 0
        self._sums, self._counts = np.zeros(len(names)), np.zeros(len(names), np.int64)

    @classmethod
    @contextlib.contextmanager
    def temporary(cls, names: Sequence[str]) -> Iterator[Spool]:
        """Use a temporary file, which is removed at the end of the context."""
        with tempfile.TemporaryFile() as file:
            yield cls(names, file)

    def __len__(self) -> int:
        return self._rows

    def append(self, columns: Mapping[str, NDArray]) -> None:
        """Add rows at the end."""
        rows = np.column_stack([columns[name] for name in self.names]).astype(np.float64)
        self._file.seek(0, io.SEEK_END)
        self._file.write(rows.tobytes())
        self._rows += len(rows)
        finite = np.isfinite(rows)
        self._sums += np.where(finite, rows, 0.0).sum(0)
        self._counts += finite.sum(0)

    def mean(self, name: str) -> tuple[float, int]:
        """Return the mean of a column's finite values, NaN for none, and their number."""
        i = self.names.index(name)
        count = int(self._counts[i])
        return float(self._sums[i]) / count if count else np.nan, count

    def _blocks(self, size: int) -> Iterator[tuple[slice, NDArray]]:
        """Yield all rows in blocks, and where they are."""
        row = 8 * len(self.names)
        for start in range(0, self._rows, size):
            stop = min(start + size, self._rows)
            self._file.seek(row * start)
            content = self._file.read(row * (stop - start))
            yield slice(start, stop), np.frombuffer(content).reshape(-1, len(self.names))

    def column(self, name: str, most: int | None = None) -> NDArray:
        """Return one column; if it has more than ``most`` rows, only every second, third, ..."""
        every = 1 if most is None else max(1, -(-self._rows // most))
        i = self.names.index(name)
        # A copy, since a view would keep all columns of the block.
        parts = [rows[::every, i].copy() for _, rows in self._blocks(BLOCK * every)]
        return np.concatenate([np.empty(0), *parts])

    def write(
        self,
        path: Path,
        first: Mapping[str, Sequence[Any]],
        last: Mapping[str, Any],
        *,
        escape: bool = False,
    ) -> None:
        """Write a table as CSV, Parquet or NPZ, atomically.

        Args:
            path: file to write; its suffix is one of :data:`SUFFIXES`.
            first: further columns that come first.
            last: further columns that come last.
            escape: as in :func:`realnvp.utils.files.csv_text`.

        Raises:
            OSError: if the file cannot be written.
            ValueError: if Parquet is asked for, and pyarrow is not installed.
        """

        def blocks() -> Iterator[dict[str, Any]]:
            for place, rows in self._blocks(BLOCK):
                yield {
                    **{name: _text(values[place]) for name, values in first.items()},
                    **dict(zip(self.names, rows.T, strict=True)),
                    **{name: values[place] for name, values in last.items()},
                }

        with replacing(path) as temporary:
            if path.suffix == ".csv":
                _csv(temporary, blocks(), escape)
            elif path.suffix == ".parquet":
                _parquet(temporary, blocks())
            else:
                columns = {name: self.column(name) for name in self.names}
                others = {name: np.asarray(_text(values)) for name, values in first.items()}
                np.savez_compressed(temporary, **others, **columns, **last)  # type: ignore[arg-type]


def _text(values: Any) -> Any:
    """Return a column, with escapes for what is not text in names of files."""
    if not isinstance(values, list):
        return values
    return [
        value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for value in values
    ]


def _csv(path: Path, blocks: Iterator[dict[str, Any]], escape: bool) -> None:
    import pandas as pd

    with path.open("w", newline="", encoding="utf-8") as file:
        for i, block in enumerate(blocks):
            frame = pd.DataFrame(block)
            file.write(csv_text(frame, escape=escape, header=i == 0, float_format="%.9g"))


def _parquet(path: Path, blocks: Iterator[dict[str, Any]]) -> None:
    parquet = parquet_module("writing")
    import pyarrow as pa

    with contextlib.ExitStack() as opened:
        writer = None
        for block in blocks:
            table = pa.table(block)
            if writer is None:
                writer = opened.enter_context(parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)
