"""Distances to training rows."""

from __future__ import annotations

import numpy as np
import torch

import realnvp
from realnvp.outliers.neighbors import FARTHEST, Neighbors, clamped, latents_of


def test_a_row_is_not_its_own_neighbor_but_a_second_copy_is():
    near = Neighbors(np.array([[0.0], [0.0], [2.0], [5.0]]))
    assert near.distances(np.array([[0.0], [2.0]]), (1, 2)).tolist() == [[0, 2], [2, 2]]
    assert near.nearest(np.array([[4.0]])).tolist() == [3]


def test_fewer_rows_than_neighbors():
    near = Neighbors(np.array([[0.0], [3.0]]))
    assert near.distances(np.array([[1.0]]), (1, 5)).tolist() == [[1, 2]]


def test_latents_without_noise_are_finite():
    flow = realnvp.vector_flow(2, coupling="affine", integers=(1,)).eval()
    z = latents_of(flow, torch.tensor([[0.5, 3.0]]))
    assert torch.equal(z, latents_of(flow, torch.tensor([[0.5, 3.0]])))
    wild = torch.tensor([[torch.nan, torch.inf, -torch.inf]])
    assert clamped(wild).tolist() == [[FARTHEST, FARTHEST, -FARTHEST]]
