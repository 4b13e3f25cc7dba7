"""Conversion of labels, as they are found in files, to integer classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from realnvp.utils.errors import some_of


def _are_fractions(names: Iterable[str]) -> bool:
    """Return whether names are numbers, at least one of which is not an integer."""
    try:
        return not all(float(name).is_integer() for name in names)
    except ValueError:
        return False


def named(values: np.ndarray, categories: Sequence[str]) -> np.ndarray:
    """Return numbers under the names of the classes, if all of these are numbers."""
    try:
        names = {float(name): name for name in categories}
    except ValueError:
        return values
    return np.array([names.get(value, str(value)) for value in values.tolist()], dtype=object)


def parse_labels(
    values: np.ndarray, where: str, categories: Sequence[str] | None = None
) -> tuple[torch.Tensor, tuple[str, ...] | None]:
    """Turn labels, as they are found in files, into classes 0, 1, 2, ...

    Args:
        values: ``(N,)`` or ``(N, 1)``: integers from 0, or names, which are numbered in sorted
            order.
        where: name of the labels, for messages.
        categories: names that are numbered already, in order; other names are then an error.

    Returns:
        int64 ``(N,)``, and the names in order where the labels are names.

    Raises:
        ValueError: for negative or fractional labels, and for unknown names.

    >>> parse_labels(np.array(["cat", "ant", "cat"]), "labels")
    (tensor([1, 0, 1]), ('ant', 'cat'))
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{where} must be one label per example, got shape {values.shape}")
    if categories is not None and values.dtype.kind in "iuf":
        values = named(values, categories)
    if values.dtype.kind in "UO":
        names = values.astype(str).tolist()
        distinct = set(names)
        if categories is None and len(distinct) > 20 and _are_fractions(distinct):
            raise ValueError(
                f"{where} holds {len(distinct):,} different numbers, such as {names[0]}: images "
                "are conditioned on classes, so give each range of the numbers a name"
            )
        classes = sorted(distinct) if categories is None else categories
        codes = {str(name): code for code, name in enumerate(classes)}
        unknown = sorted(distinct - set(codes))
        if unknown:
            raise ValueError(
                f"{where} holds {unknown[0]!r}, which is none of the known classes "
                f"{some_of(tuple(codes))}; without labels, the density is that of all of them"
            )
        numbers = np.array([codes[name] for name in names], dtype=np.int64)
        return torch.from_numpy(numbers), tuple(codes)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{where} must be integers or names, got {values.dtype}")
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise ValueError(f"{where} must be integers to be used as classes")
    if values.size and (values.min() < 0 or values.max() > 2**62):
        raise ValueError(
            f"{where} must be classes numbered from 0, got {values.min()} to {values.max()}"
        )
    return torch.from_numpy(values.astype(np.int64)), None
