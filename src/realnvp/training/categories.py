r"""The tables of a table's categories: which of them depend on which, and how strongly.

Of every pair of categorical columns, how well one predicts the other is measured by the likelihood
of each row given all others (leave-one-out, in closed form), with the table of the pair smoothed
towards the column's own frequencies,

.. math:: p(c \mid c') = \frac{n_{c' c} + \alpha f_c}{n_{c'} + \alpha},

for the best :math:`\alpha` (a Dirichlet prior). The tree of
:class:`~realnvp.bijections.CategoriesFirst` takes the largest gains, one column after the other
(Prim 1957), and a column that no other predicts better than its own frequencies has no parent.

What the other columns are given of the categories is :func:`embedding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.data import Dataset
from realnvp.training.marginals import fit_columns

__all__ = ["fit_categories"]

Fitted = tuple[dict[str, Any] | None, dict[str, Tensor]]
"""The arguments ``categories`` and ``category_tensors`` of :func:`realnvp.vector_flow`."""

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Rows of its own frequencies that are added to a category's, given another, as tried."""

MOST_CELLS = 250_000
"""Largest table of a pair of columns."""

SWEEPS = 20
"""Passes over the columns in which the effects of their categories are found."""

RIDGE = 1e-4
"""Variance that is added to what the categories leave of the other columns."""

PRIOR = 10.0
"""Rows of no effect that are added to the mean of the other columns in each category."""

LARGEST = 4.0
"""Bound on the features, in their standard deviations: those of rare categories are large."""

SIZE = 0.3
"""Standard deviation of the features: networks overfit to large ones."""

_KNOWN: WeakKeyDictionary[Dataset, Fitted] = WeakKeyDictionary()


def fit_categories(dataset: Dataset, scores: Tensor, weight: Tensor) -> Fitted:
    """Return settings and tensors of the categories of a table; None if they do not go first.

    They do in a table without a condition that has categories, and a column that is none.

    Args:
        dataset: data set of vectors. Only its training rows are looked at.
        scores: ``(N, D)`` normal scores of the rows.
        weight: ``(N,)`` weights of the rows, which add up to 1.
    """
    if dataset not in _KNOWN:
        _KNOWN[dataset] = _fit(dataset, scores, weight)
    return _KNOWN[dataset]


def _fit(dataset: Dataset, scores: Tensor, weight: Tensor) -> Fitted:
    coordinates = dataset.coordinates
    where = [i for i, c in enumerate(coordinates) if c.kind == "category"]
    given = dataset.condition_dim or dataset.condition_classes
    if not where or len(where) == len(coordinates) or given:
        return None, {}
    codes = dataset.train_in_memory.x[:, where].long().cpu().numpy()
    sizes = [coordinates[i].size for i in where]
    w = weight.cpu().numpy() * len(codes)
    order, parents, tables = _tree(codes, sizes, w)
    place: dict[int | None, int | None] = {None: None, **{j: i for i, j in enumerate(order)}}
    links = [{"column": where[j], "size": sizes[j], "parent": place[parents[j]]} for j in order]
    others = scores[:, [i for i in range(len(coordinates)) if i not in where]].numpy()
    parts = embedding(codes[:, order], [sizes[j] for j in order], others, w)
    total, done = sum(part.shape[1] for part in parts), 0
    rows = []
    for part in parts:  # each column has its own features
        rows.append(np.pad(part, ((0, 0), (done, total - done - part.shape[1]))))
        done += part.shape[1]
    width = max(sizes) + 1
    columns, maps = fit_columns(dataset)
    assert columns is not None  # a table with categories has maps
    cells = [i for i, column in enumerate(columns) if column["kind"] == "cells"]
    own = torch.stack([maps["edges"][cells.index(where[j])][:width] for j in order])
    tensors = {
        "edges": own,
        "tables": torch.as_tensor(np.concatenate([_edges(tables[j], width) for j in order])),
        "embedding": torch.as_tensor(np.concatenate(rows)),
    }
    return {"links": links, "features": total}, tensors


def _tree(
    codes: NDArray, sizes: Sequence[int], w: NDArray
) -> tuple[list[int], list[int | None], list[NDArray]]:
    """Return the order of the columns, the parent of each, and the shares given its categories."""
    n = len(sizes)
    own = [np.bincount(codes[:, j], w, minlength=sizes[j]) for j in range(n)]
    tables = [_shares(counts)[None] for counts in own]
    alone = [float(counts @ np.log(_shares(_without_one(counts)))) for counts in own]
    found: dict[tuple[int, int], tuple[float, NDArray]] = {}
    for i in range(n):
        for j in range(n):
            if i != j and sizes[i] * sizes[j] <= MOST_CELLS:
                gain, table = _pair(codes[:, i], codes[:, j], (sizes[i], sizes[j]), own[j], w)
                found[i, j] = gain - alone[j], table
    parents: list[int | None] = [None] * n
    order: list[int] = []
    while len(order) < n:
        left = [j for j in range(n) if j not in order]
        links = [(found[i, j][0], i, j) for i in order for j in left if (i, j) in found]
        gain, i, j = max(links, default=(0.0, 0, 0))
        if gain <= 0:  # the next tree begins with what says most of the others
            gains = [sum(max(0.0, found[j, k][0]) for k in left if (j, k) in found) for j in left]
            order.append(left[int(np.argmax(gains))])
            continue
        parents[j], tables[j] = i, found[i, j][1]
        order.append(j)
    return order, parents, tables


