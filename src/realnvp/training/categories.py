r"""Probability tables of a table's categories: which depend on which others, and how strongly.

For every pair of categorical columns, how well one predicts the other is measured by the likelihood
of each row given all others (leave-one-out, in closed form), with the table of the pair smoothed
towards the column's own frequencies,

.. math:: p(c \mid c') = \frac{n_{c' c} + \alpha f_c}{n_{c'} + \alpha},

for the best :math:`\alpha` (a Dirichlet prior). First comes a tree that takes the largest gains,
one column after the other (Prim 1957); a column that no other predicts better than its own
frequencies has no parent. Then columns get more parents among the previous columns, as long as that
raises the likelihood, with the table smoothed towards that of fewer parents.

Columns of numbers with few values are treated as categories if one is nearly a function of another
column, or another of it, as a month is of the day of the year, or if the table of two columns fits
better than a smooth dependence: no smooth map would reproduce it.

The other columns are conditioned on features of the categories, see :func:`embedding`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from realnvp.bijections import TableColumns
from realnvp.data import Dataset
from realnvp.training.marginals import fit_columns
from realnvp.training.optim import LBFGS

__all__ = ["fit_categories"]

FittedCategories = tuple[dict[str, Any] | None, dict[str, Tensor]]
"""The arguments ``categories`` and ``category_tensors`` of :func:`realnvp.vector_flow`."""

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Candidate numbers of rows of the column's own frequencies that are added to those given
another."""

MOST_CELLS = 250_000
"""Largest number of cells of the table of a column given others."""

MOST_PARENTS = 3
"""Largest number of parents of a column."""

MOST_VALUES = 1_000
"""Largest number of values of a column of numbers that may be categories."""

MOST_COLUMNS = 64
"""Largest number of columns among which functions of others, and second parents, are searched
for."""

NEARLY = 0.25
"""Share of a column's entropy that remains given another, up to which it is nearly a function of
it."""

LISTED = 0.95
"""Share of a column's rows that are at its atoms, from which on it may be treated as categories."""

FEW_VALUES = 120
"""Largest number of values of numeric columns whose table is compared with a smooth dependence: for
more, a trained flow fits better, and the other columns get only few features of a table's
columns."""

ROUGH = 0.05
"""Gain in nats over a Gaussian copula from which on the table of a pair is kept."""

SWEEPS = 20
"""Number of passes over the columns in which the effects of their categories are estimated."""

RIDGE = 1e-4
"""Variance that is added to the residuals of the other columns."""

PRIOR = 10.0
"""Number of rows with no effect that are added to the mean of the other columns in each
category."""

LARGEST = 4.0
"""Bound on the features, in their standard deviations: those of rare categories are large."""

SIZE = 0.3
"""Standard deviation of the features: networks overfit to large ones."""

RIDGES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
"""Candidate strengths of the ridge penalty of the logistic regressions on a condition."""

FOLDS = 4
"""Number of folds of their cross-validation; one fold is enough with :data:`MANY_ROWS`."""

MANY_ROWS = 2_000

MOST_ROWS = 4_000
"""Largest number of rows that they are fitted to; a random choice if there are more."""

_KNOWN: WeakKeyDictionary[Dataset, FittedCategories] = WeakKeyDictionary()


def fit_categories(
    dataset: Dataset, scores: Tensor, weight: Tensor, given: Tensor | None = None
) -> FittedCategories:
    """Return settings and tensors of the categories of a table; None if they are not modeled first.

    They are in a table with categories and a column that is not one, or with two and a condition.

    Args:
        dataset: data set of vectors. Only its training rows are used.
        scores: ``(N, D)`` normal scores of the rows.
        weight: ``(N,)`` weights of the rows, which add up to 1.
        given: ``(N, K)`` condition of the rows in the form that layers take, or None.
    """
    if dataset not in _KNOWN:
        _KNOWN[dataset] = _fit(dataset, scores, weight, given)
    return _KNOWN[dataset]


