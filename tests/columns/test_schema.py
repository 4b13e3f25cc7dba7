"""Columns of every kind: what is found, as numbers, and back."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from realnvp.columns.schema import TableSchema

N = 400


def people(seed: int = 0) -> pd.DataFrame:
    """Return a table with columns of every kind."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "town": rng.choice(["Rome", "Oslo", "Bonn"], N, p=[0.7, 0.2, 0.1]),
        "flag": rng.random(N) < 0.3,
        "temperature": np.round(rng.normal(38, 1, N) * 2) / 2,
        "cylinders": rng.choice([4, 6, 8], N),
        "visits": rng.poisson(20, N),
        "income": np.exp(rng.normal(10, 1, N)),
        "size": pd.Categorical(rng.choice(["S", "M"], N), ["S", "M", "L"], ordered=True),
        "loss": np.where(rng.random(N) < 0.2, np.nan, rng.normal(size=N)),
        "hour": pd.Timestamp("2020-01-01", tz="Europe/Rome")
        + pd.to_timedelta(rng.integers(0, 80, N) * 24 + rng.integers(5, 22, N), unit="h"),
        "born": [f"{day:%d/%m/%Y}" for day in pd.Timestamp("2021-03-01")
                 + pd.to_timedelta(rng.integers(0, 300, N), unit="D")],
        "constant": 5,
        "score": pd.array(np.where(rng.random(N) < 0.1, None, rng.integers(0, 999, N)), "Int64"),
        "narrow": rng.normal(size=N).astype("float32"),
        "paid": np.where(rng.random(N) < 0.4, 0, rng.exponential(size=N)),
        "answer": np.where(rng.random(N) < 0.1, None, rng.choice(["yes", "no"], N)),
    })  # fmt: skip
    return frame.assign(town2=frame.town, twice=2 * frame.income + 3)


KINDS = {
    "town": "categorical", "flag": "categorical", "temperature": "decimal",
    "cylinders": "categorical", "visits": "integer", "income": "continuous",
    "size": "categorical", "loss": "continuous", "hour": "datetime", "born": "datetime",
    "constant": "constant", "score": "integer", "narrow": "continuous", "paid": "continuous",
    "answer": "categorical", "town2": "copy", "twice": "linear",
}  # fmt: skip


def test_kinds_are_found_and_the_table_comes_back():
    frame = people()
    schema = TableSchema.of(frame)
    assert {column.name: column.kind for column in schema.columns} == KINDS
    for known in (schema, TableSchema.from_dict(json.loads(json.dumps(schema.as_dict())))):
        assert known == schema
        x, possible = known.encode(frame)
        assert x.shape == (N, known.dim) == (N, len(known.features))
        assert possible.all()
        back = known.decode(x)
        assert (back.dtypes == frame.dtypes).all()
        pd.testing.assert_frame_equal(back.drop(columns="twice"), frame.drop(columns="twice"))
        np.testing.assert_allclose(back.twice, frame.twice)


def test_columns_may_stand_in_another_order_and_others_are_ignored():
    frame = people()
    schema = TableSchema.of(frame)
    x, _ = schema.encode(frame)
    other = frame[frame.columns[::-1]].assign(more="text")
    np.testing.assert_array_equal(schema.encode(other)[0], x)


def test_columns_that_add_no_information_may_be_missing():
    frame = people()
    schema = TableSchema.of(frame)
    less = frame.drop(columns=["constant", "town2", "twice"])
    for each in (less, less.assign(twice=frame.twice)):
        for found, whole in zip(schema.encode(each), schema.encode(frame), strict=True):
            np.testing.assert_array_equal(found, whole)
    with pytest.raises(ValueError, match="no column 'town'"):
        schema.encode(frame.drop(columns="town"))


