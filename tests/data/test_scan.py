"""Rows that show what columns hold."""

from __future__ import annotations

import pandas as pd

from realnvp.data.scan import RepresentativeRows


def test_rows_that_show_a_smaller_step_are_found():
    steps = RepresentativeRows()
    parts = [[100.0, 300.0, 200.0], [100.0, 250.0, 200.0, 225.0], [200.0, 220.5], [150.0, 175.0]]
    found = [steps.rows(pd.DataFrame({"a": part})) for part in parts]
    assert found == [[0, 1, 2], [1, 3], [1], []]
