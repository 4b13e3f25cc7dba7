"""What a model of vectors starts from, computed once from its training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from realnvp.bijections import Chain, CirclesFirst, DomainMap
from realnvp.bijections.domains import Entry
from realnvp.columns.fitting.categories import (
    ROUGH,
    ROUGHER,
    FittedCategories,
    fit_categories,
)
from realnvp.columns.fitting.marginals import FittedColumns, fit_columns
from realnvp.columns.fitting.mixtures import MANY_ROWS, Mixture, choose_mixture
from realnvp.columns.fitting.rows import TrainingRows, weight_fractions
from realnvp.columns.layer import TableColumns
from realnvp.columns.network import CategoriesFirst
from realnvp.utils.rng import Stream, uniform

__all__ = ["TableStart"]

AT_ONCE = 20_000
"""Rows per batch of scores: a layer takes about twenty times their memory."""

ROWS_OF_GROUP = 50
"""Smallest number of rows with the same missing values that have a Gaussian of their own."""

MOST_GROUPS = 8
"""Largest number of such groups."""


@dataclass(frozen=True, eq=False)
class TableStart:
    """What a model of vectors starts from: it takes a pass over the rows.

    Args:
        maps: the maps of the columns; see :func:`~realnvp.columns.fitting.marginals.fit_columns`.
        categories: what is modeled first; see
            :func:`~realnvp.columns.fitting.categories.fit_categories`.
        condition: ``(N, K)`` condition that the layers of the other columns take: features of the
            categories or angles, or the condition of the rows; None if there is neither.
        rows: ``(N, M)`` the other columns as couplings receive them, in float64.
        weight: ``(N,)`` weights of the rows, which add up to 1.
        columns_first: whether categories or angles are modeled first.
        source: the training rows.
        seed: seed of the dequantization and of the mixture's first guess.
        groups: ``(N,)`` groups of rows with the same missing values; see :func:`_groups`.
    """

    maps: FittedColumns
    categories: FittedCategories
    condition: Tensor | None
    rows: Tensor
    weight: Tensor
    columns_first: bool
    source: TrainingRows
    seed: int
    groups: Tensor | None = None

    @staticmethod
    def of(
        source: TrainingRows, seed: int, domain: Sequence[Entry | None] | None = None
    ) -> TableStart:
        """Return the start of training rows.

        Args:
            source: training rows.
            seed: seed of the dequantization and of the mixture's first guess.
            domain: domains of the columns, in place of maps of the columns.
        """
        if domain is not None:
            return _start_on_domain(source, seed, DomainMap(domain).double())
        return TableStart._of_maps(source, seed, fit_columns(source), ROUGH)

    def with_fewer_tables(self) -> TableStart:
        """Return the start with tables of those pairs of numbers only that gain the most by them.

        The others are left to the layers that follow.
        """
        return TableStart._of_maps(self.source, self.seed, self.maps, ROUGHER)

    @staticmethod
    def _of_maps(source: TrainingRows, seed: int, maps: FittedColumns, rough: float) -> TableStart:
        x, condition = source.x, source.encoded_condition()
        columns, tensors = maps
        if columns is not None:
            layer = TableColumns(columns).double()
            layer.fill(tensors)
            noise = uniform((seed, Stream.MOMENTS), 0, len(x), x.shape[1:], x.dtype)
            batches = zip(x.split(AT_ONCE), noise.split(AT_ONCE), strict=True)
            x = torch.cat([layer(rows, noise=u)[0] for rows, u in batches])
        weight = weight_fractions(x, source.weight)
        fitted = categories, tables = fit_categories(
            source.features, maps, x, weight, condition, rough
        )
        if categories is not None:
            first = CategoriesFirst(
                categories["links"], x.shape[1], categories["features"], Chain(),
                condition_dim=0 if condition is None else condition.shape[1],
            ).double()  # fmt: skip
            first.fill(tables)
            condition, x = first.features(x, condition), x[:, first.others]
        columns_first = categories is not None
        groups = _groups(source) if columns_first else None
        return TableStart(maps, fitted, condition, x, weight, columns_first, source, seed, groups)

    def mixture(self, components: int | None = None, *, untrained: bool = False) -> Mixture | None:
        """Fit the mixture of Gaussians that the model of the rows starts as.

        Args:
            components: number of Gaussians, of each class if there are classes; chosen by
                cross-validation by default.
            untrained: whether the model is not trained. If not, several Gaussians may be fitted to
                many rows with categories, one for each group of rows with the same missing values.

        Returns:
            the tensors that :class:`~realnvp.bijections.Rosenblatt` takes; None if all columns are
            categories, which are modeled first.
        """
        if not self.rows.shape[1]:
            return None
        labels, classes, groups = None, self.source.classes, None
        if not self.columns_first:
            labels = self.source.condition if classes else None
        elif components is None:
            many = len(self.rows) >= MANY_ROWS
            groups = self.groups if untrained or not many else None
            components = (
                1 if many else None
            )  # couplings learn more of many rows than several Gaussians do
        return choose_mixture(
            self.rows, self.weight, self.condition, labels, classes,
            components=components, groups=groups, seed=self.seed,
        )  # fmt: skip


def _groups(source: TrainingRows) -> Tensor | None:
    """Return the groups of rows with the same missing values, the largest first.

    Rows of a pattern that is rare, or not among the most frequent ones, are in none, which is -1.
    None if there is a single group.
    """
    columns = [i for i, f in enumerate(source.features) if f.first_missing is not None]
    if not columns:
        return None
    first = source.x.new_tensor([source.features[i].first_missing for i in columns])
    states = torch.where(source.x[:, columns] >= first, source.x[:, columns], 0.0)
    _, pattern, counts = states.unique(dim=0, return_inverse=True, return_counts=True)
    largest = counts.argsort(descending=True)[:MOST_GROUPS]
    largest = largest[counts[largest] >= ROWS_OF_GROUP]
    if len(largest) < 2:
        return None
    group = torch.full_like(counts, -1)
    group[largest] = torch.arange(len(largest))
    return group[pattern]


def _start_on_domain(source: TrainingRows, seed: int, layer: DomainMap) -> TableStart:
    """Return the start of columns with a domain, of which angles are modeled first."""
    layer.check(source.x)
    x, _ = layer(source.x)
    condition = source.encoded_condition()
    if circles := layer.columns.get("circle"):
        first = CirclesFirst(circles, x.shape[1], Chain(), Chain())
        condition, x = first.features(x, condition), x[:, first.others]
    weight = weight_fractions(source.x, source.weight)
    return TableStart((None, {}), (None, {}), condition, x, weight, bool(circles), source, seed)
