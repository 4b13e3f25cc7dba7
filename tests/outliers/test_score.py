"""Scores from statistics."""

from __future__ import annotations

import numpy as np

from realnvp.outliers.score import DensityScore, TailScore, cross_fitted
from realnvp.outliers.significance import p_values


def test_tails_add_up_and_grow_beyond_what_was_held_out():
    values = np.random.default_rng(0).normal(size=(200, 2))
    score = TailScore(values)
    far = score(np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 3.0], [30.0, 3.0], [1e30, 3.0]]))
    assert (np.diff(far) > 0).all()
    assert np.isfinite(far).all()


def test_p_values_of_cross_fitted_scores_are_uniform():
    rng = np.random.default_rng(0)
    for fit, dim in ((TailScore, 4), (DensityScore, 6)):
        small = []
        for _ in range(10):
            values = rng.normal(size=(1300, dim))
            score, held_out = cross_fitted(fit, values[:300])
            small.append((p_values(score(values[300:]), held_out) <= 0.05).mean())
        assert 0.03 < np.mean(small) < 0.07


def test_an_unusual_combination_is_found_in_the_density_and_excess_in_one_direction_only():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 3))
    values[:, 2] = values[:, 1] + 0.1 * rng.normal(size=600)
    score = DensityScore(values)
    usual, unusual = score(np.array([[0.0, 1.0, 1.0], [0.0, 1.0, -1.0]]))
    assert unusual > usual + 3
    less, more = score(np.array([[-4.0, 0.0, 0.0], [4.0, 0.0, 0.0]]))
    assert more > less + 3


def test_few_examples_are_enough():
    score, held_out = cross_fitted(TailScore, np.ones((1, 2)))
    assert np.isfinite(score(np.zeros((3, 2)))).all()
    assert len(held_out) == 1
    constant = DensityScore(np.ones((5, 3)))
    assert np.isfinite(constant(np.ones((2, 3)))).all()
