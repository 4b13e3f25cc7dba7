"""What the estimator knows of a table's columns and its condition."""

from __future__ import annotations

import json
import warnings
from datetime import date, time
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from realnvp.columns.schema import TableSchema
from realnvp.estimator import RealNVPDensity
from realnvp.estimator.checks import row_weights, schema_of
from realnvp.tables.condition import Condition
from realnvp.tables.frames import as_table


def table(n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 3))


def look(X: np.ndarray, integers="none") -> TableSchema:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return schema_of(pd.DataFrame(X), integers, None, numbers=True)


def kinds(schema: TableSchema) -> str:
    """Return the first letters of the columns' kinds: k is a copy, and s constant."""
    letters = {"copy": "k", "constant": "s"}
    return "".join(letters.get(c.kind, c.kind[0]) for c in schema.columns)


def test_independent_columns_are_all_free():
    assert kinds(look(table())) == "ccc"


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
    more = pd.DataFrame(np.column_stack((X[:, :2], X[:, 2], column(X))))
    schema = look(more)
    assert schema.dim == 3
    x, possible = schema.encode(more)
    assert possible.all()
    np.testing.assert_allclose(schema.decode(x), more, rtol=1e-9, atol=1e-6)
    other = more.copy()
    other[3] += 1.0 + np.abs(other[3])
    assert not schema.encode(other)[1].any()


def test_a_column_with_a_little_of_its_own_is_free():
    X = table()
    near = X[:, 0] + 1e-4 * X[:, 1] ** 2
    assert look(np.column_stack((X, near))).dim == 4


def test_with_fewer_rows_than_columns_only_copies_are_fixed():
    X = np.random.default_rng(0).normal(size=(4, 6))
    assert look(X).dim == 6
    assert kinds(look(np.column_stack((X, X[:, 2])))) == "cccccck"


def test_integer_columns_stay_unless_they_are_copies():
    X = table()
    count = np.random.default_rng(1).poisson(3, 50).astype(float)
    assert kinds(look(np.column_stack((X, count, 2 * count, count)), "auto")) == "ccciik"
    cents = look(np.column_stack((X, count, count / 4)), "auto")
    assert kinds(cents) == "cccil"  # its density given the integers would be infinite


def test_a_condition_of_mixed_columns_becomes_features_and_survives_json():
    frame = pd.DataFrame({"cut": ["a", "b", "a"] * 4, "size": [1.5, 2.25, 4.125] * 4})
    condition = Condition.of(frame, 12)
    assert (condition.dim, condition.name) == (3, "cut,size")
    for known in (condition, Condition.from_dict(json.loads(json.dumps(condition.as_dict())))):
        codes = known.codes(frame[:2], 2)
        assert codes is not None
        assert codes.tolist() == [[1, 0, 1.5], [0, 1, 2.25]]
        one = known.codes({"cut": "b", "size": 3.0}, 2, repeat=True)
        assert one is not None
        assert one.tolist() == [[0, 1, 3.0]] * 2
    with pytest.raises(ValueError, match="pass a DataFrame with cut, size"):
        condition.codes([1.0], 1)


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


@pytest.mark.parametrize(("values", "classes"), [(3, 3), (50, 50), (51, None), (70, None)])
def test_integers_are_classes_if_they_are_few(values, classes):
    condition = np.arange(10 * values) % values
    found = Condition.of(condition, len(condition))
    assert found.classes == classes
    assert found.dim == (0 if classes else 1)
    new = found.codes(condition[:2] + (0 if classes else 1000), 2)
    assert new is not None
    assert new.shape == ((2,) if classes else (2, 1))


def test_integers_of_few_rows_each_are_numbers():
    age = np.arange(60) % 20  # 3 rows of each
    assert Condition.of(age, 60).dim == 1
    assert Condition.of(np.arange(6) % 3, 6).classes == 3
    assert Condition.of(np.tile(age, 2), 120).classes == 20
    assert Condition.of(age.astype(str), 60).classes == 20


