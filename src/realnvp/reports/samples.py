"""Samples as files, for the command line and the page in the browser."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from realnvp.pretrained import condition_names
from realnvp.utils.files import replacing, write_atomically

if TYPE_CHECKING:
    from realnvp.flow import Flow

__all__ = ["condition_values", "write_samples"]


def write_samples(flow: Flow, samples: Tensor, condition: Tensor | None, path: Path) -> None:
    """Write samples in the format of a file's ending.

    Args:
        flow: model that they are drawn from.
        samples: ``(N, *shape)``.
        condition: their condition, which .npz and .csv hold, too.
        path: file to write: a .png picture; a .npz or .npy array; of vectors, a .csv table.
    """
    if path.suffix == ".png":
        _write_picture(flow, samples, path)
        return
    buffer = io.BytesIO()
    array = samples.cpu().numpy()
    given = None if condition is None else condition_values(flow, condition)
    if path.suffix == ".npz":
        arrays = {"images" if flow.levels is not None else "x": array}
        if given is not None:
            arrays["labels" if flow.classes is not None else "condition"] = given
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    elif path.suffix == ".npy":
        np.save(buffer, array)
    else:
        import pandas as pd

        table = pd.DataFrame(array, columns=flow.column_names)
        if given is not None:
            columns = given if given.ndim == 2 else given[:, None]
            name = next(iter(condition_names(flow)), "condition")
            for i in range(columns.shape[1]):
                table[name if columns.shape[1] == 1 else f"{name}{i + 1}"] = columns[:, i]
        table.to_csv(buffer, index=False, float_format="%.9g")
    write_atomically(path, buffer.getvalue())


def _write_picture(flow: Flow, samples: Tensor, path: Path) -> None:
    from realnvp import plots

    with replacing(path) as temporary:
        if flow.levels is not None:
            plots.image_grid(samples, temporary, levels=flow.levels)
        else:
            plots.save_figure(plots.scatter(samples, columns=flow.column_names), temporary)


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
