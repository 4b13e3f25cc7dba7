"""Samples as files, for the command line and the page in the browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from realnvp.data.tables import write_frame
from realnvp.pretrained import condition_names, table_of
from realnvp.utils.files import write_atomically
from realnvp.utils.tiles import image_grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from realnvp.columns.schema import TableSchema
    from realnvp.flow import Flow

__all__ = [
    "array_names",
    "condition_values",
    "picture_of_rows",
    "table_of_rows",
    "with_condition",
    "write_samples",
]


def write_samples(
    flow: Flow, samples: Tensor, condition: Tensor | None, path: Path, *, escape: bool = False
) -> None:
    """Write samples in the format of a file's ending.

    Args:
        flow: model that they are drawn from.
        samples: ``(N, *shape)``.
        condition: their condition, which tables and .npz hold, too.
        path: file to write: a .png picture; a .npz (see :func:`array_names`) or .npy array; of
            vectors, a .csv or .parquet table.
        escape: as in :func:`realnvp.data.tables.write_frame`.
    """
    if path.suffix == ".png":
        _write_picture(flow, samples, path)
        return
    array = samples.cpu().numpy()
    if path.suffix in (".csv", ".parquet"):
        import pandas as pd

        table = pd.DataFrame(array, columns=flow.column_names)
        write_frame(with_condition(flow, table, condition), path, escape=escape)
        return
    given = None if condition is None else condition_values(flow, condition)
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        named = zip(array_names(flow), (array, given), strict=True)
        arrays = {name: each for name, each in named if each is not None}
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    else:
        np.save(buffer, array)
    write_atomically(path, buffer.getvalue())


def array_names(flow: Flow) -> tuple[str, str]:
    """Return the names in .npz files of a model's examples, and of their condition."""
    examples = "x" if flow.levels is None else "images"
    return examples, "condition" if flow.classes is None else "labels"


def with_condition(flow: Flow, table: pd.DataFrame, condition: Tensor | None) -> pd.DataFrame:
    """Return a table of samples with their condition in the last columns.

    Args:
        flow: model that they are drawn from.
        table: the samples.
        condition: their condition; encoded columns of a table are left out.
    """
    if condition is None or table_of(flow, "condition_table") is not None:
        return table
    given = condition_values(flow, condition)
    columns = given if given.ndim == 2 else given[:, None]
    name = next(iter(condition_names(flow)), "condition")
    names = [name] if columns.shape[1] == 1 else [f"{name}{i + 1}" for i in range(columns.shape[1])]
    return table.assign(**dict(zip(names, columns.T, strict=True)))


def _write_picture(flow: Flow, samples: Tensor, path: Path) -> None:
    if flow.levels is not None:
        image_grid(samples, path, levels=flow.levels)
        return
    from realnvp import plots  # half a second, which images and files of numbers do not need

    figure = picture_of_rows(samples, columns=flow.column_names, schema=table_of(flow))
    plots.save_figure(figure, path)


def picture_of_rows(
    samples: Tensor,
    data: Tensor | None = None,
    *,
    columns: Sequence[str] | None = None,
    schema: TableSchema | None = None,
) -> Figure:
    """Plot vectors drawn from a model, and data next to them if they are given.

    Args:
        samples: ``(M, D)``.
        data: ``(N, D)``.
        columns: names of the numbers; x1, x2, ... by default.
        schema: columns of the table that they are coordinates of, whose own values are drawn.
    """
    from realnvp import plots

    names = columns or [f"x{i + 1}" for i in range(samples.shape[1])]
    if schema is None and samples.shape[1] > 1:
        return plots.scatter(samples, data, names)
    frames = [table_of_rows(x, names, schema) for x in (samples, data) if x is not None]
    return plots.table_rows(*frames)


def table_of_rows(x: Tensor, columns: Sequence[str], schema: TableSchema | None) -> pd.DataFrame:
    """Return vectors as a table, with numbers and dates also where the table has them as text.

    Args:
        x: ``(N, D)``; of a table, rows that overflow are left out.
        columns: names of the numbers.
        schema: columns of the table that they are coordinates of.
    """
    import pandas as pd

    rows = x.detach().cpu().double().numpy()
    if schema is None:
        return pd.DataFrame(rows, columns=list(columns))
    good = np.isfinite(rows[:, schema.always_present]).all(1) & ~np.isinf(rows).any(1)
    return schema.parsed(schema.decode(rows[good]))


def condition_values(flow: Flow, condition: Tensor) -> NDArray:
    """Return the condition of each sample: the name or number of its class, or numbers.

    >>> import torch
    >>> from realnvp import load
    >>> condition_values(load("mnist"), torch.tensor([3, 1])).tolist()
    [3, 1]
    """
    values: NDArray = condition.cpu().numpy()
    names = flow.class_names
    return np.array(names)[values] if flow.classes is not None and names else values
