"""The values of one column as coordinates, and back."""

from __future__ import annotations

import numpy as np
import pandas as pd

from realnvp.data.column_values import decode_column, encode_column, same_values
from realnvp.data.columns import TableSchema


def test_whole_numbers_of_a_step_come_back_as_such():
    frame = pd.DataFrame({"mass": 25 * (np.arange(60) % 37)})
    column = TableSchema.of(frame).columns[0]
    x, good = encode_column(column, frame.mass, "mass", False)
    assert good.all()
    back = decode_column(column, x + 11.0)  # a draw may be off its grid by rounding
    pd.testing.assert_series_equal(back.rename("mass"), frame.mass)


def test_gaps_are_equal_to_gaps_only():
    one, other = pd.Series([1.0, None, None, "x"]), pd.Series([1.0, None, 3.0, "y"])
    assert same_values(one, other).tolist() == [True, True, False, False]


def test_texts_of_gaps_and_nothing():
    frame = pd.DataFrame({"a": ["", None, "x", ""] * 5})
    schema = TableSchema.of(frame)
    assert schema.columns[0].categories == ("", "x")
    pd.testing.assert_frame_equal(schema.decode(schema.encode(frame)[0]), frame)
