"""Rows and conditions as layers receive them, and moments in any unit."""

from __future__ import annotations

import torch

from helpers.rows import normals, vectors
from realnvp.training.rows import moments, rows_of, training_condition


def test_moments_of_constant_and_huge_columns():
    x = torch.tensor([[1e300, 2.0], [-1e300, 2.0]], dtype=torch.float64)
    mean, std = moments(x)
    assert mean.tolist() == [0.0, 2.0]
    assert std.tolist() == [1e300, 1.0]
    equal = torch.full((57, 1), 1 / 3, dtype=torch.float64)  # whose mean is off by rounding
    assert moments(equal, torch.linspace(0.1, 1, 57))[1].tolist() == [1.0]


def test_rows_and_conditions_have_the_form_that_layers_take():
    x = normals(6).float()
    rows, shares = rows_of(vectors(x, weight=torch.arange(1.0, 7)), seed=0)
    assert torch.equal(rows, x.double())
    torch.testing.assert_close(shares, torch.arange(1.0, 7, dtype=torch.float64) / 21)
    assert training_condition(vectors(x)) is None
    classes = training_condition(vectors(x, condition=torch.arange(6) % 3))
    assert classes.tolist() == 2 * torch.eye(3).tolist()
    numbers = training_condition(vectors(x, condition=normals(6, 2) * 1e6 + 1e9))
    torch.testing.assert_close(numbers.mean(0), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(numbers.std(0, correction=0), torch.ones(2, dtype=torch.float64))
