r"""Significance of scores: conformal p-values, false discoveries, and a test of a whole file.

A score has no unit. Its rank among the scores of held-out examples has: if an example is
exchangeable with them, its p-value

.. math:: p(x) = \frac{1 + \#\{i : s_i \ge s(x)\}}{n + 1}

is at most :math:`\alpha` with a probability of at most :math:`\alpha`, whatever the score is
(Vovk, Gammerman and Shafer 2005; Bates et al., arXiv 2104.08279). Of a file with many rows, some
p-values are small by chance, which the procedure of Benjamini and Hochberg accounts for. Both this
and the test of a whole file need only how many examples have each rank: a :class:`Histogram`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Histogram", "benjamini_hochberg", "nothing_can_be_found", "p_values", "shift_p_value"]

EXACT = 10_000
"""Largest number of examples for which the test of a whole file is exact, as SciPy's is."""


class Histogram:
    r"""Counts of p-values and of scores, from which any number of examples is judged exactly.

    With n held-out examples there are n + 1 p-values, and 2n + 1 places for a score among them:
    equal to one, between two, or beyond all. Histograms of the parts of a table add up to the
    histogram of the table.

    Args:
        held_out: ``(n,)`` scores of the held-out examples.

    Attributes:
        p: int64 ``(n + 1,)``, how many examples have the p-value ``(1 + k) / (n + 1)``.
        places: int64 ``(2n + 1,)``, how many have their score at each place.

    >>> parts = [Histogram([1.0, 2.0, 3.0]) for _ in range(2)]
    >>> parts[0].add([0.25, 1.0], [9.0, 0.5])
    >>> parts[1].add([0.25, 0.75], [8.0, 1.5])
    >>> whole = parts[0] + parts[1]
    >>> whole.p, whole.threshold(0.5)
    (array([2, 0, 1, 1]), 0.25)
    """

    def __init__(self, held_out: ArrayLike) -> None:
        self.held_out = np.sort(np.asarray(held_out, dtype=np.float64))
        n = len(self.held_out)
        self.p, self.places = np.zeros(n + 1, np.int64), np.zeros(2 * n + 1, np.int64)

    def add(self, p: ArrayLike, scores: ArrayLike = ()) -> None:
        """Count examples.

        Args:
            p: ``(N,)`` conformal p-values by these held-out examples.
            scores: ``(N,)`` scores for the test of all, those of
                :meth:`~realnvp.outliers.OutlierScorer.like_held_out`.
        """
        ranks = np.rint(np.asarray(p) * len(self.p)).astype(np.int64) - 1
        self.p += np.bincount(ranks, minlength=len(self.p))
        self.places += self._placed(scores)

    def __add__(self, other: Histogram) -> Histogram:
        """Return the histogram of both parts.

        Raises:
            ValueError: if their held-out examples are others.
        """
        if not np.array_equal(self.held_out, other.held_out):
            raise ValueError("the parts have p-values by other held-out examples")
        total = Histogram(self.held_out)
        total.p, total.places = self.p + other.p, self.places + other.places
        return total

    @property
    def values(self) -> NDArray:
        """The p-values ``(n + 1,)`` that are counted."""
        result: NDArray = np.arange(1, len(self.p) + 1) / len(self.p)
        return result

    def at_most(self, p: float) -> int:
        """Return how many examples have at most this p-value."""
        return int(self.p[self.values <= p].sum())

    def threshold(self, alpha: float) -> float:
        """Return the p-value up to which :func:`benjamini_hochberg` marks; -1 if it marks none."""
        return _threshold(self.values, self.p, alpha)

    def shift_p_value(self) -> float:
        """Return the p-value of :func:`shift_p_value` for all examples."""
        from scipy.stats import ks_2samp, kstwo

        known = self._placed(self.held_out)
        n, total = len(self.held_out), int(self.places.sum())
        if max(n, total) <= EXACT:  # places keep the order, which is all that the test needs
            place = np.arange(len(known))
            found = ks_2samp(np.repeat(place, self.places), np.repeat(place, known))
            return float(found.pvalue)
        distance = np.abs(np.cumsum(self.places) / total - np.cumsum(known) / n).max()
        return float(kstwo.sf(distance, round(n * total / (n + total))))

    def _placed(self, scores: ArrayLike) -> NDArray:
        """Return how many scores have each place."""
        values = np.asarray(scores, dtype=np.float64)
        place = sum(np.searchsorted(self.held_out, values, side) for side in ("left", "right"))
        return np.bincount(place, minlength=len(self.places))