def _pair(
    parent: NDArray, child: NDArray, sizes: tuple[int, int], own: NDArray, w: NDArray
) -> tuple[float, NDArray]:
    """Return the leave-one-out log-likelihood of a column given another, and its best table."""
    counts = np.bincount(parent * sizes[1] + child, w, minlength=sizes[0] * sizes[1])
    counts = counts.reshape(sizes)
    total = counts.sum(1, keepdims=True)
    rest, share = _shares(_without_one(own)), _shares(own)
    best, strength = -np.inf, STRENGTHS[0]
    for alpha in STRENGTHS:
        p = (_without_one(counts) + alpha * rest) / (_without_one(total) + alpha)
        score = float((counts * np.log(p)).sum())
        if score > best:
            best, strength = score, alpha
    return best, (counts + strength * share) / (total + strength)


def _without_one(counts: NDArray) -> NDArray:
    return np.maximum(counts - 1, 0)


def _shares(counts: NDArray) -> NDArray:
    return (counts + 0.5) / (counts + 0.5).sum()


def _edges(shares: NDArray, width: int) -> NDArray:
    """Return the edges of intervals of these shares, ``(R, S) -> (R, width)``."""
    shares = np.maximum(shares, 1e-9)
    edges = np.ones((len(shares), width))
    edges[:, 0] = 0
    edges[:, 1 : shares.shape[1]] = (shares.cumsum(1) / shares.sum(1, keepdims=True))[:, :-1]
    return edges


def embedding(codes: NDArray, sizes: Sequence[int], others: NDArray, w: NDArray) -> list[NDArray]:
    r"""Return features of the categories of each column, with mean 0 and deviation :data:`SIZE`.

    In the linear model :math:`x = \sum_j E_j[c_j] + \varepsilon` of the other columns, features are
    the directions of each :math:`E_j` that are largest beside the covariance of
    :math:`\varepsilon` (reduced-rank regression, Izenman 1975): what a category does to a price
    counts by what the price varies by where all else is equal. A direction more must raise the
    likelihood by what its parameters cost (the Bayesian information criterion), but the first.

    Args:
        codes: ``(N, C)`` categories.
        sizes: number of categories of each column.
        others: ``(N, D)`` scores of the other columns.
        w: ``(N,)`` weights, whose sum is the number of rows.

    Returns:
        ``(size, M)`` for each column.

    >>> rng = np.random.default_rng(0)
    >>> c = np.repeat([0, 1, 2], 50)
    >>> x = (c == 1)[:, None] + 0.1 * rng.normal(size=(150, 1))
    >>> (features,) = embedding(c[:, None], [3], x, np.ones(150))
    >>> features.shape, bool(abs(features[0] - features[2]) < 0.2 * abs(features[0] - features[1]))
    ((3, 1), True)
    """
    effects, rest = _effects(codes, sizes, others, w)
    covariance = (rest.T * w) @ rest / w.sum() + RIDGE * np.eye(rest.shape[1])
    factor = np.linalg.cholesky(covariance)
    found = []
    for j, size in enumerate(sizes):
        root = np.sqrt(_shares(np.bincount(codes[:, j], w, minlength=size)))
        root /= np.linalg.norm(root)
        apart = root[:, None] * np.linalg.solve(factor, effects[j].T).T
        apart -= root[:, None] * (root @ apart)
        left, strength, _ = np.linalg.svd(apart, full_matrices=False)
        i = np.arange(len(strength))
        gain = w.sum() * np.log1p(strength**2)
        cost = np.log(w.sum()) * (size - 1 + rest.shape[1] - 2 * i - 1)
        most = min(size - 1, rest.shape[1])
        count = max(1, int(np.cumprod((gain > cost)[:most]).sum()))
        found.append(SIZE * (left[:, :count] / root[:, None]).clip(-LARGEST, LARGEST))
    return found


def _effects(
    codes: NDArray, sizes: Sequence[int], others: NDArray, w: NDArray
) -> tuple[list[NDArray], NDArray]:
    """Return what each category adds to the other columns ``(size, D)``, and what is left.

    Column by column, until they agree (backfitting), each mean with :data:`PRIOR` rows of none.
    """
    rest = others - w @ others / w.sum()
    effects = [np.zeros((size, rest.shape[1])) for size in sizes]
    for _ in range(SWEEPS):
        for j, size in enumerate(sizes):
            own = codes[:, j]
            rest = rest + effects[j][own]
            sums = np.stack([np.bincount(own, w * x, minlength=size) for x in rest.T], axis=1)
            effects[j] = sums / (np.bincount(own, w, minlength=size) + PRIOR)[:, None]
            rest = rest - effects[j][own]
    return effects, rest
