"""Distances to training rows."""

from __future__ import annotations

import numpy as np
import torch

import realnvp
from realnvp.outliers.neighbors import FARTHEST, Neighbors, RowNeighbors, clamped, latents_of


def test_a_row_is_not_its_own_neighbor_but_a_second_copy_is():
    near = Neighbors(np.array([[0.0], [0.0], [2.0], [5.0]]))
    assert near.distances(np.array([[0.0], [2.0]]), (1, 2)).tolist() == [[0, 2], [2, 2]]
    assert near.nearest(np.array([[4.0]])).tolist() == [3]


def test_fewer_rows_than_neighbors():
    near = Neighbors(np.array([[0.0], [3.0]]))
    assert near.distances(np.array([[1.0]]), (1, 5)).tolist() == [[1, 2]]


def test_squashed_columns_are_not_drowned_by_one_with_heavy_tails():
    """A row between groups is nearer than a stray value of the other column, unless squashed."""
    generator = np.random.default_rng(0)
    groups = np.repeat([-1.0, 1.0], 200) + 0.01 * generator.normal(size=400)
    rows = np.column_stack([groups, generator.standard_t(1, size=400)])
    between, stray = np.array([[0.0, 0.0]]), np.array([[1.0, 3 * rows[:, 1].max()]])
    near, both = RowNeighbors(rows), np.concatenate([between, stray])
    plain, squashed = near.distances(both, (1,))[:, 0], near.squashed(both, (1,))[:, 0]
    assert plain[0] < 0.2 * plain[1]
    assert squashed[0] > 0.3 * squashed[1]


def test_gaps_and_constant_columns_are_the_mean():
    rows = np.array([[1.0, 5.0, np.nan], [3.0, 5.0, np.nan], [5.0, 5.0, np.nan]])
    near = RowNeighbors(rows)
    for distances in (near.distances, near.squashed):
        assert np.isfinite(distances(np.array([[np.nan, 5.0, 2.0]]), (1, 2))).all()
        assert distances(np.array([[3.0, 5.0, np.nan]]), (1,)) > 1  # not its own neighbor
    assert near.nearest(np.array([[4.9, 5.0, 0.0]])).tolist() == [2]


def test_a_category_counts_by_how_rare_it_is_and_not_by_its_index():
    generator = np.random.default_rng(0)
    rows = np.column_stack(
        [generator.normal(size=1000), np.arange(1000) % 100 // 90, np.ones(1000)]
    )
    near, other = (
        RowNeighbors(np.column_stack([rows[:, 0], codes, rows[:, 2]]), [False, True, False])
        for codes in (rows[:, 1], 9 - 4 * rows[:, 1])
    )
    new = np.array([[0.0, 0, 1], [9.0, 1, 1], [0.0, 3, 1], [0.0, np.nan, 1]])
    codes = np.array([9, 5, 7, np.nan])
    for way in ("distances", "squashed"):
        found = getattr(near, way)(new, (1, 5))
        assert np.allclose(
            found, getattr(other, way)(np.column_stack([new[:, 0], codes, new[:, 2]]), (1, 5))
        )
    found = near.distances(new, (1,))[:, 0]
    unit = np.sqrt(2 * 0.9 * 0.1)  # of a category that one row of ten has
    assert found[0] < 0.1
    assert np.allclose(found[2:], 2**0.5 / unit, rtol=0.01)


def test_latents_without_noise_are_finite():
    flow = realnvp.vector_flow(2, coupling="affine", integers=(1,)).eval()
    z = latents_of(flow, torch.tensor([[0.5, 3.0]]))
    assert torch.equal(z, latents_of(flow, torch.tensor([[0.5, 3.0]])))
    wild = torch.tensor([[torch.nan, torch.inf, -torch.inf]])
    assert clamped(wild).tolist() == [[FARTHEST, FARTHEST, -FARTHEST]]
