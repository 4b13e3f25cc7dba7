"""Settings that depend on what is fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from realnvp.columns.schema import TableSchema
from realnvp.estimator import RealNVPDensity
from realnvp.tables.defaults import Defaults

ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 2)))
NUMBERS = TableSchema.of(ROWS, numbers=True)
"""Two columns of numbers."""


def of_column(x: torch.Tensor, condition_dim: int = 0, classes: int | None = None) -> Defaults:
    """Return the settings for a column of numbers."""
    frame = pd.DataFrame({"x": x.numpy()})
    schema = TableSchema.of(frame, numbers=True)
    return Defaults.of(torch.as_tensor(schema.encode(frame)[0]), schema, condition_dim, classes)


def test_many_rows_have_wider_networks_that_are_trained_for_longer():
    many, few = (Defaults(n, 0, False, False).settings(None, 1) for n in (10_001, 10_000))
    assert (many["hidden"], many["max_steps"], many["decay"]) == (64, 6_000, "cosine")
    assert (few["hidden"], few["max_steps"], few["decay"]) == (32, 2_000, "constant")


@pytest.mark.parametrize(
    ("rows", "numbers", "condition_dim", "halves", "expected"),
    [
        (2_000, 3, 0, False, True),
        (1_999, 3, 0, False, False),
        (2_000, 2, 0, False, False),
        (2_000, 31, 0, False, False),
        (2_000, 3, 1, False, True),
        (2_000, 3, 0, True, False),
    ],
)
def test_several_numbers_of_many_rows_are_modeled_one_after_the_other(
    rows: int, numbers: int, condition_dim: int, halves: bool, expected: bool
):
    table = np.random.default_rng(0).normal(size=(rows, numbers))
    schema = TableSchema.of(pd.DataFrame(table).add_prefix("c"), numbers=True)
    defaults = Defaults.of(torch.as_tensor(table), schema, condition_dim, None, halves)
    assert defaults.is_autoregressive == expected
    recipe = RealNVPDensity(hidden=16)._recipe(0, defaults.members, defaults)
    assert (recipe.model.architecture == "autoregressive") == expected
    assert recipe.model.hidden == 16


def test_two_columns_given_numbers_are_trained_for_longer():
    two = [Defaults.of(torch.zeros(n, 2), NUMBERS, 3, None) for n in (1_999, 2_000)]
    assert [each.settings(None, 1)["max_steps"] for each in two] == [2_000, 6_000]
    classes = Defaults.of(torch.zeros(2_000, 2), NUMBERS, 3, 3)
    assert classes.settings(None, 1)["max_steps"] == 2_000


@pytest.mark.parametrize(("count", "expected"), [(8, 32), (100, 19), (3_000, 0), (0, 0)])
def test_many_numbers_of_a_condition_have_fewer_intervals(count: int, expected: int):
    assert Defaults(40, count, True, False).bins == expected


def test_one_column_given_numbers_is_averaged_and_one_of_few_values_classified():
    numbers = of_column(torch.randn(300), condition_dim=2)
    assert (numbers.members, numbers.is_regression, numbers.is_of_few_values) == (8, True, False)
    assert numbers.settings(None, 8)["coupling"] == "gaussian_mixture"
    digits = of_column(torch.arange(300) % 10, condition_dim=2)
    assert (digits.members, digits.is_of_few_values) == (8, True)
    assert digits.settings(None, 8)["coupling"] == "piecewise_linear"
    assert digits.settings("affine", 1)["condition_bins"] == 0
    alone, of_classes = of_column(torch.randn(300)), of_column(torch.randn(300), 3, classes=3)
    assert (alone.members, of_classes.members, of_classes.is_regression) == (1, 1, False)
    assert Defaults(20_001, 2, True, False).members == 1


def test_the_own_settings_of_an_estimator_take_precedence():
    own = RealNVPDensity(hidden=7, patience=1)._recipe(0, 1, Defaults(99, 0, False, False))
    assert (own.model.hidden, own.training.patience, own.training.steps) == (7, 1, 2_000)
