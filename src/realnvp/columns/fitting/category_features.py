"""Features of categories, on which the other columns of a table are conditioned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIZE", "embedding", "indicator_feature"]

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


def indicator_feature(is_missing: NDArray, counts: NDArray) -> NDArray:
    """Return a feature that tells missing values from all categories, scaled as the others are.

    Rows without a category are a mixture of those with one. Their mean effect is that of an average
    category, so that features of effects cannot tell them apart, but their spread is larger.

    Args:
        is_missing: ``(size,)``, True for missing values.
        counts: ``(size,)``, rows of each category.
    """
    fraction = counts[is_missing].sum() / counts.sum()
    scale = max(np.sqrt(fraction * (1 - fraction)), 1e-9)
    feature: NDArray = SIZE * ((is_missing - fraction) / scale).clip(-LARGEST, LARGEST)
    return feature


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
