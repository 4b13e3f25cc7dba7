"""P-values, false discoveries and the test of a whole file."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from realnvp.outliers.significance import (
    EXACT,
    Histogram,
    benjamini_hochberg,
    p_values,
    shift_p_value,
)


def test_p_values_are_valid_for_any_score():
    rng = np.random.default_rng(0)
    small = []
    for _ in range(400):
        scores = rng.standard_t(2, 120)
        small.append((p_values(scores[99:], scores[:99]) <= 0.05).mean())
    assert np.mean(small) == pytest.approx(0.05, abs=0.01)


def test_ties_count_as_equally_strange():
    assert p_values([1.0], [1.0, 1.0, 0.0]).tolist() == [0.75]


def test_no_calibration_is_refused():
    with pytest.raises(ValueError, match="held-out"):
        p_values([1.0], [])


def test_false_discoveries_are_a_small_share():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(100):
        held_out, ordinary = rng.normal(size=1000), rng.normal(size=180)
        scores = np.concatenate([ordinary, rng.normal(6, 1, 20)])
        marked = benjamini_hochberg(p_values(scores, held_out), 0.1)
        shares.append(marked[:180].sum() / max(1, marked.sum()))
        assert marked[180:].mean() > 0.9
    assert np.mean(shares) < 0.1 + 0.02


def test_nothing_is_marked_where_nothing_is_small():
    assert not benjamini_hochberg([0.4, 0.9], 0.05).any()
    assert len(benjamini_hochberg([], 0.05)) == 0


def test_a_shift_without_outliers_is_found():
    rng = np.random.default_rng(0)
    held_out = rng.normal(size=500)
    assert shift_p_value(rng.normal(size=500), held_out) > 0.01
    assert shift_p_value(0.5 * rng.normal(size=500), held_out) < 1e-6


def by_sorting(p: np.ndarray, alpha: float) -> np.ndarray:
    """Return what Benjamini and Hochberg mark, as they wrote it."""
    ordered = np.sort(p)
    below = np.flatnonzero(ordered <= alpha * np.arange(1, len(p) + 1) / len(p))
    return p <= (ordered[below[-1]] if len(below) else -1.0)


@pytest.mark.parametrize("count", [40, 700, EXACT + 5000])
def test_histograms_of_parts_judge_as_all_p_values_do(count):
    rng = np.random.default_rng(count)
    for digits in (1, 2, 9):  # ties among all scores, some, none
        held_out = rng.normal(size=199).round(digits)
        scores = np.r_[rng.normal(size=count - 20), rng.normal(5, 1, 20)].round(digits)
        p = p_values(scores, held_out)
        seen = Histogram(held_out)
        for part in np.array_split(rng.permutation(count), 7):
            new = Histogram(held_out)
            new.add(p[part], scores[part])
            seen = seen + new
        for alpha in (0.01, 0.1, 0.3):
            marked = by_sorting(p, alpha)
            assert np.array_equal(p <= seen.threshold(alpha), marked)
            assert np.array_equal(benjamini_hochberg(p, alpha), marked)
            assert seen.at_most(seen.threshold(alpha)) == marked.sum()
        expected = ks_2samp(scores, held_out).pvalue
        assert seen.shift_p_value() == pytest.approx(expected, rel=1e-12)


def test_histograms_of_different_calibrations_do_not_add_up():
    with pytest.raises(ValueError, match="by other held-out examples"):
        Histogram([1.0, 2.0]) + Histogram([1.0, 3.0])
