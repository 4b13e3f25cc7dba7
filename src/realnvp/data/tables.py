"""Vectors and tables: ``(N, D)`` arrays as float32, and CSV, TSV and Parquet files.

The columns of a file may be of every kind: :mod:`realnvp.columns` makes float64 coordinates of
them. An array needs numbers in at least two columns (a coupling transforms one part given the
rest), which float32 can distinguish; everything else is refused with the column's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from realnvp.columns.impossible import Tolerate
from realnvp.columns.text import opened, read_text
from realnvp.data.dataset import Split
from realnvp.data.labels import parse_labels
from realnvp.data.parquet import ParquetRows, parquet_files, to_frame
from realnvp.data.parts import Parts
from realnvp.utils.errors import some_of
from realnvp.utils.files import csv_text, readable, replacing
from realnvp.utils.progress import warn

if TYPE_CHECKING:
    import pandas as pd

    from realnvp.columns.schema import TableSchema
    from realnvp.config import DataConfig

UNREAD = {
    **dict.fromkeys(("xls", "xlsm", "ods"), "a spreadsheet of another kind than .xlsx"),
    "orc": "an ORC file",
    **dict.fromkeys(("npy", "npz", "h5", "hdf5", "mat"), "a file of arrays"),
    **dict.fromkeys(("pt", "pth", "pkl", "pickle"), "a file that can run code when it is loaded"),
    **dict.fromkeys(("sav", "dta", "sas7bdat"), "a file of a statistics program"),
}
"""What files of tables are that are not read, by their endings."""


@dataclass(frozen=True)
class KnownColumns:
    """The columns that a model knows from its training data; empty for new data.

    Args:
        categories: names of the condition's classes that are numbered already, in order.
        schema: columns of a table, which are then converted as for the model; others are ignored.
        condition_schema: the same for several columns that are conditioned on.
        tolerate: called with the values that are impossible under the schema, if there are any;
            their rows are then marked (``TableSchema.marked_rows``). None raises.
    """

    categories: Sequence[str] | None = None
    schema: TableSchema | None = None
    condition_schema: TableSchema | None = None
    tolerate: Tolerate | None = None


NEW_DATA = KnownColumns()


def vector_tensor(values: np.ndarray, where: str, least: int = 2) -> torch.Tensor:
    """Turn rows of numbers into a float32 tensor ``(N, D)``.

    Args:
        values: ``(N, D)``, floating-point numbers or integers.
        where: name of the values, for messages.
        least: smallest number of columns.

    Raises:
        ValueError: for NaN and infinity, for fewer columns, and for columns that float32
            cannot hold.

    >>> vector_tensor(np.array([[1, 2], [3, 4]]), "a")
    tensor([[1., 2.],
            [3., 4.]])
    """
    if len(values) == 0:
        raise ValueError(f"{where} is empty: it has no rows")
    if values.shape[1] < least:
        raise ValueError(
            f"{where} has {values.shape[1]} column: a coupling transforms one part of the "
            "columns given the rest, so a flow needs at least two"
        )
    if values.dtype == np.uint8:
        raise ValueError(
            f"{where} is a uint8 array of shape {values.shape}: save images as (N, H, W) or "
            "(N, H, W, C), and vectors as float32"
        )
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{where} holds {values.dtype} values: save numbers, as float32")
    x = np.empty(values.shape, np.float32) if values.dtype != np.float32 else values
    for index in range(values.shape[1]):  # by column, to avoid copies of the whole array
        column = values[:, index]
        if x is not values:
            with np.errstate(over="ignore"):  # what overflows is reported below
                x[:, index] = column
        _check_column(column, x[:, index], f"column {index} of {where}")
    return torch.from_numpy(np.require(x, requirements=["C", "W"]))


def _check_column(values: np.ndarray, x: np.ndarray, where: str) -> None:
    """Raise ValueError for a column of numbers that are not finite, or indistinct in float32."""
    finite = np.isfinite(x)
    if not finite.all():
        row = int(np.argmin(finite))
        value = values[row]
        what = "a missing value (NaN)" if np.isnan(value) else f"{value}"
        advice = " or is too large for float32" if np.isfinite(value) else ""
        raise ValueError(
            f"{where} holds {what}{advice}, first in row {row} (counting from 0): remove or "
            "fill in such rows"
        )
    spread = values.std(dtype=np.float64)
    lost = np.abs(x - values.astype(np.float64)).max()
    if spread > 0 and lost > 0.01 * spread:
        raise ValueError(
            f"{where} varies by {spread:.3g} around {values.mean(dtype=np.float64):.6g}, finer "
            "than float32 can represent: subtract its mean first"
        )


def read_table(path: Path, config: DataConfig, known: KnownColumns) -> Parts:
    """Read a CSV, TSV or Parquet file, or a folder of these, whose columns are of any kind.

    The first line of a text file names the columns, unless all of it is numbers: then the columns
    are called x0, x1, ... (a first line 0, 1, 2, ... names columns when the numbers below it have
    a decimal point). The separator is the comma, semicolon, tab or bar, whichever divides most
    lines as the first. A cell that is empty, or holds NA, N/A, NaN, null, None or ?, is a gap.

    The columns that the density is conditioned on are taken out of ``x``. A single column of
    numbers becomes the condition as it is, float64 ``(N, 1)``. A column of text, and any column
    called "label", becomes classes, int64 ``(N,)``; so does any, where the classes are known.
    Several columns become float64 ``(N, K)`` by ``TableSchema.as_condition``.

    Args:
        path: the file.
        config: settings: ``condition``, the column to condition on, or several with commas;
            ``columns``, kinds of columns by name, instead of the detected ones; ``integers``,
            "none" for continuous ones, unless their kind is declared; ``keep_range``.
        known: the columns that a model knows.

    Raises:
        ValueError: if the file is damaged, or a column is missing or cannot be modeled.
    """
    return table_parts(read_frame(path), str(path), config, known)


def table_parts(frame: pd.DataFrame, path: str, config: DataConfig, known: KnownColumns) -> Parts:
    """Return the parts of a table; see ``read_table``. ``path`` names it in messages."""
    from realnvp.columns.schema import TableSchema  # with pandas, which images do not need

    condition, kinds = config.condition, config.columns or {}
    schema, condition_schema = known.schema, known.condition_schema
    context = condition_names(condition, list(frame.columns))
    modeled = frame.drop(columns=context, errors="ignore")
    if schema is None:
        whole = [] if config.integers == "auto" else modeled.select_dtypes("integer").columns
        declared = {**dict.fromkeys(whole, "continuous"), **kinds}
        declared = {name: kind for name, kind in declared.items() if name not in context}
        schema = TableSchema.of(modeled, declared, where=path, keep_range=config.keep_range)
    if known.tolerate is None:
        rows = schema.rows(modeled, where=path)
    else:
        rows, impossible = schema.marked_rows(modeled, where=path)
        if impossible:
            known.tolerate(impossible)
    x = torch.from_numpy(rows)
    if not schema.features:
        raise ValueError(f"{path} has no column that varies, so there is nothing to model")
    if known.schema is None:
        _warn_of_columns(schema, modeled, path)
    if condition is None:
        return Parts(lambda: Split(x), schema=schema)
    if len(context) > 1 and condition_schema is None:
        declared = {name: kind for name, kind in kinds.items() if name in context}
        condition_schema = TableSchema.of(frame[context], declared, where=path)
        _warn_of_columns(condition_schema, frame[context], path)
    values, categories = read_condition(frame, context, path, known.categories, condition_schema)
    labels = None if values.is_floating_point() else values
    return Parts(
        lambda: Split(x, values, labels), categories=categories, schema=schema,
        condition_schema=condition_schema,
    )  # fmt: skip


def condition_names(condition: str | None, columns: Sequence[str]) -> list[str]:
    """Return the columns that a density is conditioned on: one of them, or several with commas.

    >>> condition_names("a, b", ["a", "b", "c"]), condition_names("a, b", ["a, b", "c"])
    (['a', 'b'], ['a, b'])
    """
    if condition is None or condition in columns:
        return [] if condition is None else [condition]
    return [name.strip() for name in condition.split(",")]


def _warn_of_columns(schema: TableSchema, frame: pd.DataFrame, path: str) -> None:
    """Warn about columns that are left out, and about values that may be meant otherwise."""
    for doubt in schema.doubts(frame):
        warn(f"{path}: {doubt}")
    left_out = [f"{name!r} ({why})" for name, why in schema.left_out.items()]
    if left_out:
        warn(f"left out of {path}, and of samples: {some_of(left_out)}")


def read_condition(
    frame: pd.DataFrame,
    names: Sequence[str],
    where: str,
    categories: Sequence[str] | None = None,
    schema: TableSchema | None = None,
) -> tuple[torch.Tensor, tuple[str, ...] | None]:
    """Return the condition of a table's rows, as :func:`read_table` makes it of columns.

    Args:
        frame: the table.
        names: columns that the density is conditioned on.
        where: name of the table, for messages.
        categories: names of the classes that are numbered already, in order.
        schema: schema of several columns.

    Returns:
        float64 ``(N, K)``, or int64 labels ``(N,)``; and the names of the classes.

    Raises:
        ValueError: if a column is missing, has a gap, or cannot be a condition.
    """
    for name in names:
        if name not in frame.columns:
            raise ValueError(
                f"{where} has no column {name!r}; its columns are {some_of(list(frame.columns))}"
            )
    if schema is not None:
        rows = schema.rows(frame[list(names)], where=where)
        return torch.from_numpy(schema.as_condition(rows)), None
    (name,) = names
    column = frame[name]
    where = f"column {name!r} of {where}"
    if column.isna().any():
        row = int(np.argmax(column.isna().to_numpy()))
        raise ValueError(f"{where} has a missing value, first in row {row} (counting from 0)")
    if name == "label" or categories is not None or not _is_numeric(column):
        values = column.to_numpy() if _is_numeric(column) else column.to_numpy(dtype=object)
        return parse_labels(values, where, categories)
    number = torch.tensor(column.to_numpy(dtype=np.float64, na_value=np.nan))[:, None]
    if not number.isfinite().all():
        raise ValueError(f"{where} holds values that are not finite")
    return number, None


def read_frame(path: Path) -> pd.DataFrame:
    """Read a table: a CSV, TSV, Parquet, Feather, JSON or .xlsx file, or a folder of Parquet files.

    The names of its columns are text. A JSON file is a list of records, or has one on each line; a
    spreadsheet is its first sheet.

    Raises:
        ValueError: if the file is damaged or empty, two columns have the same name, or its ending
            is that of a format that is not read.
    """
    ending = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if ending in UNREAD and path.is_file():
        raise ValueError(
            f"{path} is {UNREAD[ending]}, which is not read: save it as CSV, TSV or Parquet"
        )
    if ending in _READERS and path.is_file():
        frame = _READERS[ending](path)
    else:
        files = parquet_files(path)
        frame = ParquetRows(files).whole() if files else read_text(path)
    if len(frame) == 0:
        raise ValueError(f"{path} has no rows below its header")
    frame.columns = frame.columns.astype(str)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ValueError(f"{path} has two columns called {min(twice)!r}: rename one")
    return frame


def _read_json(path: Path) -> pd.DataFrame:
    """Read a list of records, or records on lines."""
    import pandas as pd

    with opened(path) as file:
        try:
            text = file.read().decode("utf-8-sig")
            records = json.loads(text) if text.lstrip()[:1] == "[" else _lines(text)
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise ValueError(f"{path} is not a list of records: item {row} is {record!r:.50}")
        for name, value in record.items():
            if isinstance(value, dict | list):
                raise ValueError(
                    f"column {name!r} of {path} holds {value!r:.50}, first in row {row} (counting "
                    "from 0): give it columns of its own"
                )
    return pd.DataFrame(records).infer_objects()


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _read_feather(path: Path) -> pd.DataFrame:
    from pyarrow import feather

    with readable(path):
        return to_frame(feather.read_table(path))


def _read_sheet(path: Path) -> pd.DataFrame:
    import pandas as pd

    import_module("openpyxl")  # pandas does not say which package is missing
    with readable(path):
        return pd.read_excel(path)


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    **dict.fromkeys(("json", "jsonl", "ndjson"), _read_json),
    **dict.fromkeys(("feather", "arrow"), _read_feather),
    "xlsx": _read_sheet,
}

ENDINGS = (".csv", ".tsv", *(f".{ending}" for ending in _READERS))
"""Endings of tables, without that of Parquet files."""


def write_frame(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    """Write a table as :func:`write_frames` does."""
    write_frames([frame], path, **options)


def write_frames(
    frames: Iterable[pd.DataFrame], path: Path, *, escape: bool = False, digits: int | None = None
) -> None:
    """Write a table as CSV or Parquet, by the ending of the file, atomically.

    Args:
        frames: the table, or its parts in their order, all with the columns of the first.
        path: the file.
        escape: as in :func:`realnvp.utils.files.csv_text`.
        digits: significant digits of numbers in CSV; as many as they have by default.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        if path.suffix != ".parquet":
            shown = None if digits is None else f"%.{digits}g"
            for i, frame in enumerate(frames):
                text = csv_text(frame, escape=escape, float_format=shown, header=i == 0)
                file.write(text.encode())
            return
        import pyarrow as pa
        from pyarrow import parquet

        tables = (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)
        first = next(tables)
        with parquet.ParquetWriter(file, first.schema) as writer:
            for table in chain([first], tables):
                writer.write_table(table)


def _is_numeric(column: pd.Series) -> bool:
    from pandas.api import types

    return types.is_any_real_numeric_dtype(column)
