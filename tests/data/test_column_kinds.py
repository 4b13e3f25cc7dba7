"""What a column is, in words and as plain values."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from realnvp.data.column_kinds import Column


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (Column("a", "decimal", "int64", step=25.0, lower=0.0), "step 25; 0 to inf"),
        (Column("a", "categorical", "str", ("x", "y")), "2 categories: x, y"),
        (Column("a", "continuous", "float64", repeated=(0.0,)), "often 0"),
        (Column("a", "datetime", "datetime64[ns]", zone="UTC"), "days, UTC"),
        (Column("a", "constant", "int64", value=5), "always 5"),
    ],
)  # fmt: skip
def test_columns_in_words_and_back_from_json(column, words):
    assert column.describe() == words
    assert Column.from_dict(json.loads(json.dumps(asdict(column))), 1) == column


def test_sizes_count_the_status_and_the_time():
    assert Column("a", "datetime", "", missing=True, timed=True).size == 3
    assert Column("a", "continuous", "", repeated=(0.0,)).size == 2
    assert Column("a", "copy", "").size == 0
