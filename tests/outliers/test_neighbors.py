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


def test_latents_without_noise_are_finite():
    flow = realnvp.vector_flow(2, coupling="affine", integers=(1,)).eval()
    z = latents_of(flow, torch.tensor([[0.5, 3.0]]))
    assert torch.equal(z, latents_of(flow, torch.tensor([[0.5, 3.0]])))
    wild = torch.tensor([[torch.nan, torch.inf, -torch.inf]])
    assert clamped(wild).tolist() == [[FARTHEST, FARTHEST, -FARTHEST]]
