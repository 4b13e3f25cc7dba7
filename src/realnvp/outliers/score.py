r"""Outlier scores: one number from several statistics, fitted to held-out examples.

The scores were chosen once, by measurement (docs/outliers.md):

- For images, the density of the statistics (DoSE, arXiv 2006.09273): a mixture of Gaussians that
  is fitted to the statistics of held-out images; and bits/dim beyond those of a codec (arXiv
  1909.11480), in nats of a normal distribution, where they are more than usual. If images are
  compared with symmetric copies, the evidence of the tails of that score and of each comparison.
- For vectors, the evidence of the tails (Fisher 1932): for the negative log-likelihood and the
  distances to neighbors, minus the logarithm of the share of held-out rows with values at least as
  large,

.. math:: s(x) = -\sum_j \log \hat P(T_j \ge t_j(x)).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["CrossFitted", "DensityScore", "Score", "SymmetryScore", "TailScore"]

Score = Callable[[NDArray], NDArray]
"""Function from statistics ``(N, S)`` to scores ``(N,)``, larger for more unusual examples."""

FOLDS = 5
"""Number of folds in which the scores of the held-out examples are computed."""

TIE = 1e-5
"""Difference, relative to the spread of a statistic, up to which two of its values count as
equal."""

COMPONENTS = 3
"""Largest number of Gaussians of the density of statistics."""

PER_COMPONENT = 20
"""Number of held-out examples per statistic that each further Gaussian needs."""


class CrossFitted:
    r"""A score that is fitted to held-out examples, and p-values from the same examples.

    A held-out example is scored by a fit without its fold: otherwise it would look more ordinary
    than new examples do. A new example is compared with the examples of each fold by the fit
    without that fold (cross-conformal prediction, Vovk 2015), since a fit to more examples has
    longer tails, under which the new one would look more ordinary than they do:

    .. math:: p(x) = \frac{1 + \sum_k \#\{i \in S_k : s_{-k}(i) \ge s_{-k}(x)\}}{n + 1}.

    Args:
        fit: function from statistics to a score.
        values: ``(M, S)`` statistics of held-out examples.

    Attributes:
        held_out: ``(M,)`` scores of the held-out examples.

    >>> ordinary = np.random.default_rng(0).normal(size=(99, 1))
    >>> CrossFitted(TailScore, ordinary).p_values(np.array([[-5.0], [5.0]]))
    array([1.  , 0.01])
    """

    def __init__(self, fit: Callable[[NDArray], Score], values: NDArray) -> None:
        n = len(values)
        self._score = fit(values)
        self._folds: list[tuple[Score, NDArray]] = []
        self.held_out = np.empty(n)
        folds = min(FOLDS, n)
        fold = np.arange(n) % folds  # the examples are in random order, or in that of their source
        for k in range(folds):
            score = fit(values[fold != k]) if folds > 1 else self._score
            self.held_out[fold == k] = score(values[fold == k])
            self._folds.append((score, np.sort(self.held_out[fold == k])))

    def __call__(self, values: NDArray) -> NDArray:
        """Return the scores ``(N,)`` of statistics ``(N, S)``."""
        return self._score(values)

    def like_held_out(self, values: NDArray, index: NDArray) -> NDArray:
        """Return scores that are distributed as :attr:`held_out`, if the examples are exchangeable.

        Fits to more examples, and to others, have densities of another scale, by which a large file
        would differ from the held-out examples. So the examples are scored in turn by the fits
        without a fold, as those are.

        Args:
            values: ``(N, S)`` statistics.
            index: ``(N,)`` indices of the examples in their file.
        """
        result = np.empty(len(values))
        for k, (score, _) in enumerate(self._folds):
            own = index % len(self._folds) == k
            if own.any():
                result[own] = score(values[own])
        return result

    def count_as_unusual(self, values: NDArray) -> NDArray:
        """Return how many held-out examples are at least as unusual as each, ``(N,)``."""
        count = np.zeros(len(values))
        for score, held_out in self._folds:
            count += len(held_out) - np.searchsorted(held_out, score(values), side="left")
        return count

    def p_values(self, values: NDArray) -> NDArray:
        """Return the conformal p-values ``(N,)`` of statistics ``(N, S)``."""
        result: NDArray = (1 + self.count_as_unusual(values)) / (1 + len(self.held_out))
        return result


class TailScore:
    """The score of the evidence of the tails.

    Beyond the largest held-out value, where all shares are 0, it grows like the logarithm of the
    distance, so that no statistic outweighs all others.

    Args:
        values: ``(M, S)`` statistics of held-out examples, each larger for more unusual ones.

    >>> score = TailScore(np.arange(9.0)[:, None])
    >>> score(np.array([[0.0], [4.0], [8.0], [80.0]])).round(2)
    array([0.11, 0.69, 2.3 , 5.25])
    """

    def __init__(self, values: NDArray) -> None:
        self._held_out = np.sort(values, axis=0)
        self._spread = np.maximum(self._held_out[-1] - np.median(values, axis=0), 1e-12)

    def __call__(self, found: NDArray) -> NDArray:
        n = len(self._held_out)
        shares = np.arange(1, n + 1) / (n + 1)
        total = np.zeros(len(found))
        for column, held_out, spread in zip(found.T, self._held_out.T, self._spread, strict=True):
            # Two rows that are each other's neighbors have one distance: between equal values the
            # share would jump, and rounding would decide on which side of the jump a row is.
            # Equal values are ranked like the first of them: if half of the rows have the largest
            # value, that value is not unusual.
            first = np.insert(np.diff(held_out) > TIE * spread, 0, True)
            below = np.interp(column, held_out[first], shares[first])
            below[column - held_out[-1] > TIE * spread] = shares[-1]
            beyond = np.clip((column - held_out[-1]) / spread, 0, None)
            total += np.log1p(beyond) - np.log1p(-below)
        return total


class DensityScore:
    r"""The score of an unusual combination of statistics, and of bits beyond the codec's, in nats.

    .. math:: s(x) = -\log \hat p(t(x)) + \tfrac12 \max(0, e(x))^2

    with the excess :math:`e` in standard deviations from its median: a small excess is not unusual.

    Args:
        values: ``(M, S)`` statistics of held-out examples: the excess, and others, whose density
            counts.
    """

    def __init__(self, values: NDArray) -> None:
        from sklearn.mixture import GaussianMixture

        excess, others = values[:, 0], values[:, 1:]
        self._usual, self._spread = np.median(excess), max(float(excess.std()), 1e-12)
        self._mean, std = others.mean(axis=0), others.std(axis=0)
        # A statistic that is constant, up to rounding, carries no information.
        self._used = std > 1e-6 * (1 + np.abs(self._mean))
        self._std = np.where(std > 0, std, 1.0)
        self._mixture: GaussianMixture | None = None
        d = int(self._used.sum())
        if d:
            components = max(1, min(COMPONENTS, len(values) // (PER_COMPONENT * d)))
            shrinkage = 1e-3 + d / len(values)
            mixture = GaussianMixture(components, reg_covar=shrinkage, random_state=0)
            self._mixture = mixture.fit(self._standardized(others))

    def __call__(self, found: NDArray) -> NDArray:
        result: NDArray = np.clip((found[:, 0] - self._usual) / self._spread, 0, 1e6) ** 2 / 2
        if self._mixture is not None:
            result = result - self._mixture.score_samples(self._standardized(found[:, 1:]))
        return result

    def _standardized(self, others: NDArray) -> NDArray:
        # In float64, squares of larger values can no longer be distinguished.
        result: NDArray = np.clip((others - self._mean) / self._std, -1e6, 1e6)[:, self._used]
        return result


class SymmetryScore:
    """The score of the density of statistics and of comparisons with symmetric copies.

    It is the evidence of the tails: in a joint density, a comparison would be one of dozens of
    statistics, and its unusual values would be lost in the spread of all others.

    Args:
        values: ``(M, S)`` statistics of held-out examples as :class:`DensityScore` takes them,
            and in the last columns how much likelier each example is than its copies.
        copies: number of these columns.
    """

    def __init__(self, values: NDArray, copies: int) -> None:
        self._copies = copies
        self._density = DensityScore(values[:, :-copies])
        self._tails = TailScore(self._unusual(values))

    def __call__(self, found: NDArray) -> NDArray:
        return self._tails(self._unusual(found))

    def _unusual(self, values: NDArray) -> NDArray:
        return np.column_stack(
            [self._density(values[:, : -self._copies]), -values[:, -self._copies :]]
        )
