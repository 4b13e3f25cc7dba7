"""What the estimator knows of a table's columns and its condition."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from realnvp.estimator.columns import Columns, Condition, row_weights


def table(n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 3))


def look(X: np.ndarray, integers="none") -> Columns:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Columns.of(X, integers)


def test_independent_columns_are_all_free():
    columns = look(table())
    assert columns.free.tolist() == [0, 1, 2]
    assert len(columns.fixed) == 0


@pytest.mark.parametrize(
    "column",
    [
        lambda X: X[:, 0],
        lambda X: -3 * X[:, 1] + 1e4,
        lambda X: X[:, 0] + X[:, 1] - X[:, 2],
        lambda X: np.full(len(X), 1e30),
    ],
)
def test_columns_that_follow_are_fixed_and_come_back(column):
    X = table()
    more = np.column_stack((X[:, :2], column(X), X[:, 2]))
    columns = look(more)
    assert len(columns.free) == 3
    back = columns.table(columns.rows(more))
    np.testing.assert_allclose(back, more, rtol=1e-9, atol=1e-6)
    assert columns.possible(back).all()
    other = more.copy()
    other[:, columns.fixed] += 1.0 + np.abs(other[:, columns.fixed])
    assert not columns.possible(other).any()


def test_a_column_with_a_little_of_its_own_is_free():
    X = table()
    near = X[:, 0] + 1e-4 * X[:, 1] ** 2
    assert len(look(np.column_stack((X, near))).free) == 4


def test_with_fewer_rows_than_columns_only_copies_are_fixed():
    X = np.random.default_rng(0).normal(size=(4, 6))
    assert len(look(X).free) == 6
    assert look(np.column_stack((X, X[:, 2]))).fixed.tolist() == [6]


def test_integer_columns_stay_unless_they_are_copies():
    X = table()
    count = np.random.default_rng(1).poisson(3, 50).astype(float)
    columns = look(np.column_stack((X, count, 2 * count, count)), "auto")
    assert columns.free.tolist() == [0, 1, 2, 3, 4]
    assert columns.integers == (3, 4)
    cents = look(np.column_stack((X, count, count / 4)), "auto")
    assert cents.fixed.tolist() == [4]  # its density given the integers would be infinite


def test_columns_survive_json():
    X = np.column_stack((table(), np.full(50, 2.5), table()[:, 1]))
    columns = look(X)
    twin = Columns.from_dict(json.loads(json.dumps(columns.as_dict())))
    assert np.array_equal(twin.table(twin.rows(X)), X)
    bad = {**columns.as_dict(), "free": [2, 1, 0]}
    with pytest.raises(ValueError, match="contradict"):
        Columns.from_dict(bad)
    with pytest.raises(ValueError, match="reshape"):
        Columns.from_dict({**columns.as_dict(), "offsets": []})


@pytest.mark.parametrize("values", [["b", "a", "b"], [3, 1, 3], [True, False, True]])
def test_classes_are_numbered_in_order_and_survive_json(values):
    condition = Condition.of(values, 3, "kind")
    twin = Condition.from_dict(json.loads(json.dumps(condition.as_dict())))
    for known in (condition, twin):
        codes = known.codes(values, 3)
        assert codes is not None
        assert codes.tolist() == [1, 0, 1]
        assert (known.classes, known.name) == (2, "kind")


def test_numbers_are_a_condition_in_their_own_unit():
    condition = Condition.of([[1.5, 2e6], [0.0, 1e6]], 2)
    codes = condition.codes([[1.0, 5e6]], 1)
    assert codes is not None
    assert codes.tolist() == [[1.0, 5e6]]
    assert condition.name == "condition"


def test_weights_have_the_mean_1_in_any_unit():
    X = table(3)
    for factor in (1e-320, 1.0, 1e300):
        weight = row_weights(np.array([2.0, 1.0, 3.0]) * factor, X)
        assert weight is not None
        np.testing.assert_allclose(weight, [1.0, 0.5, 1.5], rtol=1e-2)
    assert row_weights([4.0, 4.0, 4.0], X) is None
    with pytest.raises(ValueError, match="Negative values"):
        row_weights([1.0, -1.0, 1.0], X)