def _fit(
    dataset: Dataset, scores: Tensor, weight: Tensor, given: Tensor | None
) -> FittedCategories:
    coordinates = dataset.coordinates
    if not coordinates:
        return None, {}
    w = weight.cpu().numpy() * len(weight)
    intervals, codes_of, own_of = _intervals(dataset, scores, w)
    where = [i for i, c in enumerate(coordinates) if c.kind == "category" or i in intervals]
    least = 1 if given is None else min(1, 2 - len(where))
    if not where or len(coordinates) - len(where) < least:
        return None, {}
    codes, own = np.column_stack([codes_of[i] for i in where]), [own_of[i] for i in where]
    sizes = [len(intervals[i]) - 1 for i in where]
    order, single, tables = _tree(codes, own, w)
    slopes: list[Tensor] = []
    if given is not None:
        order, single, tables, slopes = _tree_given(codes, own, w, single, given)
    parents: list[list[int]] = [[] if p is None else [p] for p in single]
    if given is None:
        order.sort(key=lambda j: j not in single)  # leaves last: all others may be their parents
        for k, j in enumerate(order if len(order) <= MOST_COLUMNS else []):
            parents[j], tables[j] = _with_parents(j, order[:k], parents[j], codes, own, w)
    place = {j: i for i, j in enumerate(order)}
    links = [
        {"column": where[j], "size": sizes[j], "parents": [place[p] for p in parents[j]]}
        for j in order
    ]
    others = scores[:, [i for i in range(len(coordinates)) if i not in where]].numpy()
    parts = embedding(codes[:, order], [sizes[j] for j in order], others, w)
    for k, j in enumerate(order):
        if coordinates[where[j]].kind != "category":  # also its magnitude
            parts[k] = np.column_stack([parts[k], SIZE * _middles(intervals[where[j]])])
    total, done = sum(part.shape[1] for part in parts), 0
    rows = []
    for part in parts:  # each column has its own features
        rows.append(np.pad(part, ((0, 0), (done, total - done - part.shape[1]))))
        done += part.shape[1]
    width = max(sizes) + 1
    edges = [intervals[where[j]] for j in order]
    padded = np.stack([np.pad(row, (0, width - len(row)), constant_values=1.0) for row in edges])
    tensors = {
        "edges": torch.as_tensor(padded),
        "tables": torch.as_tensor(np.concatenate([_edges(tables[j]).ravel() for j in order])),
        "embedding": torch.as_tensor(np.concatenate(rows)),
    }
    if slopes:
        tensors["slopes"] = torch.cat([slopes[j] for j in order], dim=1)
    return {"links": links, "features": total}, tensors


# ---------------------------------------------------------------------- what is modeled first


@dataclass(frozen=True, eq=False)
class _Frequencies:
    """How often a column has each category."""

    counts: NDArray
    """Rows of each, ``(S,)``."""

    shares: NDArray
    """Their shares, of which none is 0."""

    rest: NDArray
    """For a row of each category, its share among the other rows."""

    @staticmethod
    def of(codes: NDArray, w: NDArray, unseen: NDArray) -> _Frequencies:
        """Return the frequencies of a column.

        Args:
            codes: ``(N,)`` categories.
            w: ``(N,)`` weights.
            unseen: ``(S,)`` rows that are added to unseen categories; half a row to seen ones.
        """
        counts = np.bincount(codes, w, minlength=len(unseen))
        more = np.where(counts > 0, 0.5, unseen)
        own, rest = counts + more, _without_one(counts) + more
        return _Frequencies(counts, own / own.sum(), rest / rest.sum())

    @property
    def alone(self) -> float:
        """The leave-one-out log-likelihood of the column by itself."""
        return float(self.counts @ np.log(self.rest))


