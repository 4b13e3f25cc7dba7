"""What the values of a column say that it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from realnvp.data.column_detection import ColumnDetector
from realnvp.data.columns import TableSchema


def found(values, declared=None, numbers=False):
    """Return what is found of a column."""
    return ColumnDetector(pd.Series(values), "a", "column a", numbers, False).column(declared)


@pytest.mark.parametrize(
    ("values", "kind", "step"),
    [
        (np.arange(500) ** 2, "integer", 1.0),
        (25 * (np.arange(500) ** 2), "decimal", 25.0),
        (25 * (np.arange(10) ** 2), "integer", 1.0),  # too few to say
        (np.arange(500) % 40 / 2, "decimal", 0.5),
        (np.linspace(0, 1, 500) ** 2, "continuous", 0.0),
        (np.repeat([4, 6, 8], 100), "categorical", 0.0),
    ],
)
def test_numbers_have_the_largest_step_that_fits(values, kind, step):
    column = found(values)
    assert (column.kind, column.step) == (kind, step)


def test_whole_numbers_stay_so_if_declared_or_of_an_array():
    values = 25 * np.arange(500)
    assert found(values, "integer").step == 1.0
    assert found(values.astype(float), numbers=True).kind == "integer"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, "a", 2.0], "mixes text and other values: row 1"),
        (["1", "2", "x"], r"mixes numbers and text: row 3 .* holds 'x'"),
        ([None, None, None], "only gaps"),
        (["2020-01-02", "2020-02-03", "3.4.2020"], r"more than one format: row 3"),
        ([1.0, np.inf, 2.0], "holds inf, first in row 2"),
        ([1j, 2j, 3j], "complex128"),
    ],
)
def test_refused_columns(values, says):
    with pytest.raises(ValueError, match=f"column 'a' of my table .*{says}"):
        TableSchema.of(pd.DataFrame({"a": values}), where="my table")


def test_identifiers_are_refused_by_name():
    frame = pd.DataFrame({"id": [f"n{i}" for i in range(10_000)], "a": np.arange(10_000.0)})
    with pytest.raises(ValueError, match=r"'id' .* 10,000 different texts .* drop it"):
        TableSchema.of(frame)
    assert TableSchema.of(frame, {"id": "drop"}).names == ("a",)
