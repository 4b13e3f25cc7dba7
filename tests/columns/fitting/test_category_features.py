"""Features of categories: what a category does to the other columns."""

from __future__ import annotations

import numpy as np
import pytest

from realnvp.columns.fitting.category_features import _effects, embedding


def test_what_a_category_does_counts_beside_what_varies_where_all_else_is_equal():
    """The price of a color is seen at equal weights, though weights vary a hundred times more."""
    rng = np.random.default_rng(0)
    c = rng.integers(0, 4, 2_000)
    weight = rng.normal(size=2_000) + 0.5 * (c == 0)
    price = weight + 0.1 * (c == 2) + 0.01 * rng.normal(size=2_000)
    (found,) = embedding(c[:, None], [4], np.column_stack([weight, price]), np.ones(2_000))
    assert found.shape == (4, 2)
    apart = np.abs(found[:, None, 0] - found[None, :, 0])
    assert apart[2, [0, 1, 3]].min() > 5 * apart[np.ix_([0, 1, 3], [0, 1, 3])].max()
    np.testing.assert_allclose(found[c].mean(0), 0, atol=0.02)
    np.testing.assert_allclose(found[c].T @ found[c] / 2_000, 0.09 * np.eye(2), atol=0.01)


def test_categories_that_do_nothing_have_one_feature():
    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(0, 9, 500), rng.integers(0, 2, 500)])
    found = embedding(codes, [9, 2], rng.normal(size=(500, 3)), np.ones(500))
    assert [part.shape for part in found] == [(9, 1), (2, 1)]


def test_effects_are_those_of_each_column_given_the_others():
    """Of two columns that agree nearly always, only the second one does anything."""
    rng = np.random.default_rng(0)
    b = rng.integers(0, 2, 4_000)
    a = np.where(rng.random(4_000) < 0.9, b, 1 - b)
    x = 2.0 * b[:, None] + 0.1 * rng.normal(size=(4_000, 1))
    (first, second), rest = _effects(np.column_stack([a, b]), [2, 2], x, np.ones(4_000))
    assert abs(first[1, 0] - first[0, 0]) < 0.1
    assert second[1, 0] - second[0, 0] == pytest.approx(2.0, abs=0.1)
    assert rest.std() < 0.15
