"""Training rows and their condition as the layers of a model receive them, and their moments.

Nothing depends on the unit of a column, of the condition or of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from realnvp.bijections import CategoriesFirst, Chain, CirclesFirst, DomainMap, TableColumns
from realnvp.data import Dataset
from realnvp.training.categories import FittedCategories, fit_categories
from realnvp.training.marginals import FittedColumns, fit_columns
from realnvp.utils.rng import Stream, uniform

__all__ = [
    "TableStart",
    "moments",
    "shares_of",
    "standardization",
    "training_condition",
]

AT_ONCE = 20_000
"""Rows per batch of scores: a layer takes about twenty times their memory."""


@dataclass(frozen=True, eq=False)
class TableStart:
    """What a model of vectors starts from: computed once, as it takes a pass over the rows.

    Args:
        maps: the maps of the columns; see :func:`~realnvp.training.marginals.fit_columns`.
        categories: what is modeled first; see :func:`~realnvp.training.categories.fit_categories`.
        condition: ``(N, K)`` condition that the layers of the other columns take: features of the
            categories or angles, or the condition of the rows; None if there is neither.
        rows: ``(N, M)`` the other columns as couplings receive them, in float64.
        weight: ``(N,)`` weights of the rows, which add up to 1.
    """

    maps: FittedColumns
    categories: FittedCategories
    condition: Tensor | None
    rows: Tensor
    weight: Tensor

    @staticmethod
    def of(dataset: Dataset, seed: int, domain: Any = None) -> TableStart:
        """Return the start of a data set.

        Args:
            dataset: data set of vectors. Only its training rows are used.
            seed: seed of the dequantization.
            domain: domains of the columns, in place of maps of the columns.
        """
        x = dataset.train_in_memory.x.double().cpu()
        if domain is not None:
            return _start_on_domain(x, dataset, DomainMap(domain).double())
        maps = columns, tensors = fit_columns(dataset)
        if columns is not None:
            layer = TableColumns(columns).double()
            layer.fill(tensors)
            noise = uniform((seed, Stream.MOMENTS), 0, len(x), x.shape[1:], x.dtype)
            parts = zip(x.split(AT_ONCE), noise.split(AT_ONCE), strict=True)
            x = torch.cat([layer(part, noise=own)[0] for part, own in parts])
        weight = shares_of(x, dataset.train_in_memory.weight)
        given = training_condition(dataset)
        found = categories, tables = fit_categories(dataset, maps, x, weight, given)
        if categories is not None:
            first = CategoriesFirst(
                categories["links"], x.shape[1], categories["features"], Chain(),
                condition_dim=0 if given is None else given.shape[1],
            ).double()  # fmt: skip
            first.fill(tables)
            given, x = first.features(x, given), x[:, first.others]
        return TableStart(maps, found, given, x, weight)


def _start_on_domain(x: Tensor, dataset: Dataset, layer: DomainMap) -> TableStart:
    """Return the start of columns with a domain, of which angles are modeled first."""
    layer.check(x)
    x, _ = layer(x)
    condition = training_condition(dataset)
    if circles := layer.columns.get("circle"):
        first = CirclesFirst(circles, x.shape[1], Chain(), Chain())
        condition, x = first.features(x, condition), x[:, first.others]
    weight = shares_of(dataset.train_in_memory.x, dataset.train_in_memory.weight)
    return TableStart((None, {}), (None, {}), condition, x, weight)


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
