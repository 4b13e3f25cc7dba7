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

FEATURES = 8
"""Numbers that say what the categories of a row are, all columns together; one each at least."""

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
    codes = dataset.known.x[:, where].long().cpu().numpy()
    sizes = [coordinates[i].size for i in where]
    w = weight.cpu().numpy() * len(codes)
    order, parents, tables = _tree(codes, sizes, w)
    place: dict[int | None, int | None] = {None: None, **{j: i for i, j in enumerate(order)}}
    links = [{"column": where[j], "size": sizes[j], "parent": place[parents[j]]} for j in order]
    others = scores[:, [i for i in range(len(coordinates)) if i not in where]].numpy()
    most = max(1, FEATURES // len(where))
    parts = [embedding(codes[:, j], sizes[j], others, w, most) for j in order]
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


def embedding(codes: NDArray, size: int, others: NDArray, w: NDArray, most: int) -> NDArray:
    """Return features of the categories of a column, with mean 0 and deviation :data:`SIZE`.

    The first are the directions in which the means of the other columns differ most between the
    categories; as many as the categories, less one, say which it is.

    Args:
        codes: ``(N,)`` categories.
        size: number of categories.
        others: ``(N, D)`` scores of the other columns.
        w: ``(N,)`` weights.
        most: largest number of features.

    Returns:
        ``(size, M)``.

    >>> rng = np.random.default_rng(0)
    >>> c = np.repeat([0, 1, 2], 50)
    >>> features = embedding(c, 3, (c == 1)[:, None] + 0.1 * rng.normal(size=(150, 1)), c + 1.0, 1)
    >>> features.shape, bool(abs(features[0] - features[2]) < 0.2 * abs(features[0] - features[1]))
    ((3, 1), True)
    """
    counts = np.bincount(codes, w, minlength=size)
    root = np.sqrt(_shares(counts))
    root /= np.linalg.norm(root)
    centered = others - w @ others / w.sum()
    sums = np.stack([np.bincount(codes, w * column, minlength=size) for column in centered.T], 1)
    means = sums / (counts + PRIOR)[:, None]
    means = root[:, None] * (means - root**2 @ means)
    rest = 1e-3 * (np.eye(size) - np.outer(root, root))  # all other differences, last
    directions = np.linalg.svd(np.hstack([means, rest]), full_matrices=False)[0]
    found: NDArray = directions[:, : min(size - 1, most)] / root[:, None]
    return SIZE * found.clip(-LARGEST, LARGEST)
