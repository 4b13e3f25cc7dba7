"""Columns of numbers that grow block by block, and are written as a table in constant memory."""

from __future__ import annotations

import io
import math
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realnvp.utils.files import csv_text, parquet_module, replacing

__all__ = ["SUFFIXES", "Spool"]

SUFFIXES = (".csv", ".parquet", ".npz")

BLOCK = 65_536
"""Rows per block of output."""

Extra = Callable[[int, int], dict[str, Any]]
"""Function from the first and the last row of a block to further columns, names first."""


class Spool:
    """Columns of float64 in a temporary file, which is removed at the end of the context.

    Args:
        names: names of the columns.

    >>> with Spool(["a", "b"]) as spool:
    ...     spool.append({"a": np.arange(3.0), "b": np.ones(3)})
    ...     len(spool), spool.block(1, 3)["a"]
    (3, array([1., 2.]))
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by __exit__
        self._rows = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._rows

    def append(self, columns: dict[str, NDArray]) -> None:
        """Add rows at the end."""
        rows = np.column_stack([columns[name] for name in self.names]).astype(np.float64)
        self._file.seek(0, io.SEEK_END)
        self._file.write(rows.tobytes())
        self._rows += len(rows)

    def block(self, start: int, stop: int) -> dict[str, NDArray]:
        """Return some rows, by column."""
        width = len(self.names)
        self._file.seek(8 * width * start)
        content = self._file.read(8 * width * (min(stop, self._rows) - start))
        rows = np.frombuffer(content, np.float64).reshape(-1, width)
        return dict(zip(self.names, rows.T, strict=True))

    def column(self, name: str, most: int | None = None) -> NDArray:
        """Return one column; if it has more than ``most`` rows, only every second, third, ... one.

        >>> with Spool(["a"]) as spool:
        ...     spool.append({"a": np.arange(5.0)})
        ...     spool.column("a", most=3)
        array([0., 2., 4.])
        """
        every = 1 if most is None else max(1, -(-self._rows // most))
        starts = range(0, self._rows, BLOCK * every)
        # A copy, since a view would keep all columns of the block.
        parts = [self.block(i, i + BLOCK * every)[name][::every].copy() for i in starts]
        return np.concatenate(parts) if parts else np.empty(0)

    def mean(self, name: str) -> tuple[float, int]:
        """Return the mean of a column's finite values, and their number, block by block.

        >>> with Spool(["a"]) as spool:
        ...     spool.append({"a": np.array([1.0, 2.0, -np.inf])})
        ...     spool.mean("a")
        (1.5, 2)
        """
        sums, count = [], 0
        for start in range(0, self._rows, BLOCK):
            values = self.block(start, start + BLOCK)[name]
            finite = values[np.isfinite(values)]
            sums.append(finite.sum())
            count += len(finite)
        return math.fsum(sums) / count if count else math.nan, count

    def write(self, path: Path, extra: Extra, *, escape: bool = False) -> None:
        """Write a table as CSV, Parquet or NPZ, atomically.

        Args:
            path: file to write; its suffix is one of :data:`SUFFIXES`.
            extra: function that returns further columns of a block; those named with a leading
                underscore come last, without it.
            escape: as in :func:`realnvp.utils.files.csv_text`.

        Raises:
            OSError: if the file cannot be written.
            ValueError: if Parquet is asked for, and pyarrow is not installed.
        """

        def blocks() -> Iterator[dict[str, Any]]:
            for start in range(0, self._rows, BLOCK):
                stop = min(start + BLOCK, self._rows)
                more = {name: _text(values) for name, values in extra(start, stop).items()}
                first = {k: v for k, v in more.items() if not k.startswith("_")}
                last = {k[1:]: v for k, v in more.items() if k.startswith("_")}
                yield {**first, **self.block(start, stop), **last}

        with replacing(path) as temporary:
            if path.suffix == ".csv":
                _csv(temporary, blocks, escape)
            else:
                {".parquet": _parquet, ".npz": _npz}[path.suffix](temporary, blocks)


def _text(values: Any) -> Any:
    """Return a column, with escapes for what is not text in names of files."""
    if not isinstance(values, list):
        return values
    return [
        value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for value in values
    ]


def _csv(path: Path, blocks: Callable[[], Iterator[dict[str, Any]]], escape: bool) -> None:
    import pandas as pd

    with path.open("w", newline="", encoding="utf-8") as file:
        for i, block in enumerate(blocks()):
            frame = pd.DataFrame(block)
            file.write(csv_text(frame, escape=escape, header=i == 0, float_format="%.9g"))


def _parquet(path: Path, blocks: Callable[[], Iterator[dict[str, Any]]]) -> None:
    parquet = parquet_module("writing")
    import pyarrow as pa

    writer = None
    for block in blocks():
        table = pa.table(block)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _npz(path: Path, blocks: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Write an array for each column, one after the other, with a pass for each."""
    kinds: dict[str, np.dtype] = {}
    rows = 0
    for block in blocks():
        for name, values in block.items():
            kind = np.asarray(values).dtype
            kinds[name] = np.promote_types(kinds.get(name, kind), kind)
        rows += len(next(iter(block.values())))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, kind in kinds.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                head = {"descr": kind.str, "fortran_order": False, "shape": (rows,)}
                np.lib.format.write_array_header_1_0(file, head)
                for block in blocks():
                    file.write(np.asarray(block[name], dtype=kind).tobytes())
