r"""Probability tables of columns of categories: which depend on which others, and how strongly.

For every pair of columns, how well one predicts the other is measured by the likelihood
of each row given all others (leave-one-out, in closed form), with the table of the pair smoothed
towards the column's own frequencies,

.. math:: p(c \mid c') = \frac{n_{c' c} + \alpha f_c}{n_{c'} + \alpha},

for the best :math:`\alpha` (a Dirichlet prior). First comes a tree that takes the largest gains,
one column after the other (Prim 1957); a column that no other predicts better than its own
frequencies has no parent. Then columns get more parents among the previous columns, as long as that
raises the likelihood, with the table smoothed towards that of fewer parents.

Given a condition, every table is tilted by a logistic regression, see :func:`tilted`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from realnvp.utils.uncompiled import LBFGS

__all__ = ["Frequencies", "edges_of", "fit_tables", "pair", "tilted"]

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Candidate numbers of rows of the column's own frequencies that are added to those given
another."""

MOST_CELLS = 250_000
"""Largest number of cells of the table of a column given others."""

MOST_PARENTS = 3
"""Largest number of parents of a column."""

MOST_COLUMNS = 64
"""Largest number of columns among which functions of others, and second parents, are searched
for."""

RIDGES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
"""Candidate strengths of the ridge penalty of the logistic regressions on a condition."""

FOLDS = 4
"""Number of folds of their cross-validation; one fold is enough with :data:`MANY_ROWS`."""

MANY_ROWS = 2_000

MOST_ROWS = 4_000
"""Largest number of rows that they are fitted to; a random choice if there are more."""


@dataclass(frozen=True, eq=False)
class Frequencies:
    """How often a column has each category."""

    counts: NDArray
    """Rows of each, ``(S,)``."""

    shares: NDArray
    """Their shares, of which none is 0."""

    rest: NDArray
    """For a row of each category, its share among the other rows."""

    @staticmethod
    def of(codes: NDArray, w: NDArray, unseen: NDArray) -> Frequencies:
        """Return the frequencies of a column.

        Args:
            codes: ``(N,)`` categories.
            w: ``(N,)`` weights.
            unseen: ``(S,)`` rows that are added to unseen categories; half a row to seen ones.
        """
        counts = np.bincount(codes, w, minlength=len(unseen))
        more = np.where(counts > 0, 0.5, unseen)
        own, rest = counts + more, _without_one(counts) + more
        return Frequencies(counts, own / own.sum(), rest / rest.sum())

    @property
    def alone(self) -> float:
        """The leave-one-out log-likelihood of the column by itself."""
        return float(self.counts @ np.log(self.rest))


def fit_tables(
    codes: NDArray, own: Sequence[Frequencies], w: NDArray, given: Tensor | None = None
) -> tuple[list[int], list[list[int]], list[NDArray], list[Tensor]]:
    """Return which columns of categories depend on which others, and the tables that say how.

    Args:
        codes: ``(N, C)`` categories.
        own: how often each column has each category.
        w: ``(N,)`` weights, whose sum is the number of rows.
        given: ``(N, K)`` condition of the rows, or None.

    Returns:
        the order of the columns, parents first; the parents of each; its shares given their
        categories; and, if there is a condition, its slopes.
    """
    order, single, tables = _tree(codes, own, w)
    slopes: list[Tensor] = []
    if given is not None:
        order, single, tables, slopes = _tree_given(codes, own, w, single, given)
    parents: list[list[int]] = [[] if p is None else [p] for p in single]
    if given is None:
        order.sort(key=lambda j: j not in single)  # leaves last: all others may be their parents
        for k, j in enumerate(order if len(order) <= MOST_COLUMNS else []):
            parents[j], tables[j] = _with_parents(j, order[:k], parents[j], codes, own, w)
    return order, parents, tables, slopes


def _tree(
    codes: NDArray, own: Sequence[Frequencies], w: NDArray
) -> tuple[list[int], list[int | None], list[NDArray]]:
    """Return the order of the columns, the parent of each, and the shares given its categories."""
    n, sizes = len(own), [len(each.counts) for each in own]
    tables = [each.shares[None] for each in own]
    found: dict[tuple[int, int], tuple[float, NDArray]] = {}
    for i in range(n):
        for j in range(n):
            if i != j and sizes[i] * sizes[j] <= MOST_CELLS:
                gain, table = pair(codes[:, i], codes[:, j], sizes[i], own[j], w)
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
    own: Sequence[Frequencies],
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
        table = pair(*both, len(own[parent].counts), own[j], w)[1]
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
    own: Sequence[Frequencies], w: NDArray,
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


def pair(
    parent: NDArray, child: NDArray, size: int, own: Frequencies, w: NDArray
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


def edges_of(shares: NDArray) -> NDArray:
    """Return the edges of intervals of these shares, ``(R, S) -> (R, S + 1)``."""
    shares = np.maximum(shares, 1e-9)
    edges = np.ones((len(shares), shares.shape[1] + 1))
    edges[:, 0] = 0
    edges[:, 1:-1] = (shares.cumsum(1) / shares.sum(1, keepdims=True))[:, :-1]
    return edges