def _intervals(
    dataset: Dataset, scores: Tensor, w: NDArray
) -> tuple[dict[int, NDArray], dict[int, NDArray], dict[int, _Frequencies]]:
    """Return the edges of the intervals of every column that is modeled first, from 0 to 1.

    These are the categories, and, with many rows, the numbers with few values that are nearly a
    function of another column, or of which another column is one, or that are in a pair whose table
    fits better than a smooth dependence; edges between two unseen values are left out. Unseen
    numbers have the share that their own map gives them.

    Returns:
        the edges of each column, the intervals of the rows, and how often each occurs.
    """
    coordinates = dataset.coordinates
    columns, tensors = fit_columns(dataset)
    assert columns is not None  # a table has maps
    edges = {i: row.numpy() for i, row in _cell_edges(columns, tensors).items()}
    found = {i: row for i, row in edges.items() if coordinates[i].kind == "category"}
    numbers = []
    if len(w) >= MANY_ROWS and len(coordinates) <= MOST_COLUMNS:
        for i in edges.keys() - found.keys():
            own = np.unique(np.concatenate(([0.0], edges[i], [1.0])))
            there = np.bincount(_codes(scores[:, i].numpy(), own), minlength=len(own) - 1) > 0
            if there.sum() <= MOST_VALUES and coordinates[i].status is None:
                inner = there[:-1] | there[1:]
                found[i] = own[np.concatenate(([True], inner, [True]))]
                numbers.append(i)
    codes = {i: _codes(scores[:, i].numpy(), row) for i, row in found.items()}
    seen = {i: len(np.unique(own)) for i, own in codes.items()}
    frequencies = {}
    for i, row in found.items():
        unseen = w.sum() * np.diff(row) if i in numbers else np.full(len(row) - 1, 0.5)
        frequencies[i] = _Frequencies.of(codes[i], w, unseen)
    near: set[int] = set()
    for j in found if numbers else []:
        entropy = -frequencies[j].alone
        for i in found:
            sizes = len(found[i]) - 1, len(found[j]) - 1
            if i != j and (i in numbers or j in numbers) and math.prod(sizes) <= MOST_CELLS:
                left = -_pair(codes[i], codes[j], sizes[0], frequencies[j], w)[0]
                near |= {i, j} if left <= NEARLY * entropy else set()
                if all(seen[k] <= FEW_VALUES for k in (i, j)):
                    smooth = _smooth_gain(i, j, codes, scores, numbers) * w.sum()
                    near |= {i, j} if entropy - left > smooth + ROUGH * w.sum() else set()
    kept = {i: row for i, row in found.items() if i in near or i not in numbers}
    return kept, codes, frequencies


def _smooth_gain(
    i: int, j: int, codes: Mapping[int, NDArray], scores: Tensor, numbers: Sequence[int]
) -> float:
    """Return the gain in nats per row of a Gaussian dependence of two columns."""
    number, group = (i, codes[j]) if i in numbers else (j, codes[i])
    x = scores[:, number].numpy()
    if i in numbers and j in numbers:
        explained = float(np.corrcoef(x, scores[:, j].numpy())[0, 1]) ** 2
    else:  # a number, by its mean in each category
        counts = np.maximum(np.bincount(group), 1)
        explained = float(np.var((np.bincount(group, x) / counts)[group]) / np.var(x))
    return -0.5 * math.log(max(1 - explained, 1e-12))


def _cell_edges(
    columns: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]
) -> dict[int, Tensor]:
    """Return the edges of the intervals of columns of cells, and of columns with mostly atoms."""
    layer = TableColumns(columns).double()
    layer.fill(tensors)
    kinds = [[i for i, c in enumerate(columns) if c["kind"] == k] for k in ("cells", "smooth")]
    found = {i: layer.edges[k, : columns[i]["size"] + 1] for k, i in enumerate(kinds[0])}
    if any(layer.columns[i]["atoms"] for i in kinds[1]):
        starts, stops, _ = layer.atom_intervals()
        for k, i in enumerate(kinds[1]):
            if layer.atom_edges[k, -1] >= LISTED:
                ends = torch.cat((starts[:, k], stops[:, k]))
                found[i] = torch.special.ndtr(ends[ends.isfinite()]).sort().values
    return found


def _codes(scores: NDArray, edges: NDArray) -> NDArray:
    """Return the interval of each score, as :class:`CategoriesFirst` does."""
    shares = torch.special.ndtr(torch.as_tensor(scores)).numpy()
    found = np.searchsorted(edges, shares, side="right") - 1
    return found.clip(0, len(edges) - 2)


