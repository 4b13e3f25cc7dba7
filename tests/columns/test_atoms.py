"""Mixtures of a smooth distribution and atoms."""

from __future__ import annotations

import math

import pytest
import torch

from realnvp.bijections.gaussian_mixture import log_normal
from realnvp.columns.atoms import between_atoms, with_atoms


def full(value: float, like: torch.Tensor) -> torch.Tensor:
    return torch.full_like(like, value)


def test_between_atoms_the_derivative_is_that_of_the_score():
    s = torch.linspace(-45, 45, 181, dtype=torch.float64)
    for below, above in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.6), (0.2, 0.25)):
        parts = full(below, s), full(0.0, s), full(above, s)
        v, slope = with_atoms(s, s, *parts, full(0.5, s))
        h = 1e-5
        ends = (s + d for d in (h, -h))
        up, down = (with_atoms(end, end, *parts, full(0.5, s))[0] for end in ends)
        # Beside an atom, a tail is a sliver of the scores that doubles cannot resolve.
        seen = (up - down).abs() > 1e-8
        assert seen.sum() > 10
        torch.testing.assert_close(
            slope[seen], ((up - down) / (2 * h))[seen].log(), atol=2e-3, rtol=1e-4
        )
        assert slope.isfinite().all()
        near = s.abs() < 6
        back = between_atoms(v, parts[0], parts[2])
        torch.testing.assert_close(back[near], s[near], atol=1e-5, rtol=1e-5)


def test_far_tails_are_those_of_the_smooth_distribution():
    s = torch.tensor([-300.0, -40.0, 40.0, 300.0], dtype=torch.float64)
    below, above = torch.tensor([0, 0, 0.5, 0.5]).double(), torch.tensor([0.5, 0.5, 0, 0]).double()
    v, slope = with_atoms(s, s, below, full(0, s), above, full(0.5, s))
    torch.testing.assert_close(v, s, atol=0.02, rtol=1e-3)
    torch.testing.assert_close(between_atoms(v, below, above), s, atol=1e-6, rtol=1e-6)
    # The density is half of the smooth one.
    torch.testing.assert_close(log_normal(v) + slope, log_normal(s) + math.log(0.5))


@pytest.mark.parametrize("width", [0.0, 0.4])
def test_an_atom_has_its_probability_whatever_the_noise(width: float):
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    low, high = full(0.2, u), full(0.2 + width, u)
    v, slope = with_atoms(low, high, full(0.3, u), full(0.1, u), full(0.2, u), u)
    inside = 0.4 * (torch.special.ndtr(high) - torch.special.ndtr(low))
    torch.testing.assert_close((log_normal(v) + slope).exp(), 0.1 + inside)
    assert (v.diff() > 0).all()
    ends = torch.special.ndtr(v[[0, -1]])
    torch.testing.assert_close(ends[1] - ends[0], (0.1 + inside)[0])
