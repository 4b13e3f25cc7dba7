"""Columns that are linear functions of others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from realnvp.columns.kinds import Continuous, Decimal, Linear

REAL = [Continuous(name, "float64") for name in "abc"]


def table(n: int = 50) -> pd.DataFrame:
    """Return two columns, and one that is twice the first, less the second, plus 5."""
    a, b = np.random.default_rng(0).normal(size=(2, n)) * [[1.0], [1e6]]
    return pd.DataFrame({"a": a, "b": b, "c": 2 * a - b + 5})


def test_a_linear_function_has_the_weights_of_its_columns():
    found = Linear.among(REAL, table())
    (linear,) = (column for column in found if column.kind == "linear")
    frame = table()
    expected = linear.weights[0] + frame.to_numpy() @ np.array(linear.weights[1:-1])
    np.testing.assert_allclose(expected, frame[linear.name], rtol=1e-7, atol=linear.weights[-1])
    assert linear.weights[1 + list("abc").index(linear.name)] == 0
    assert [column for column in found if column.kind != "linear"] == [
        column for column in REAL if column.name != linear.name
    ]


def test_independent_columns_few_rows_and_steps_are_left_as_they_are():
    noisy = table().assign(c=lambda t: t.c + np.random.default_rng(1).normal(size=50))
    for columns, frame in (
        (REAL[:2], table()[["a", "b"]]),
        (REAL, noisy),
        (REAL, table(4)),
        ([Decimal(c.name, "float64", step=0.1) for c in REAL], table()),
    ):
        assert Linear.among(columns, frame) == tuple(columns)


def test_a_column_that_float64_cannot_resolve_is_named():
    with pytest.raises(ValueError, match="column a varies less"):
        Linear.among(REAL, table().assign(a=lambda t: 1e16 + 2 * (t.a > 0)))