def _middles(edges: NDArray) -> NDArray:
    """Return the scores in the middle of intervals, by their shares."""
    found: NDArray = torch.special.ndtri(torch.as_tensor((edges[1:] + edges[:-1]) / 2)).numpy()
    return found


# ---------------------------------------------------------------------- their tables


def _tree(
    codes: NDArray, own: Sequence[_Frequencies], w: NDArray
) -> tuple[list[int], list[int | None], list[NDArray]]:
    """Return the order of the columns, the parent of each, and the shares given its categories."""
    n, sizes = len(own), [len(each.counts) for each in own]
    tables = [each.shares[None] for each in own]
    found: dict[tuple[int, int], tuple[float, NDArray]] = {}
    for i in range(n):
        for j in range(n):
            if i != j and sizes[i] * sizes[j] <= MOST_CELLS:
                gain, table = _pair(codes[:, i], codes[:, j], sizes[i], own[j], w)
                found[i, j] = gain - own[j].alone, table
    parents: list[int | None] = [None] * n
    order: list[int] = []
    best: dict[int, tuple[float, int]] = {}
    while len(order) < n:
        left = [j for j in range(n) if j not in order]
        for j in left if order else []:
            if (last := (order[-1], j)) in found:  # the others have been compared before
                best[j] = max(best.get(j, (-math.inf, 0)), (found[last][0], last[0]))
        links = [(*best[j], j) for j in left if j in best]
        gain, i, j = max(links, default=(0.0, 0, 0))
        if gain <= 0:  # the next tree begins with the column that predicts the others best
            gains = [sum(max(0.0, found[j, k][0]) for k in left if (j, k) in found) for j in left]
            order.append(left[int(np.argmax(gains))])
            continue
        parents[j], tables[j] = i, found[i, j][1]
        order.append(j)
    return order, parents, tables


def _tree_given(
    codes: NDArray,
    own: Sequence[_Frequencies],
    w: NDArray,
    parents: Sequence[int | None],
    given: Tensor,
) -> tuple[list[int], list[int | None], list[NDArray], list[Tensor]]:
    """Return a tree given a condition: the same links, with the roots that suit held-out rows best.

    Without a condition, the direction of a link makes no difference.

    Returns:
        the order of the columns, the parent of each, and the shares and slopes of each.
    """
    n = len(own)

    @cache
    def link(j: int, parent: int | None) -> tuple[float, NDArray, Tensor]:
        if parent is None:
            return tilted(codes[:, j], None, own[j].shares[None], given, w)
        both = codes[:, parent], codes[:, j]
        table = _pair(*both, len(own[parent].counts), own[j], w)[1]
        return tilted(both[1], both[0], table, given, w)

    def directed(root: int) -> list[tuple[int, int | None]]:
        links: list[tuple[int, int | None]] = [(root, None)]
        for j, parent in links:
            near = [k for k in range(n) if parents[k] == j or parents[j] == k]
            links += [(k, j) for k in near if k != parent]
        return links

    order: list[int] = []
    found: list[int | None] = [None] * n
    for start in range(n):
        if start in order:
            continue
        trees = [directed(root) for root, _ in directed(start)]
        for j, parent in min(trees, key=lambda links: sum(link(*one)[0] for one in links)):
            order.append(j)
            found[j] = parent
    fitted = [link(j, found[j]) for j in range(n)]
    return order, found, [table for _, table, _ in fitted], [slopes for _, _, slopes in fitted]


