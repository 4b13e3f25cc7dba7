"""Parquet files as one table, which is read row group by row group with ``pyarrow.dataset``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from realnvp.columns.text import ALWAYS, MOST_INFLATED
from realnvp.utils.distributed import rank
from realnvp.utils.files import readable
from realnvp.utils.progress import Bar
from realnvp.utils.rng import Stream, seed_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def parquet_files(path: Path) -> list[Path]:
    """Return the Parquet files at a path or in a folder, in the order of their names.

    >>> parquet_files(Path("table.csv"))
    []
    """
    if path.is_dir():
        return sorted(file for file in path.glob("*.parquet") if file.is_file())
    return [path] if path.suffix.lower() == ".parquet" and path.is_file() else []


class ParquetRows:
    """The rows of Parquet files with the same columns.

    Args:
        files: the files, in order.

    Raises:
        ValueError: if a file is damaged, the files differ, or there are no rows.

    Attributes:
        sizes: rows of each row group, int64 ``(G,)``.
        columns: names of the columns.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        import pyarrow as pa
        from pyarrow import dataset, parquet

        schemas = []
        for path in files:
            with readable(path):
                schemas.append(parquet.read_schema(path))
        self.columns: list[str] = schemas[0].names
        twice = [name for name in self.columns if self.columns.count(name) > 1]
        if twice:
            raise ValueError(f"{files[0]} has two columns called {twice[0]!r}: rename one")
        odd = [name for each in schemas for name in set(self.columns) ^ set(each.names)]
        if odd:
            raise ValueError(
                f"the Parquet files of one table differ in their columns: {min(odd)!r}"
            )
        try:
            self._schema = pa.unify_schemas(schemas, promote_options="permissive")
        except pa.ArrowException as error:
            raise ValueError(
                f"the Parquet files of one table differ in their types: {error}"
            ) from error
        paths = list(map(str, files))
        whole = dataset.dataset(paths, schema=self._schema, format="parquet")
        self._groups = []
        for path, file in zip(files, whole.get_fragments(), strict=True):
            with readable(path):
                self._groups += file.split_by_row_group()
        self.sizes = np.array([g.row_groups[0].num_rows for g in self._groups], dtype=np.int64)
        if not len(self):
            raise ValueError(f"{files[0]} has no rows")

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def _read(self, group: Any) -> pa.Table:
        with readable(group.path):
            return group.to_table(schema=self._schema)

    def whole(self) -> pd.DataFrame:
        """Return all rows.

        Raises:
            ValueError: if the files announce more of them than they can plausibly hold.
        """
        import pyarrow as pa

        paths = {group.path for group in self._groups}
        size = sum(Path(path).stat().st_size for path in paths)
        if len(self) * len(self.columns) > max(ALWAYS, MOST_INFLATED * size):
            raise ValueError(
                f"cannot read {min(paths)}: its {size:,} bytes announce {len(self):,} rows of "
                f"{len(self.columns)} columns: save fewer rows, or an .npy file"
            )
        return to_frame(pa.concat_tables(list(map(self._read, self._groups))))

    def sample(self, count: int, seed: int) -> pd.DataFrame:
        """Return random rows in their order, from each row group in proportion to its size."""
        import pyarrow as pa

        ends = np.cumsum(self.sizes)
        counts = np.diff(ends * count // len(self), prepend=0)
        generator = torch.Generator().manual_seed(seed_of(seed, Stream.SAMPLE))
        tables = []
        with Bar("drawing a sample", main=rank() == 0) as bar:
            for i, group in enumerate(self._groups):
                chosen = torch.randperm(int(self.sizes[i]), generator=generator)[: counts[i]]
                tables.append(self._read(group).take(pa.array(chosen.sort().values.numpy())))
                bar.update(ends[i] / ends[-1], f"{ends[i]:,} of {ends[-1]:,} rows")
        return to_frame(pa.concat_tables(tables))

    def blocks(self, count: int) -> Iterator[pd.DataFrame]:
        """Yield all rows in order, ``count`` at a time, with few others in memory."""
        import pyarrow as pa

        waiting: list[pa.Table] = []
        for group in self._groups:
            with readable(group.path):
                for batch in group.to_batches(schema=self._schema, batch_size=count):
                    table = pa.concat_tables([*waiting, pa.Table.from_batches([batch])])
                    while len(table) >= count:
                        yield to_frame(table.slice(0, count))
                        table = table.slice(count)
                    waiting = [table]
        if len(waiting[0]):
            yield to_frame(waiting[0])


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as a data frame, with types of Arrow's own as those of pandas.

    As Python objects, dates and decimal numbers would not be recognized.
    """
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_date(kind):
            kind = pa.timestamp("s" if pa.types.is_date32(kind) else "ms")
        elif pa.types.is_decimal(kind):
            kind = pa.float64()
        elif pa.types.is_time(kind):
            kind = pa.string()
        if kind != field.type:
            table = table.set_column(i, field.with_type(kind), table.column(i).cast(kind))
    frame = table.to_pandas().reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    return frame
