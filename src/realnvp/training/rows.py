"""Training rows and their condition as the layers of a model receive them, and their moments.

Nothing depends on the unit of a column, of the condition or of the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from realnvp.bijections import CategoriesFirst, Chain, TableColumns
from realnvp.data import Dataset
from realnvp.training.categories import fit_categories
from realnvp.training.marginals import fit_columns
from realnvp.utils.rng import Stream, uniform

__all__ = [
    "given_and_rows",
    "moments",
    "rows_of",
    "shares_of",
    "standardization",
    "training_condition",
]

AT_ONCE = 20_000
"""Rows per batch of scores: a layer takes about twenty times their memory."""


def rows_of(dataset: Dataset, seed: int) -> tuple[Tensor, Tensor]:
    """Return the training rows as couplings receive them, in float64; and weights of sum 1."""
    x = dataset.train_in_memory.x.double().cpu()
    columns, tensors = fit_columns(dataset)
    if columns is not None:
        layer = TableColumns(columns).double()
        layer.fill(tensors)
        noise = uniform((seed, Stream.MOMENTS), 0, len(x), x.shape[1:], x.dtype)
        x = torch.cat(
            [
                layer(part, noise=own)[0]
                for part, own in zip(x.split(AT_ONCE), noise.split(AT_ONCE), strict=True)
            ]
        )
    return x, shares_of(x, dataset.train_in_memory.weight)


def given_and_rows(dataset: Dataset, seed: int) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the condition of the columns after the categories, these columns, and weights."""
    x, weight = rows_of(dataset, seed)
    given = training_condition(dataset)
    categories, tensors = fit_categories(dataset, x, weight, given)
    if categories is None:
        return None, x, weight
    layer = CategoriesFirst(
        categories["links"], x.shape[1], categories["features"], Chain(),
        condition_dim=0 if given is None else given.shape[1],
    ).double()  # fmt: skip
    layer.fill(tensors)
    return layer.features(x, given), x[:, layer.others], weight


def training_condition(dataset: Dataset) -> Tensor | None:
    """Return the condition of the training rows in the form that layers take, ``(N, K)``, or None.

    Numbers are standardized, and classes one-hot.
    """
    condition = dataset.train_in_memory.condition
    if condition is None:
        return None
    if condition.ndim == 1:
        return one_hot(condition.cpu(), dataset.condition_classes).double()
    shift, scale = standardization(dataset)
    return (condition.double().cpu() - shift) / scale


def shares_of(x: Tensor, weight: Tensor | None) -> Tensor:
    """Return weights of the rows that add up to 1."""
    if weight is None:
        return torch.full_like(x[:, 0], 1 / len(x))
    weight = weight.cpu().to(x.dtype)
    weight = weight / weight.max()  # the sum of large weights could overflow
    return weight / weight.sum()


def moments(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return means and standard deviations of columns of any unit.

    Args:
        x: ``(N, D)`` rows.
        weight: ``(N,)`` weights; equal by default.

    Returns:
        means and standard deviations, ``(D,)``; 1 for the deviation of a constant column.

    >>> moments(torch.tensor([[1e200, 3.0], [3e200, 3.0]], dtype=torch.float64))
    (tensor([2.0000e+200,  3.0000e+00], dtype=torch.float64),
     tensor([1.0000e+200,  1.0000e+00], dtype=torch.float64))
    """
    shares = shares_of(x, weight)
    mean = _unit(x)
    mean = (shares @ (x / mean)) * mean  # sums neither overflow nor vanish, nor do squares below
    centered = x - mean
    unit = _unit(centered)
    std = (shares @ (centered / unit).square()).sqrt() * unit
    # The mean of equal values may be off by rounding.
    return mean, torch.where((x != x[:1]).any(0), std, 1.0)


def _unit(x: Tensor) -> Tensor:
    """Return the largest magnitude in each column, 1 for columns of zeros."""
    largest = x.abs().amax(0)
    return torch.where(largest > 0, largest, 1.0)


def standardization(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Return means and standard deviations of a numeric condition."""
    condition = dataset.train_in_memory.condition
    assert condition is not None
    c = condition.double().cpu()
    return moments(c, dataset.train_in_memory.weight)