def test_numbers_keep_to_steps_and_bounds():
    schema = TableSchema.of(people())
    x, _ = schema.encode(people())
    x = x + np.random.default_rng(0).normal(scale=50, size=x.shape)
    places = schema.places
    for column in schema.columns:  # codes of categories are always codes
        if column.kind == "categorical" or getattr(column, "has_indicator", False):
            x[:, places[column.name].start] = 0
    back = schema.decode(x)
    assert ((back.temperature * 2) % 1 == 0).all()
    assert (back[["temperature", "visits", "income", "paid"]].min() >= 0).all()
    kept = TableSchema.of(people(), keep_range=True).decode(x)
    assert kept.visits.max() <= people().visits.max()


def test_declared_kinds():
    frame = people()[["cylinders", "visits", "temperature", "town"]]
    kinds = {"cylinders": "integer", "visits": "categorical", "town": "drop"}
    kinds = {**kinds, "temperature": "continuous"}
    schema = TableSchema.of(frame, kinds)
    assert {c.name: c.kind for c in schema.columns} == kinds
    assert schema.names == ("cylinders", "visits", "temperature")
    assert list(schema.decode(schema.encode(frame)[0])) == list(schema.names)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("town", "Ulm", r"'Ulm' in row 2 \(counting from 0\), but had only Bonn, Oslo, Rome in"),
        ("cylinders", 7, "7 in row 2 .* declare it integer"),
        ("town", None, "has a missing value in row 2 .*, but had none in training"),
        ("born", "2021-13-01", "not a date: write dates in the format of training, %d/%m/%Y"),
        ("income", "much", "must hold numbers"),
    ],
)
def test_values_that_training_did_not_have(column, value, says):
    frame = people()
    schema = TableSchema.of(frame)
    other = frame[:5].copy()
    other[column] = [*frame[column][:2], value, *frame[column][3:5]]
    with pytest.raises(ValueError, match=f"'{column}' .*{says}"):
        schema.rows(other)


def test_values_that_training_did_not_have_may_be_impossible_instead():
    frame = people()
    schema = TableSchema.of(frame)
    other = frame[:5].copy()
    other.loc[1, "town"], other.loc[2, "town"], other.loc[3, "cylinders"] = "Ulm", None, 7
    x, possible = schema.encode(other)
    assert possible.tolist() == [True, False, False, False, True]
    places = schema.places
    assert np.isnan(x[[1, 2, 3], [places[c].start for c in ("town", "town", "cylinders")]]).all()
    known, _ = schema.encode(frame[:5])
    assert np.array_equal(x[[0, 4]], known[[0, 4]], equal_nan=True)
    marked, found = schema.marked_rows(other)
    assert [(each.column, each.rows, each.values) for each in found] == [
        ("town", [2], []),
        ("town", [1], ["Ulm"]),
        ("cylinders", [3], [7]),
        ("town2", [1, 2], ["Rome", "Rome"]),  # no longer equal
    ]
    assert np.array_equal(marked[[0, 3, 4]], x[[0, 3, 4]], equal_nan=True)
    assert np.isnan(marked[1:3, schema.always_present]).all()
    assert schema.marked_rows(frame)[1] == []


@pytest.mark.parametrize(
    ("column", "value", "marked", "reason"),
    [
        ("constant", 6, None, "but was always 5 in training"),
        ("town2", "Oslo", None, "but was always equal to 'town' in training"),
        ("twice", 0.0, None, "but followed from income in training"),
    ],
)
def test_rows_that_do_not_follow_are_marked_where_they_should(column, value, marked, reason):
    frame = people()
    schema = TableSchema.of(frame)
    other = frame.copy()
    other.loc[4, ["town", "town2"]] = "Rome"
    before = schema.encode(other)[0]
    other.loc[4, column] = value
    x, (found,) = schema.marked_rows(other)
    cell = f"column {column!r} of the table holds {value!r} in row 4 (counting from 0), {reason}"
    assert str(found) == cell
    names = [each.name for each in schema.features]
    new = np.isnan(x) & ~np.isnan(before)
    where = [i for i in schema.always_present if marked is None or names[i] in marked]
    assert np.flatnonzero(new[4]).tolist() == where
    assert not np.delete(new, 4, 0).any()


