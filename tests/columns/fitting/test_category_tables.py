"""Which categories depend on which others, and the tables that say how."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from realnvp.columns.fitting.category_tables import (
    Frequencies,
    _tree,
    _tree_given,
    _with_parents,
    edges_of,
    tilted,
)


def frequencies(codes, *sizes: int) -> list[Frequencies]:
    """Return how often each column has each category."""
    w = np.ones(len(codes))
    return [Frequencies.of(codes[:, j], w, np.full(n, 0.5)) for j, n in enumerate(sizes)]


def test_what_was_not_seen_of_numbers_has_the_share_of_their_own_map():
    own = Frequencies.of(np.array([0, 0, 0, 2]), np.ones(4), np.array([0.1, 1e-3, 0.1]))
    np.testing.assert_allclose(own.shares, np.array([3.5, 1e-3, 1.5]) / 5.001)
    np.testing.assert_allclose(own.rest, np.array([2.5, 1e-3, 0.5]) / 3.001)
    assert own.alone == pytest.approx(3 * np.log(own.rest[0]) + np.log(own.rest[2]))


def test_the_tree_joins_what_depends_on_each_other():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 2_000)
    b = np.where(rng.random(2_000) < 0.9, a, rng.integers(0, 4, 2_000))
    c = np.where(rng.random(2_000) < 0.9, b // 2, rng.integers(0, 2, 2_000))
    codes = np.column_stack([a, rng.integers(0, 3, 2_000), b, c])
    order, parents, tables = _tree(codes, frequencies(codes, 4, 3, 4, 2), np.ones(2_000))
    pairs = {frozenset((j, p)) for j, p in enumerate(parents) if p is not None}
    assert pairs == {frozenset((0, 2)), frozenset((2, 3))}  # and 1 is alone
    assert all(p is None or order.index(p) < order.index(j) for j, p in enumerate(parents))
    for table in tables:
        np.testing.assert_allclose(table.sum(1), 1)
        assert (table > 0).all()


def test_a_column_gets_the_parents_that_raise_the_likelihood():
    """Whether a and b differ says nothing about either of them alone."""
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(0, 2, (3, 1_000))
    child = np.where(rng.random(1_000) < 0.9, a ^ b, 1 - (a ^ b))
    codes, w = np.column_stack([a, b, c, child]), np.ones(1_000)
    parents, table = _with_parents(3, [2, 1, 0], [0], codes, frequencies(codes, 2, 2, 2, 2), w)
    assert parents == [0, 1]
    np.testing.assert_allclose(table.sum(1), 1)
    np.testing.assert_allclose(table[:, 1], [0.1, 0.9, 0.9, 0.1], atol=0.05)  # of 00, 01, 10, 11
    alone, shares = _with_parents(2, [1, 0], [], codes, frequencies(codes, 2, 2, 2, 2), w)
    assert (alone, shares.shape) == ([], (1, 2))


def test_edges_of_unseen_categories_ascend():
    edges = edges_of(np.array([[1.0, 0.0, 0.0]]))
    assert edges.shape == (1, 4)
    assert edges[0, [0, 3]].tolist() == [0, 1]
    assert (np.diff(edges[0]) > 0).all()


def test_links_are_directed_by_what_the_condition_says():
    """A bill says the species, and the species the island; not the other way round."""
    rng = np.random.default_rng(0)
    species = rng.integers(0, 3, 600)
    island = np.where(species == 0, rng.integers(0, 3, 600), species)
    bill = torch.as_tensor(species + 0.4 * rng.normal(size=600))[:, None]
    codes, w = np.column_stack([island, species]), np.ones(600)
    order, parents, tables, slopes = _tree_given(
        codes, frequencies(codes, 3, 3), w, [None, 0], bill
    )
    assert order == [1, 0]
    assert parents == [1, None]
    assert slopes[1].abs().max() > 10 * slopes[0].abs().max()
    np.testing.assert_allclose(np.concatenate(tables).sum(1), 1)


def test_a_condition_that_says_nothing_leaves_tables_as_they_are():
    rng = np.random.default_rng(1)
    table = np.array([[0.3, 0.7]])
    codes = (rng.random(400) < 0.7).astype(int)
    given = torch.as_tensor(rng.normal(size=(400, 3)))
    _, found, slopes = tilted(codes, None, table, given, np.ones(400))
    assert slopes.abs().max() < 0.1
    np.testing.assert_allclose(found, table, atol=0.05)
