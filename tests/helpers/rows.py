"""Rows of vectors as data sets."""

from __future__ import annotations

import numpy as np
import torch

from realnvp.data.dataset import Dataset, Split


def vectors(
    x: torch.Tensor, condition: torch.Tensor | None = None, weight: torch.Tensor | None = None
) -> Dataset:
    """Return rows as a data set that is its own validation part."""
    split = Split(x.float(), condition, weight=weight)
    labels = condition is not None and condition.ndim == 1
    classes = int(condition.max()) + 1 if labels and condition is not None else None
    return Dataset("table", split, split, None, (x.shape[1],), classes=classes)


def normals(n: int, dim: int = 3, seed: int = 0) -> torch.Tensor:
    """Return normal numbers ``(n, dim)`` in float64."""
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(n, dim)))
