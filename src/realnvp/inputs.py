"""Checks of a flow's input: shape, type, range, and values too large to compute with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from realnvp.bijections.domains import DomainMap
from realnvp.columns.layer import TableColumns

if TYPE_CHECKING:
    from realnvp.columns.impossible import Impossible

__all__ = [
    "check_data",
    "check_kind",
    "check_noise",
    "check_overflow",
    "impossible_values",
    "without_marked",
]


_WITHOUT_ARITHMETIC = (torch.uint16, torch.uint32, torch.uint64)
"""Types of integers that PyTorch can only convert."""


def check_kind(x: Tensor, shape: tuple[int, ...], levels: int | None) -> None:
    """Raise a ValueError unless data are a batch of the flow's shape, and integers if discrete.

    No values are read, so that this does not wait for a GPU.

    >>> check_kind(torch.zeros(3), (3,), None)
    Traceback (most recent call last):
    ValueError: this flow models shape (B, 3), got (3,)
    """
    if not isinstance(x, Tensor):
        name = type(x).__name__
        advice = "RealNVPDensity.load reads models of tables, and takes them"
        advice = advice if "DataFrame" in name else "pass torch.as_tensor(x)"
        raise ValueError(f"a flow takes tensors, got {name}: {advice}")
    if tuple(x.shape[1:]) != shape or x.ndim < 2:
        sizes = ", ".join(map(str, shape))
        raise ValueError(f"this flow models shape (B, {sizes}), got {tuple(x.shape)}")
    if x.is_complex():
        raise ValueError(f"a flow takes real numbers, got {x.dtype}")
    if levels is not None and (x.is_floating_point() or x.dtype == torch.bool):
        raise ValueError(
            f"this flow models integers 0 .. {levels - 1} (uint8), got {x.dtype}: "
            f"pass raw pixels, preprocessing is part of the model"
        )
    if levels is not None and x.dtype in _WITHOUT_ARITHMETIC:
        raise ValueError(
            f"PyTorch cannot compute with {x.dtype}: pass x.to(torch.int32) or x.to(torch.int64)"
        )


def check_data(x: Tensor, shape: tuple[int, ...], levels: int | None) -> None:
    """Raise a ValueError unless data are integers below ``levels``, or finite if continuous.

    >>> check_data(torch.tensor([[0.5, 0.5]]), (2,), 256)
    Traceback (most recent call last):
    ValueError: this flow models integers 0 .. 255 (uint8), got torch.float32: pass raw pixels, ...
    """
    check_kind(x, shape, levels)
    if levels is None:
        # One number of all, which is NaN if any is: isfinite would pass over the data five times.
        if x.is_floating_point() and x.numel() and not math.isfinite(x.detach().abs().max().item()):
            raise ValueError("the data have NaN or infinite values: remove or replace them")
        return
    # as Python numbers: in uint8, 256 would wrap to 0
    if len(x) and (int(x.min()) < 0 or int(x.max()) >= levels):
        raise ValueError(
            f"this flow models integers 0 .. {levels - 1}, got {int(x.min())} .. {int(x.max())}"
        )


def check_noise(noise: Tensor) -> None:
    """Raise a ValueError unless all numbers are between 0 and 1, as uniform noise is.

    With other noise, a value would be dequantized to the cell of another one, with its density.

    >>> check_noise(torch.tensor([0.5, -0.1]))
    Traceback (most recent call last):
    ValueError: noise is uniform numbers in [0, 1), got -0.1 .. 0.5: use torch.rand
    """
    if noise.numel() and not (noise.min() >= 0 and noise.max() <= 1):  # NaN is neither
        low, high = noise.min().item(), noise.max().item()
        raise ValueError(
            f"noise is uniform numbers in [0, 1), got {low:.6g} .. {high:.6g}: use torch.rand"
        )


def check_overflow(x: Tensor, result: Tensor, dtype: torch.dtype) -> None:
    """Raise a ValueError if the result is NaN because finite data are too large.

    A NaN from data of ordinary size has another cause, and is not reported here.

    Args:
        x: the data.
        result: result of a computation on them.
        dtype: type of the computation.

    >>> check_overflow(torch.tensor([1e30]), torch.tensor([math.nan]), torch.float32)
    Traceback (most recent call last):
    ValueError: the data have values up to 1.0e+30, with which the computation overflows: rescale...
    """
    if x.is_floating_point() and torch.isnan(result).any():
        huge = x.abs() > math.sqrt(torch.finfo(dtype).max)
        if huge.any():
            raise ValueError(
                f"the data have values up to {x.abs().max().item():.1e}, with which the "
                f"computation overflows: rescale them"
            )


def impossible_values(
    columns: TableColumns | DomainMap, x: Tensor, names: Sequence[str], where: str
) -> list[Impossible]:
    """Return the values of a table's coordinates that have no density.

    Args:
        columns: layer of the table's columns, or of their domains.
        x: ``(B, D)`` coordinates; NaN is left out, as the mark of a value that is known to be
            impossible, or unknown.
        names: names of the coordinates.
        where: name of the table, for messages.
    """
    from realnvp.columns.impossible import Impossible  # sampling needs no package for data

    bad, found = ~columns.possible(x) & ~x.isnan(), []
    for j in bad.any(0).nonzero()[:, 0].tolist():
        values = x[bad[:, j], j].tolist()
        rows = bad[:, j].nonzero()[:, 0].tolist()
        why = f"which {columns.rule(j, values[0])}"
        found.append(Impossible(names[j], where, rows, values, why))
    return found


def without_marked(columns: TableColumns | None, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return rows with ordinary values in place of impossible ones.

    Args:
        columns: layer of a table's columns, if the data are one.
        x: the data; impossible rows have a mark (:meth:`TableColumns.mark`).

    Returns:
        the data, and which rows were marked, ``(B,)``; None if none was.
    """
    if columns is None:
        return x, None
    marked = columns.marks(x).any(1)
    if not marked.any():
        return x, None
    return torch.where(marked[:, None], columns.some_values().to(x), x), marked