def test_rows_that_do_not_follow_are_impossible():
    frame = people()
    schema = TableSchema.of(frame)
    for column, value in (("constant", 6), ("town2", "Oslo"), ("twice", 0.0)):
        other = frame.copy()
        other.loc[3, "town"] = "Rome"
        other.loc[3, column] = value
        possible = schema.encode(other)[1]
        assert not possible[3]
        with pytest.raises(ValueError, match=rf"{column}.* holds {value!r} in row 3"):
            schema.rows(other)


def test_unknown_gaps_are_what_columns_that_follow_from_them_say():
    frame = people().assign(
        more=lambda t: 3 * t.income - 2 * t.visits + t.narrow.astype(float),
        size2=lambda t: t["size"],
    )
    schema = TableSchema.of(frame)
    kinds = {column.name: column.kind for column in schema.columns}
    assert (kinds["size2"], kinds["more"], kinds["twice"]) == ("copy", "linear", "linear")
    known, _ = schema.encode(frame)
    other = frame.copy()
    other.loc[:4, ["town", "income", "size"]] = None
    other.loc[2:4, "visits"] = None  # known, since both incomes and their sum are
    other.loc[4, ["town2", "twice", "size2"]] = None
    x, _ = schema.encode(other, unknown=True)
    for name in ("town", "income", "size", "visits"):
        place = schema.places[name]
        np.testing.assert_allclose(x[:4, place], known[:4, place], rtol=1e-9)
        assert np.isnan(x[4, place]).all()
    assert (x[:4, schema.places["visits"]] % 1 == 0).all()


def test_unknown_gaps_are_left_open():
    frame = people()
    schema = TableSchema.of(frame)
    frame.loc[0, ["temperature", "loss", "town", "town2"]] = np.nan
    x, _ = schema.encode(frame, unknown=True)
    for name in ("temperature", "loss", "town"):
        assert np.isnan(x[0, schema.places[name]]).all()


def test_features_are_one_hot_and_finite():
    frame = people()[["town", "loss"]]
    schema = TableSchema.of(frame)
    features = schema.as_condition(schema.encode(frame)[0])
    assert features.shape == (N, 3 + 2 + 1)
    assert (features[:, :3].sum(1) == 1).all()
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"}, {"name": 3}, {"step": -1.0}, {"source": 99}, {"more": 1},
        {"kind": "linear"}, {"resolution": 7}, {"origin": float("nan")}, {"dtype": "table"},
    ],
)  # fmt: skip
def test_damaged_descriptions_are_refused(change):
    saved = TableSchema.of(people()).as_dict()
    saved["columns"][0] |= change
    with pytest.raises(ValueError, match="saved column"):
        TableSchema.from_dict(saved)


def test_numbers_and_dates_in_text_are_parsed():
    frame = pd.DataFrame({
        "cost": [f"{i},25 €" for i in range(40)],
        "born": [f"{1 + i % 28:02}/03/2021" for i in range(40)],
        "town": ["Rome", "Oslo"] * 20,
    })  # fmt: skip
    parsed = TableSchema.of(frame).parsed(frame)
    assert parsed["cost"].tolist() == [i + 0.25 for i in range(40)]
    assert parsed["born"].iloc[1] == pd.Timestamp("2021-03-02")
    assert parsed["town"].tolist() == frame["town"].tolist()


def test_a_gap_that_a_copy_fills_contradicts_nothing():
    frame = pd.DataFrame({"x": np.linspace(0, 1, 40) ** 2, "y": np.linspace(1, 3, 40) ** 3})
    schema = TableSchema.of(frame.assign(copy=frame.x))
    gaps = frame.assign(copy=frame.x)
    gaps.loc[[0, 1], "x"] = gaps.loc[[1, 2], "copy"] = None
    x, found = schema.inspect(gaps, unknown=True)
    assert not found
    assert np.isnan(x[:, 0]).tolist() == [False, True] + [False] * 38
    assert x[0, 0] == frame.x[0]
    gaps.loc[3, "copy"] = 7.0
    assert [each.rows for each in schema.inspect(gaps, unknown=True)[1]] == [[3]]
