r"""Significance of scores: conformal p-values, false discoveries, and a test of a whole file.

A score has no unit. Its rank among the scores of held-out examples has: if an example is
exchangeable with them, its p-value

.. math:: p(x) = \frac{1 + \#\{i : s_i \ge s(x)\}}{n + 1}

is at most :math:`\alpha` with a probability of at most :math:`\alpha`, whatever the score is
(Vovk, Gammerman and Shafer 2005; Bates et al., arXiv 2104.08279). Of a file with many rows, some
p-values are small by chance, which the procedure of Benjamini and Hochberg accounts for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["benjamini_hochberg", "nothing_can_be_found", "p_values", "shift_p_value"]


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
    ordered = np.sort(values)
    below = np.flatnonzero(ordered <= alpha * np.arange(1, len(values) + 1) / max(len(values), 1))
    threshold = ordered[below[-1]] if len(below) else -1.0
    marked: NDArray = values <= threshold
    return marked


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
    from scipy.stats import ks_2samp

    found = ks_2samp(np.asarray(scores, dtype=np.float64), np.asarray(calibration, np.float64))
    return float(found.pvalue)