def test_numbers_of_a_condition_are_matched_by_the_names_of_their_columns():
    frame = pd.DataFrame({"z": [0.5, 1.5], "w": [3.5, 4.25]})
    condition = Condition.from_dict(Condition.of(frame, 2).as_dict())
    expected = condition.codes(frame, 2)
    assert torch.equal(condition.codes(frame[["w", "z"]], 2), expected)
    assert torch.equal(condition.codes(frame.to_numpy(), 2), expected)
    one = condition.codes(frame[["w", "z"]][:1], 3, repeat=True)
    assert torch.equal(one, expected[:1].expand(3, 2))
    with pytest.raises(ValueError, match="condition has no column 'w': pass z, w"):
        condition.codes(frame.rename(columns={"w": "v"}), 2)


def test_two_columns_of_one_name_are_refused():
    frame = pd.DataFrame(table(), columns=["a", 3, "3"])
    with pytest.raises(ValueError, match="two columns are called '3'"):
        as_table(frame)


def in_types_of_others() -> pd.DataFrame:
    """Return a table of databases' and Arrow's types, with a gap in the last row."""
    when = [date(2020, 1, 31), date(2021, 2, 28), None]
    arrow = {"n": [1, 2, None], "d": when, "price": [Decimal("0.10"), Decimal(2), None]}
    frame = pa.table(arrow).to_pandas(types_mapper=pd.ArrowDtype)
    return frame.assign(
        when=pd.Series(when, dtype=object),
        time=pd.Series([time(8, 30), time(9), None], dtype=object),
        cost=pd.Series([Decimal("0.10"), 3, None], dtype=object),
        month=pd.PeriodIndex(["2020-01", "2021-02", None], freq="M"),
        bin=pd.cut(pd.Series([0.5, 1.5, np.nan]), [0, 1, 2]),
        half=np.array([0.1, 2.5, np.nan], dtype=np.float16),
        wide=np.array([0.1, 2.5, np.nan], dtype=np.longdouble),
        kind=pd.array(["a", "b", None]),
    )


def test_types_of_databases_and_arrow_are_as_in_files():
    frame = in_types_of_others().set_axis([7, 7, 3])
    table = as_table(frame)
    assert table.index.tolist() == [7, 7, 3]
    assert table.isna().sum().tolist() == [1] * 11
    row = table.iloc[0].to_dict()
    days = (row.pop("d"), row.pop("when"), row.pop("month"))
    assert days == tuple(map(pd.Timestamp, ("2020-01-31", "2020-01-31", "2020-01-01")))
    assert row.pop("half") == pytest.approx(0.1, rel=1e-3)
    assert row == {
        "n": 1, "price": 0.1, "time": "08:30:00", "cost": 0.1, "bin": "(0, 1]", "wide": 0.1,
        "kind": "a",
    }  # fmt: skip
    assert table["bin"].cat.ordered
    assert table["n"].dtype == frame["n"].dtype, "its gap needs it"


@pytest.mark.filterwarnings("ignore:.*(left out of it|Degrees|cannot)")
def test_tables_of_databases_are_fitted_and_filled_in():
    several = pd.concat([in_types_of_others()] * 40, ignore_index=True)
    several["n"] = pd.array([i % 50 for i in range(120)], dtype="int64[pyarrow]")
    several["x"] = np.random.default_rng(0).normal(size=120)
    density = RealNVPDensity(max_steps=1, mixture_init=1, random_state=0).fit(several)
    assert np.isfinite(density.score_samples(several)).all()
    assert density.sample(20).isna().any().sum() > 4
    filled, _ = density.impute(several, candidates=20)
    assert not filled.isna().any(axis=None)
    assert set(filled["bin"]) == {"(0, 1]", "(1, 2]"}


def test_conditions_with_two_columns_of_one_name_are_refused():
    x = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        Condition.of(pd.DataFrame(x, columns=["a", "a"]), 30)
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        Condition.of(pd.DataFrame(x, columns=["a", "b"]), 30).codes(
            pd.DataFrame(x, columns=["a", "a"]), 30
        )


def test_a_class_for_each_row_is_no_condition():
    dates = [f"2024-01-{day:02d}" for day in range(1, 21)]
    with pytest.raises(ValueError, match=r"20 different classes in 20 rows.*dates to numbers"):
        Condition.of(dates, 20)
    assert Condition.of(["a", "b", "c"], 3).classes == 3