def p_values(scores: ArrayLike, calibration: ArrayLike) -> NDArray:
    """Return the conformal p-value of each score: the share of calibration scores as large.

    Args:
        scores: ``(N,)`` scores, larger for more unusual examples.
        calibration: ``(M,)`` scores of held-out examples.

    Returns:
        ``(N,)``, between ``1 / (M + 1)`` and 1.

    >>> p_values([0.5, 9.0], [1.0, 2.0, 3.0])
    array([1.  , 0.25])
    """
    held_out = np.sort(np.asarray(calibration, dtype=np.float64))
    if not len(held_out):
        raise ValueError("p-values need the scores of held-out examples, and there are none")
    smaller = np.searchsorted(held_out, np.asarray(scores, dtype=np.float64), side="left")
    result: NDArray = (1 + len(held_out) - smaller) / (1 + len(held_out))
    return result


def benjamini_hochberg(p: ArrayLike, alpha: float) -> NDArray:
    """Return which of many p-values are significant, with at most a share ``alpha`` by chance.

    The procedure of Benjamini and Hochberg (1995), which holds for conformal p-values of one
    calibration set, too (arXiv 2104.08279, theorem 2): the expected share of ordinary examples
    among those that are marked is at most ``alpha``.

    Args:
        p: ``(N,)`` p-values.
        alpha: largest expected share of false discoveries.

    Returns:
        ``(N,)``, boolean.

    >>> benjamini_hochberg([0.001, 0.02, 0.5, 0.9], alpha=0.05)
    array([ True,  True, False, False])
    """
    values = np.asarray(p, dtype=np.float64)
    marked: NDArray = values <= _threshold(*np.unique(values, return_counts=True), alpha)
    return marked


def _threshold(values: NDArray, counts: NDArray, alpha: float) -> float:
    """Return the largest of increasing p-values that is significant; -1 if none is."""
    rank = np.cumsum(counts)
    significant = values[values <= alpha * rank / max(1, counts.sum())]
    return float(significant[-1]) if len(significant) else -1.0


def nothing_can_be_found(p: ArrayLike, marked: ArrayLike, held_out: int, advice: str) -> str | None:
    """Return a warning if no example is marked only since no p-value can be small enough.

    Args:
        p: ``(N,)`` p-values.
        marked: ``(N,)``, which of them are marked.
        held_out: number of held-out examples that they are the ranks of.
        advice: what to do; the end of the sentence.
    """
    smallest = 1 / (1 + held_out)
    if np.any(marked) or np.min(p, initial=1.0) > smallest:
        return None
    return (
        f"no example is marked: by {held_out:,} held-out examples no p-value can be below "
        f"{smallest:.2g}, which the most unusual ones have; {advice}"
    )


def shift_p_value(scores: ArrayLike, calibration: ArrayLike) -> float:
    """Return the p-value of the hypothesis that a batch has the distribution of the calibration.

    The two-sample test of Kolmogorov and Smirnov on the scores. It uses the whole batch: a small
    shift of all examples, none of which is an outlier, is detected, too.

    Args:
        scores: ``(N,)`` scores of the batch, by the same function as those of the calibration. If
            a calibration fits the function, too, they are those of
            :meth:`~realnvp.outliers.OutlierScorer.like_held_out`.
        calibration: ``(M,)`` scores of held-out examples.

    >>> from scipy.stats import norm
    >>> ordinary = norm.ppf((np.arange(100) + 0.5) / 100)
    >>> bool(shift_p_value(ordinary[::2], ordinary) > 0.5)
    True
    >>> bool(shift_p_value(ordinary[::2] + 1, ordinary) < 0.001)
    True
    """
    histogram = Histogram(calibration)
    histogram.add([], scores)
    return histogram.shift_p_value()
