"""Rows and conditions as layers receive them, and moments in any unit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from helpers.rows import normals, vectors
from realnvp.columns.fitting.rows import moments
from realnvp.columns.start import TableStart
from realnvp.config import DataConfig, VectorModel, VectorRecipe
from realnvp.data import load_data
from realnvp.training.initialization import build


def test_moments_of_constant_and_huge_columns():
    x = torch.tensor([[1e300, 2.0], [-1e300, 2.0]], dtype=torch.float64)
    mean, std = moments(x)
    assert mean.tolist() == [0.0, 2.0]
    assert std.tolist() == [1e300, 1.0]
    equal = torch.full((57, 1), 1 / 3, dtype=torch.float64)  # whose mean is off by rounding
    assert moments(equal, torch.linspace(0.1, 1, 57))[1].tolist() == [1.0]


def test_rows_and_conditions_have_the_form_that_layers_take():
    x = normals(6).float()
    start = TableStart.of(vectors(x, weight=torch.arange(1.0, 7)).training_rows, seed=0)
    assert torch.equal(start.rows, x.double())
    torch.testing.assert_close(start.weight, torch.arange(1.0, 7, dtype=torch.float64) / 21)
    assert vectors(x).training_rows.encoded_condition() is None
    classes = vectors(x, torch.arange(6) % 3).training_rows.encoded_condition()
    assert classes.tolist() == 2 * torch.eye(3).tolist()
    numbers = vectors(x, normals(6, 2) * 1e6 + 1e9).training_rows.encoded_condition()
    torch.testing.assert_close(numbers.mean(0), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(numbers.std(0, correction=0), torch.ones(2, dtype=torch.float64))


def test_another_seed_is_not_the_first_one_again(tmp_path):
    """The tables of categories were once those of the first seed that a data set was used with."""
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 3, 200)
    path = tmp_path / "table.csv"
    pd.DataFrame({
        "kind": [f"k{k}" for k in kind], "count": generator.poisson(3 + 4 * kind)
    }).to_csv(path, index=False)  # fmt: skip
    data = load_data(DataConfig(str(path)))
    recipes = [VectorRecipe(VectorModel(mixture_init=1, hidden=4), seed=seed) for seed in (0, 1)]
    fresh = [build(recipe, replace(data)).state_dict() for recipe in recipes]
    again = [build(recipe, data).state_dict() for recipe in recipes]
    assert not all(torch.equal(v, fresh[1][name]) for name, v in fresh[0].items())
    for one, other in zip(fresh, again, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