def _with_parents(
    j: int, before: Sequence[int], parents: Sequence[int], codes: NDArray,
    own: Sequence[_Frequencies], w: NDArray,
) -> tuple[list[int], NDArray]:  # fmt: skip
    """Return parents of a column among previous ones, and its shares given their categories.

    Starting from the first ones, the parent that raises the leave-one-out likelihood the most is
    added, one at a time, until none raises it by more than twice the logarithm of the number of
    rows.
    """
    found, child, sizes = list(parents), codes[:, j], [len(each.counts) for each in own]
    table, rest = own[j].shares[None], own[j].rest[None]
    row, score = np.zeros(len(child), dtype=np.int64), -np.inf
    for parent in found:
        row = row * sizes[parent] + codes[:, parent]
        score, table, rest = _given(row, child, table, rest, sizes[parent], w)
    while found and len(found) < MOST_PARENTS:
        best: tuple[float, int, NDArray, NDArray] | None = None
        for parent in before:
            if parent in found or table.size * sizes[parent] > MOST_CELLS:
                continue
            more = row * sizes[parent] + codes[:, parent]
            result = _given(more, child, table, rest, sizes[parent], w)
            if best is None or result[0] > best[0]:
                best = result[0], parent, result[1], result[2]
        if best is None or best[0] - score <= 2 * math.log(w.sum()):
            break
        score, parent, table, rest = best
        row = row * sizes[parent] + codes[:, parent]
        found.append(parent)
    return found, table


def _given(
    row: NDArray, child: NDArray, table: NDArray, rest: NDArray, size: int, w: NDArray
) -> tuple[float, NDArray, NDArray]:
    """Add a parent to a column.

    Args:
        row: ``(N,)`` the categories of all parents as one number, the last one changing fastest.
        child: ``(N,)`` categories of the column.
        table: ``(R, S)`` shares given the other parents.
        rest: ``(R, S)`` the same without the row itself (leave-one-out).
        size: number of categories of the parent.
        w: ``(N,)`` weights.

    Returns:
        the leave-one-out log-likelihood of the column, and both tables given all parents.
    """
    rows, columns = table.shape[0] * size, table.shape[1]
    counts = np.bincount(row * columns + child, w, minlength=rows * columns).reshape(rows, columns)
    total, there = counts.sum(1, keepdims=True), counts > 0
    less, fewer = _without_one(counts), _without_one(total)
    near = np.repeat(rest, size, axis=0)
    seen, among, its, prior = (
        counts[there],
        np.broadcast_to(fewer, counts.shape)[there],
        less[there],
        near[there],
    )
    scores = [float(seen @ np.log((its + alpha * prior) / (among + alpha))) for alpha in STRENGTHS]
    alpha = STRENGTHS[int(np.argmax(scores))]
    found = (counts + alpha * np.repeat(table, size, axis=0)) / (total + alpha)
    return max(scores), found, (less + alpha * near) / (fewer + alpha)


def _pair(
    parent: NDArray, child: NDArray, size: int, own: _Frequencies, w: NDArray
) -> tuple[float, NDArray]:
    """Return the leave-one-out log-likelihood of a column given another, and its best table."""
    return _given(parent, child, own.shares[None], own.rest[None], size, w)[:2]


