"""Messages about values that a table cannot have."""

from __future__ import annotations

import pytest

from realnvp.columns.impossible import Impossible, impossible_text, missing_instead


@pytest.mark.parametrize(
    ("rows", "values", "says"),
    [
        ([3], [6.5], "column 'a' of t.csv holds 6.5 in row 3 (counting from 0), but why"),
        ([3, 1200], ["x", "x"], "holds 'x' in rows 3, 1,200 (counting"),
        (range(9), list("abababcde"), "'a', 'b', 'c', ... (5 in all) in rows 0, 1, 2, 3, 4, ..."),
        ([3], [], "has a missing value in row 3 (counting"),
        ([3, 4], [], "has missing values in rows 3, 4 (counting"),
    ],
)  # fmt: skip
def test_column_rows_and_values_are_named(rows, values, says):
    assert says in str(Impossible("a", "t.csv", rows, values, "but why"))


def test_only_the_first_columns_are_described():
    found = [Impossible(name, "t", [0], [1], "but why") for name in "abcde"]
    assert impossible_text(found[:3]).count("but why") == 3
    assert impossible_text(found).endswith("; and 2 more columns")
    assert impossible_text(found) in missing_instead(found)


def test_rows_of_a_part_are_rows_of_the_whole():
    part = Impossible("a", "t from row 200 on", [1, 5], [2, 3], "but why")
    assert part.from_row(200, "t") == Impossible("a", "t", [201, 205], [2, 3], "but why")
