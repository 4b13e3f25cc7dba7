"""What the values of a column say that it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from realnvp.columns.kinds.base import detect
from realnvp.columns.look import Look
from realnvp.columns.schema import TableSchema


def found(values, declared=None, numbers=False):
    """Return what is found of a column."""
    return detect(Look(pd.Series(values), "a", "column a", declared, numbers))


@pytest.mark.parametrize(
    ("values", "kind", "step"),
    [
        (np.arange(500) ** 2, "integer", 1.0),
        (25 * (np.arange(500) ** 2), "decimal", 25.0),
        (25 * (np.arange(10) ** 2), "integer", 1.0),  # too few to say
        (np.arange(500) % 40 / 2, "decimal", 0.5),
        (np.linspace(0, 1, 500) ** 2, "continuous", 0.0),
        (np.repeat([4, 6, 8], 100), "categorical", 0.0),
        (np.arange(500) % 40 * 0.1, "decimal", 0.1),  # 0.30000000000000004
        (np.arange(500) % 60 / 7, "continuous", 0.0),  # a list, without a step
        (np.append(1_000 * (np.arange(500) % 60), [2, 4, 18]), "integer", 1.0),  # odd ones may come
        (np.append(np.arange(500) % 40 / 2, 3.26), "decimal", 0.01),
    ],
)
def test_numbers_have_the_largest_step_that_fits(values, kind, step):
    column = found(values)
    assert (column.kind, getattr(column, "step", 0.0)) == (kind, step)


def test_whole_numbers_stay_so_if_declared_or_of_an_array():
    values = 25 * np.arange(500)
    assert found(values, "integer").step == 1.0
    assert found(values.astype(float), numbers=True).kind == "integer"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, "a", 2.0], "mixes text and other values: row 0"),
        (["1", "2", "x"], r"mixes numbers and text: row 2 \(counting from 0\) holds 'x'"),
        (["2020-01-02", "2020-02-03", "3.4.2020"], r"more than one format: row 2"),
        ([1.0, np.inf, 2.0], "holds inf, first in row 1"),
        ([1j, 2j, 3j], "complex128"),
    ],
)
def test_refused_columns(values, says):
    with pytest.raises(ValueError, match=f"column 'a' of my table .*{says}"):
        TableSchema.of(pd.DataFrame({"a": values}), where="my table")


def test_identifiers_are_left_out(capsys):
    frame = pd.DataFrame({"id": [f"n{i}" for i in range(10_000)], "a": np.arange(10_000.0) ** 2})
    schema = TableSchema.of(frame)
    assert schema.names == ("a",)
    assert "10,000 different texts in 10,000 rows" in schema.columns[0].describe()
    assert TableSchema.from_dict(schema.as_dict()) == schema


def test_integers_that_number_the_rows_are_left_out():
    keys = np.random.default_rng(0).permutation(100_000 + np.arange(200))
    assert found(keys).describe() == (
        "left out: the integers 100000 to 100199, each once, as keys are"
    )
    assert found(keys[:99]).kind == "integer", "so few may be chance"
    assert found(np.append(keys[:-1], keys[0])).kind == "integer"
    assert found(3 * keys).kind == "decimal"
    frame = pd.DataFrame({"id": keys})
    assert TableSchema.of(frame, {"id": "integer"}).names == ("id",)


def test_many_texts_among_numbers_are_no_slips():
    tickets = [str(i % 60) if i % 3 else f"A/{i % 20}" for i in range(200)]
    assert found(tickets).kind == "categorical"
    assert found([str(i) if i % 3 else f"{i}x" for i in range(200)]).kind == "drop"


def test_few_texts_of_which_most_are_numbers_are_categories():
    assert found(["4"] * 60 + ["f"] * 40).kind == "categorical"
    drives = found(["4"] * 60 + ["f"] * 30 + ["r"] * 10)
    assert (drives.kind, drives.categories) == ("categorical", ("4", "f", "r"))
    with pytest.raises(ValueError, match=r"row 99 .* holds 'x'; leave it empty .*, or drop it"):
        found(["4"] * 60 + ["5"] * 39 + ["x"])


@pytest.mark.parametrize("ones", [1, 2, 50])
def test_zeros_and_ones_are_categories_however_rare_the_ones(ones):
    assert found(np.arange(1000) < ones).kind == "categorical"
    assert found((np.arange(1000) < ones).astype(int)).kind == "categorical"
    assert found(1 + (np.arange(1000) < 2)).kind == "integer"  # a count, such as of engines


@pytest.mark.parametrize("code", [-999.0, 9999.0])
def test_codes_for_gaps_do_not_widen_the_range(code):
    x = np.round(np.random.default_rng(0).normal(5, 1, 300), 1)
    x[:30] = code
    column = found(x)
    assert (column.repeated, column.lower) == ((code,), 0.0)
    assert -10 < column.range[0] < column.range[1] < 20
    schema = TableSchema.of(pd.DataFrame({"a": x}))
    coordinates, possible = schema.encode(pd.DataFrame({"a": x}))
    assert possible.all()
    assert np.isnan(coordinates[:30, 1]).all()
    np.testing.assert_array_equal(schema.decode(coordinates)["a"], x)
    x[0] = 40 * code  # one far value is no code
    assert x[0] not in found(x).repeated


def test_empty_columns_stay_empty():
    frame = pd.DataFrame({"a": np.arange(5.0), "b": [None] * 5, "c": [np.nan] * 5})
    schema = TableSchema.of(frame)
    assert [column.describe() for column in schema.columns[1:]] == ["empty"] * 2
    x, possible = schema.encode(frame)
    assert possible.all()
    pd.testing.assert_frame_equal(schema.decode(x), frame)
    assert not schema.encode(frame.assign(c=1.0))[1].any()


DAYS = pd.Series(pd.date_range("2021-01-03", "2023-06-30", periods=40))


def test_days_as_integers():
    frame = pd.DataFrame(
        {"day": DAYS.dt.strftime("%Y%m%d").astype(int), "n": 20_200_100 + np.arange(40)}
    )
    schema = TableSchema.of(frame)
    assert [column.kind for column in schema.columns] == ["datetime", "integer"]
    pd.testing.assert_frame_equal(schema.decode(schema.encode(frame)[0]), frame)


@pytest.mark.parametrize(
    ("every", "months", "step", "words"),
    [
        ("D", False, 1, "days"), ("7D", False, 7, "every 7 days"), ("MS", True, 1, "months"),
        ("QS", True, 3, "every 3 months"), ("YS", True, 12, "every 12 months"),
    ],
)  # fmt: skip
def test_dates_on_a_grid_stay_on_it(every, months, step, words):
    frame = pd.DataFrame({"day": pd.date_range("1951-01-01", periods=40, freq=every)})
    schema = TableSchema.of(frame)
    (column,), (coordinate,) = schema.columns, schema.features
    assert (column.months, column.describe()) == (months, words)
    assert (coordinate.kind, coordinate.step) == ("step", step)
    x, possible = schema.encode(frame)
    assert possible.all()
    pd.testing.assert_frame_equal(schema.decode(x + 0.4 * step), frame)


@pytest.mark.parametrize("texts", [["1.2.3", "1.10.0"], ["2021-01", "2021-02"], ["May", "June"]])
def test_versions_and_few_months_are_categories(texts):
    assert found(texts * 20).kind == "categorical"