def tilted(
    codes: NDArray, parent: NDArray | None, table: NDArray, given: Tensor, w: NDArray
) -> tuple[float, NDArray, Tensor]:
    r"""Return the loss of a column on held-out rows, its table, and slopes that tilt it.

    .. math:: p(c \mid c', y) \propto T[c', c] \, \exp(U[c', c] + W^\top y)_c

    A multinomial logistic regression, with the table of the pair as its offset. :math:`U` and
    :math:`W` maximize the likelihood with a ridge that held-out rows choose among :data:`RIDGES`;
    both are 0 if none is better than that. U becomes part of the table.

    Args:
        codes: ``(N,)`` categories.
        parent: ``(N,)`` categories of the parent, or None.
        table: ``(R, S)`` probabilities T.
        given: ``(N, K)`` condition.
        w: ``(N,)`` weights, whose sum is the number of rows.

    Returns:
        the loss, ``(R, S)`` probabilities, and ``(K, S)`` slopes.

    >>> y = torch.linspace(-2, 2, 400, dtype=torch.float64)[:, None]
    >>> codes = (y[:, 0].numpy() + np.sin(np.arange(400)) > 0).astype(int)
    >>> loss, table, slopes = tilted(codes, None, np.array([[0.5, 0.5]]), y, np.ones(400))
    >>> bool(slopes[0, 1] - slopes[0, 0] > 1)
    True
    """
    some = np.random.default_rng(0).permutation(len(codes))[:MOST_ROWS]
    target = torch.as_tensor(codes[some])
    row = torch.zeros_like(target) if parent is None else torch.as_tensor(parent[some])
    y, weight = given[torch.as_tensor(some)].double(), torch.as_tensor(w[some])
    offset = torch.as_tensor(np.maximum(table, 1e-9)).log()
    shapes = (len(table), table.shape[1]), (y.shape[1], table.shape[1])

    def losses(found: Sequence[Tensor], part: Tensor) -> Tensor:
        shift, slopes = found
        logits = (offset + shift)[row[part]] + y[part] @ slopes
        return weight[part] * cross_entropy(logits, target[part], reduction="none")

    def fit(part: Tensor, ridge: float, start: list[Tensor]) -> list[Tensor]:
        found = [tensor.clone().requires_grad_() for tensor in start]
        search = LBFGS(found, max_iter=50, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            search.zero_grad()
            penalty = 0.5 * ridge * sum(tensor.square().sum() for tensor in found)
            loss = (losses(found, part).sum() + penalty) / len(part)
            loss.backward()
            return loss

        with torch.enable_grad():
            search.step(closure)
        return [tensor.detach() for tensor in found]

    rows, zero = torch.arange(len(target)), [torch.zeros(shape).double() for shape in shapes]
    folds = range(FOLDS if len(target) < MANY_ROWS else 1)
    held_out = [rows[rows % FOLDS == k] for k in folds]
    best, chosen = sum(float(losses(zero, part).sum()) for part in held_out), math.inf
    fitted = [zero for _ in folds]
    for i, ridge in enumerate(RIDGES):  # from the strongest, each from the previous solution
        fitted = [fit(rows[rows % FOLDS != k], ridge, fitted[k]) for k in folds]
        score = sum(float(losses(fitted[k], held_out[k]).sum()) for k in folds)
        if score < best:
            best, chosen = score, ridge
        elif i and chosen not in RIDGES[i - 1 :]:  # two in a row were no better
            break
    if chosen == math.inf:
        return best, table, zero[1]
    shift, slopes = fit(rows, chosen, zero)
    return best, torch.softmax(offset + shift, dim=1).numpy(), slopes


def _without_one(counts: NDArray) -> NDArray:
    return np.maximum(counts - 1, 0)


def _edges(shares: NDArray) -> NDArray:
    """Return the edges of intervals of these shares, ``(R, S) -> (R, S + 1)``."""
    shares = np.maximum(shares, 1e-9)
    edges = np.ones((len(shares), shares.shape[1] + 1))
    edges[:, 0] = 0
    edges[:, 1:-1] = (shares.cumsum(1) / shares.sum(1, keepdims=True))[:, :-1]
    return edges


def embedding(codes: NDArray, sizes: Sequence[int], others: NDArray, w: NDArray) -> list[NDArray]:
    r"""Return features of the categories of each column, with mean 0 and deviation :data:`SIZE`.

    In the linear model :math:`x = \sum_j E_j[c_j] + \varepsilon` of the other columns, features are
    the directions of each :math:`E_j` that are largest relative to the covariance of
    :math:`\varepsilon` (reduced-rank regression, Izenman 1975): the effect of a category on a price
    is measured relative to the variation of the price when all else is equal. Every direction but
    the first must raise the likelihood by the cost of its parameters (the Bayesian information
    criterion).

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
    if not others.shape[1]:
        return [np.zeros((size, 0)) for size in sizes]
    effects, rest = _effects(codes, sizes, others, w)
    covariance = (rest.T * w) @ rest / w.sum() + RIDGE * np.eye(rest.shape[1])
    factor = np.linalg.cholesky(covariance)
    found = []
    for j, size in enumerate(sizes):
        counts = np.bincount(codes[:, j], w, minlength=size) + 0.5
        root = np.sqrt(counts / counts.sum())
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
    """Return the effect of each category on the other columns ``(size, D)``, and the residuals.

    They are fitted column by column (backfitting), each mean with :data:`PRIOR` rows of no effect.
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
