"""Columns of numbers that are linear functions of others, which have no density of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from realnvp.data.column_kinds import Column
from realnvp.data.column_values import numbers_of

__all__ = ["with_linear"]

DEPENDENT = 1e-7
"""Residual, in standard deviations, up to which a column is a linear function of others: smaller
ones cannot be distinguished from rounding in float32."""


def with_linear(columns: Sequence[Column], frame: pd.DataFrame) -> tuple[Column, ...]:
    """Return columns of a table, of which linear functions of others are marked as such.

    Only columns of numbers without gaps are checked. Discrete columns have a probability, which
    is finite whatever they depend on.
    """
    index = [
        i for i, c in enumerate(columns)
        if c.kind in ("continuous", "integer", "decimal") and not c.has_status
    ]  # fmt: skip
    real = [i for i in index if not columns[i].step]
    if not real or len(frame) < len(index) + 2:  # with so few rows, every column is one
        return tuple(columns)
    X = np.column_stack([
        numbers_of(columns[i], frame.iloc[:, i], "the table").to_numpy(dtype=np.float64)
        for i in index
    ])  # fmt: skip
    largest = np.abs(X).max(axis=0)
    mean = (X / largest).mean(axis=0) * largest
    unit = np.abs(X - mean).max(axis=0)
    std = np.sqrt((((X - mean) / unit) ** 2).mean(axis=0)) * unit
    if (lost := std <= 1e-13 * np.abs(mean)).any():
        name = columns[index[int(np.argmax(lost))]].name
        raise ValueError(f"column {name} varies less than float64 can resolve around its mean")
    Z = (X - mean) / std
    order = [j for j, i in enumerate(index) if i not in real]
    order += [j for j, i in enumerate(index) if i in real]
    # The diagonal of R in Z = QR is the part of each column that previous ones do not explain.
    left = np.abs(np.diagonal(np.linalg.qr(Z[:, order], mode="r"))) / len(Z) ** 0.5
    dependent = {
        j for j, rest in zip(order, left, strict=True) if rest <= DEPENDENT and index[j] in real
    }
    free = [j for j in range(len(index)) if j not in dependent]
    found = list(columns)
    for j in sorted(dependent):
        some = np.array(free)
        for _ in range(2):  # a second time without those that make no difference
            slopes = np.linalg.lstsq(Z[:, some], Z[:, j], rcond=None)[0]
            keep = np.abs(slopes) > 10 * DEPENDENT
            some, slopes = some[keep], slopes[keep]
        slopes = slopes * (std[j] / std[some])
        row = np.zeros(len(found))
        row[[index[k] for k in some]] = slopes
        offset = mean[j] - slopes @ mean[some]
        weights = (float(offset), *row.tolist(), float(10 * DEPENDENT * std[j]))
        old = found[index[j]]
        found[index[j]] = Column(
            old.name, "linear", old.dtype, decimals=old.decimals, weights=weights,
            notation=old.notation,
        )  # fmt: skip
    return tuple(found)
