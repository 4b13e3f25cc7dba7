"""Scores from statistics."""

from __future__ import annotations

import numpy as np
import pytest

from realnvp.outliers.score import CrossFitted, DensityScore, SymmetryScore, TailScore
from realnvp.outliers.significance import shift_p_value


def test_tails_add_up_and_grow_beyond_what_was_held_out():
    values = np.random.default_rng(0).normal(size=(200, 2))
    score = TailScore(values)
    far = score(np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 3.0], [30.0, 3.0], [1e30, 3.0]]))
    assert (np.diff(far) > 0).all()
    assert np.isfinite(far).all()


def test_what_many_have_is_nothing_unusual_and_more_than_all_have_is():
    values = np.repeat([[0.0, 7.0], [1.0, 7.0]], 30, axis=0)
    score = TailScore(values)
    ordinary, new = score(values), score(np.array([[1.1, 7.0], [1.0, 7.1]]))
    assert ordinary.max() < 1 < 4 < new.min()
    few = TailScore(values[::10])(values)  # a score does not depend on how many were held out
    np.testing.assert_allclose(few, ordinary, atol=0.4)


@pytest.mark.parametrize(
    ("fit", "dim", "n"), [(TailScore, 4, 300), (DensityScore, 6, 300), (TailScore, 4, 40)]
)
def test_p_values_are_uniform_with_many_held_out_examples_and_with_few(fit, dim, n):
    rng = np.random.default_rng(0)
    small = []
    for _ in range(30):
        values = rng.normal(size=(n + 1000, dim))
        small.append((CrossFitted(fit, values[:n]).p_values(values[n:]) <= 0.05).mean())
    assert 0.042 < np.mean(small) < 0.058


def test_an_ordinary_file_does_not_differ_from_the_held_out_examples():
    rng = np.random.default_rng(0)
    mixing, index = rng.normal(size=(4, 20)), np.arange(1000)
    for _ in range(5):  # of statistics that depend on each other, as those of images do
        values = rng.normal(size=(1300, 4)) @ mixing + 0.1 * rng.normal(size=(1300, 20))
        score = CrossFitted(DensityScore, values[:300])
        own = score.like_held_out(values[300:], index)
        assert shift_p_value(own, score.held_out) > 0.01
    assert shift_p_value(score.like_held_out(values[300:] + 1, index), score.held_out) < 1e-6


def test_an_unusual_combination_is_found_in_the_density_and_excess_in_one_direction_only():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 3))
    values[:, 2] = values[:, 1] + 0.1 * rng.normal(size=600)
    score = DensityScore(values)
    usual, unusual = score(np.array([[0.0, 1.0, 1.0], [0.0, 1.0, -1.0]]))
    assert unusual > usual + 3
    less, none, more = score(np.array([[-4.0, 0.0, 0.0], [0.0, 0.0, 0.0], [4.0, 0.0, 0.0]]))
    assert less == pytest.approx(none, abs=0.1)
    assert more > none + 5


def test_few_examples_are_enough():
    score = CrossFitted(TailScore, np.ones((1, 2)))
    assert np.isfinite(score(np.zeros((3, 2)))).all()
    assert len(score.held_out) == 1
    constant = DensityScore(np.ones((5, 3)))
    assert np.isfinite(constant(np.ones((2, 3)))).all()


def test_a_copy_that_is_likelier_is_found_among_many_statistics():
    rng = np.random.default_rng(0)
    others = rng.standard_t(4, size=(500, 30))
    values = np.column_stack([others, rng.normal(1, 0.5, size=(500, 2))])
    strange = values[:50].copy()
    strange[:, -1] *= -1
    joint, tails = DensityScore(values), SymmetryScore(values, copies=2)
    rank = [np.mean(score(strange)[:, None] > score(values[50:])) for score in (joint, tails)]
    assert rank[0] < 0.87 < 0.95 < rank[1]
    # One that is more natural than usual is nothing strange.
    natural = values[:1] + np.append(np.zeros(31), 9)
    assert tails(natural) <= tails(values[:1])
