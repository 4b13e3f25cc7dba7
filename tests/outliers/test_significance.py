"""P-values, false discoveries and the test of a whole file."""

from __future__ import annotations

import numpy as np
import pytest

from realnvp.outliers.significance import benjamini_hochberg, p_values, shift_p_value


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
