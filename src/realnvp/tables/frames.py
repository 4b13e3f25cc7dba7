"""DataFrames as a schema takes them: names that are text, and types of NumPy or pandas."""

from __future__ import annotations

import contextlib
from datetime import date, time
from decimal import Decimal
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from realnvp.data.parquet import to_frame

__all__ = ["as_pandas", "as_table"]


def as_pandas(table: Any) -> Any:
    """Return a table of polars or Arrow as a DataFrame of pandas; anything else as it is.

    >>> import pyarrow as pa
    >>> as_pandas(pa.table({"a": [1, 2]}))["a"].tolist()
    [1, 2]
    """
    package = type(table).__module__.partition(".")[0]
    if package == "polars":
        table = (table.collect() if hasattr(table, "collect") else table).to_arrow()
    elif package != "pyarrow":
        return table
    import pyarrow as pa

    return to_frame(pa.table(table) if isinstance(table, pa.RecordBatch) else table)


def as_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with names and types as a schema has them, and as in files.

    Names are text. Dates and decimal numbers that are Python objects or of Arrow become those of
    pandas, periods their first day, times and intervals text.

    Raises:
        ValueError: if two columns have the same name.

    >>> as_table(pd.DataFrame({3: [0.5]})).columns.tolist()
    ['3']
    >>> as_table(pd.DataFrame({"when": [date(2020, 1, 31), None]})).dtypes.tolist()
    [dtype('<M8[s]')]
    """
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two columns are called {twice!r}: rename one of them")
    frame = frame.set_axis(names, axis=1)
    return frame.assign(
        **{
            name: _plain(frame[name])
            for name, kind in zip(names, frame.dtypes, strict=True)
            if kind in (np.float16, np.longdouble, object) or not isinstance(kind, np.dtype)
        }
    )


def _plain(values: pd.Series) -> pd.Series:
    """Return a column in a type of NumPy or pandas, the same one if it has one already."""
    kind = values.dtype
    if isinstance(kind, pd.ArrowDtype):
        import pyarrow as pa

        if pa.types.is_temporal(kind.pyarrow_dtype) or pa.types.is_decimal(kind.pyarrow_dtype):
            held = pa.table({"": values.array.__arrow_array__()})
            return to_frame(held)[""].set_axis(values.index)
        return values.astype("category") if pa.types.is_dictionary(kind.pyarrow_dtype) else values
    if isinstance(kind, pd.PeriodDtype):
        return values.dt.to_timestamp()
    if isinstance(kind, pd.IntervalDtype):
        return values.astype(str).where(values.notna())
    if isinstance(kind, pd.CategoricalDtype):
        odd = not all(isinstance(v, str | Number | np.bool_) for v in kind.categories)
        return values.cat.rename_categories(list(map(str, kind.categories))) if odd else values
    if kind in (np.float16, np.longdouble):
        return values.astype(np.float32 if kind == np.float16 else np.float64)
    if not pd.api.types.is_object_dtype(kind):
        return values
    there = values.dropna()
    if len(there) and all(isinstance(v, date) for v in there):
        with contextlib.suppress(ValueError):  # several time zones
            return pd.to_datetime(values)
    if len(there) and all(isinstance(v, time) for v in there):
        return values.map(str, na_action="ignore")
    decimals = any(isinstance(v, Decimal) for v in there)
    numbers = decimals and all(isinstance(v, Number) for v in there)
    return pd.to_numeric(values) if numbers else values
