"""Numbers as people write them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from realnvp.columns.notations import Notation
from realnvp.columns.schema import TableSchema


@pytest.mark.parametrize(
    ("words", "spec", "numbers"),
    [
        (["3,14", "-2,5", "7"], "#,#", [3.14, -2.5, 7]),
        (["1.234,5", "0,5"], "#.###,#", [1234.5, 0.5]),
        (["1,234", "999", "1,000,000"], "#,###.#", [1234, 999, 1e6]),
        (["3.065 €", "4.500 €"], "#.###,# €", [3065, 4500]),
        (["1,234", "0,999"], "#,#", [1.234, 0.999]),  # no thousands begin with 0
        (["$1,200.50", "-$3.00", "$-4.00"], "$#,###.#", [1200.5, -3, -4]),
        (["EUR 5", "EUR 7,5"], "EUR #,#", [5, 7.5]),
        (["98.8%", "7%", "-1.5%"], "#.#%", [98.8, 7, -1.5]),
        (["5 kg", "12,5 kg"], "#,# kg", [5, 12.5]),
        (["1'200", "300"], "#'###.#", [1200, 300]),
        (["1 200,5", "300,0"], "# ###,#", [1200.5, 300]),
        (["00501", "10115"], "00000.#", [501, 10115]),
        (["(1,200.50)", "3.00"], "(#,###.#)", [-1200.5, 3]),
    ],
)
def test_numbers_are_read_as_people_write_them(words, spec, numbers):
    notation = Notation.of(words)
    assert notation is not None
    assert str(notation) == spec
    assert Notation.from_text(spec) == notation
    np.testing.assert_allclose(notation.numbers(words), numbers)


@pytest.mark.parametrize(
    "words",
    [
        [], ["p1", "p2"], ["1,5", "1.5"], ["5 kg", "5 m"], ["$1", "€1"], ["1.2.3"], ["12-5"],
        ["08:30", "08:30:00"], ["08:75"], ["01.02.2024"], ["x"], ["INV 001"], ["1,23,4"],
        ["<0.3", "0.3"], ["1h05m", "2h30m"],
    ],
)  # fmt: skip
def test_texts_that_are_no_numbers(words):
    assert Notation.of(words) is None


@pytest.mark.parametrize("text", ["", "#", "#.###", "hh:mm", "a" * 99 + "#.#", "# # .#"])
def test_damaged_notations(text):
    with pytest.raises(ValueError, match="is not a notation of numbers"):
        Notation.from_text(text)


def test_what_is_written_otherwise_is_nan():
    notation = Notation.from_text("$#,###.#")
    found = notation.numbers(["$5", "5", 5, None, "€5", "x", "5 %"])
    np.testing.assert_array_equal(found, [5, 5, 5, np.nan, np.nan, np.nan, np.nan])


def test_no_negative_zero():
    assert Notation(decimal=",").write(-0.001, 2) == "0,00"
    assert Notation(decimal=",").write(-0.25, None) == "-0,25"


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    euros = rng.integers(100_000, 900_000, 80) / 100
    account = Notation(thousands=",", brackets=True)
    return pd.DataFrame({
        "price": [Notation(thousands=".", decimal=",", after=" €").write(v, 2) for v in euros],
        "tax": [Notation(decimal=",").write(v, 4) for v in rng.normal(size=80)],
        "share": [None if i % 9 == 0 else f"{i % 37}.5%" for i in range(80)],
        "rate": [f"{5 * (i % 2)}%" for i in range(80)],
        "code": [f"{v:05d}" for v in rng.permutation(90_000)[:80]],
        "gain": [account.write(v, 1) for v in 5e3 * rng.normal(size=80)],
    })  # fmt: skip


def test_a_table_comes_back_as_it_was_written(table: pd.DataFrame):
    schema = TableSchema.of(table)
    kinds = [column.kind for column in schema.columns]
    assert kinds == [
        "continuous",
        "continuous",
        "decimal",
        "categorical",
        "integer",
        "continuous",
    ]
    assert [getattr(column, "notation", "") for column in schema.columns] == [
        "#.###,# €",
        "#,#",
        "#.#%",
        "",
        "00000.#",
        "(#,###.#)",
    ]
    assert schema.columns[4].upper == 99_999
    schema = TableSchema.from_dict(schema.as_dict())
    x, possible = schema.encode(table)
    assert possible.all()
    pd.testing.assert_frame_equal(schema.decode(x), table)
    assert "written #.###,# €" in schema.columns[0].describe()


def test_linear_functions_of_written_numbers():
    x = np.random.default_rng(0).normal(size=60)
    comma = Notation(decimal=",")
    frame = pd.DataFrame({"a": x, "b": [comma.write(2 * v + 1, None) for v in x]})
    schema = TableSchema.of(frame)
    assert [column.kind for column in schema.columns] == ["continuous", "linear"]
    rows, possible = schema.encode(frame)
    assert possible.all()
    assert rows.shape == (60, 1)
    back = schema.decode(rows)["b"]
    np.testing.assert_allclose(comma.numbers(back), comma.numbers(frame.b), atol=1e-9)


def test_one_that_is_written_otherwise_is_named(table: pd.DataFrame):
    schema = TableSchema.of(table)
    table.loc[3, "price"] = "5 dollars"
    with pytest.raises(ValueError, match=r"'price' .* holds '5 dollars' in row 3 .* #.###,# €"):
        schema.encode(table)


def of_numbers(trained: list) -> TableSchema:
    """Return the schema of a table whose column "a" has these numbers."""
    frame = pd.DataFrame({"a": trained * 20, "b": range(len(trained) * 20)})
    return TableSchema.of(frame, {"a": "integer" if isinstance(trained[0], int) else "continuous"})


@pytest.mark.parametrize(
    ("trained", "texts", "numbers"),
    [
        ([0.5, 12.25, 1e6], ["1,234.5", "12.5", "950"], [1234.5, 12.5, 950]),
        ([0.5, 12.25, 1e6], ["1.234,5", "950"], [1234.5, 950]),
        ([0.5, 12.25, 1e6], ["$5", "$1,200.50"], [5, 1200.5]),
        ([0.5, 12.25, 1e6], ["1e5", "2"], [1e5, 2]),
        ([3, 40, 1000], ["1,234", "950"], [1234, 950]),  # a fraction would not be an integer
        (["1.234,50 €", "7,25 €"], ["1234.5", "7.25"], [1234.5, 7.25]),
        (["$1,234.50", "$7.25"], ["1 234,50", "7,25"], [1234.5, 7.25]),
        (["1.234,50 €", "7,25 €"], ["€1234.5", "7.25"], [1234.5, 7.25]),
        (["12.5%", "8.25%"], ["12,5 %", "8"], [12.5, 8]),
    ],
)
def test_other_notations_that_have_one_meaning_are_read(trained, texts, numbers):
    schema = of_numbers(trained)
    new = pd.DataFrame({"a": [*texts, None], "b": range(len(texts) + 1)})
    x, _ = schema.encode(new, unknown=True)
    np.testing.assert_allclose(x[:, schema.places["a"].stop - 1], [*numbers, np.nan])


@pytest.mark.parametrize(
    ("trained", "texts", "says"),
    [
        ([0.5, 12.25, 1e6], ["950", "1,234"], "'1,234' in row 1 .*, which may be 1234 or 1.234"),
        ([0.5, 12.25, 1e6], ["950", "12%"], "'950' in row 0 .*, which may be 950 or 9.5"),
        ([0.5, 12.25, 1e6], ["1,5", "2.5"], "must hold numbers, .* '1,5' in row 0"),
        (["$1,234.50", "$7.25"], ["7 €", "8 €"], r"'7 €' in row 0 .* written .*: \$#,###.#"),
    ],
)
def test_other_notations_without_one_meaning_are_refused(trained, texts, says):
    schema = of_numbers(trained)
    with pytest.raises(ValueError, match=says):
        schema.encode(pd.DataFrame({"a": texts, "b": range(len(texts))}))
