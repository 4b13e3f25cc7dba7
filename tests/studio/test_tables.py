"""The tab of tables, driven in a browser."""

from __future__ import annotations

import pandas as pd
import pytest

from realnvp.cli.main import main
from realnvp.studio.tables import _facts


def test_samples_of_a_table_are_its_rows(page, library, tmp_path):
    page.open()  # with the seed and the number that a page begins with
    page.choose_model("runs/mixed")
    page.text("#sample-rows", "color", "size", "day", "20")
    file = tmp_path / "s.csv"
    assert main(["sample", str(library.runs / "mixed"), "--n", "50", "--out", str(file)]) == 0
    assert page.download("#sample-npz").read_text() == file.read_text()


@pytest.mark.parametrize("name", ["moons", "runs/mixed"])
def test_synthetic_rows_are_those_of_the_command_line(page, library, tmp_path, name):
    page.choose_model(name)
    page.tab("Tables")
    page.type("#table-n", 30)
    page.type("#table-seed", 3)
    page.draw("#table-go", "#table-marginals")
    file = tmp_path / "s.csv"
    model = name.replace("runs", str(library.runs))
    assert main(["sample", model, "-n", "30", "--seed", "3", "--out", str(file)]) == 0
    assert page.download("#table-csv").read_text() == file.read_text()


def test_a_table_of_text_dates_and_gaps_has_its_columns(page):
    page.choose_model("runs/mixed")
    page.tab("Tables")
    page.click("#table-go")
    page.text("#table-columns", "datetime", "median 20", "categorical", "%")
    for column in ("color", "size", "day"):
        page.choose("#table-column", column)
        page.draw("#table-ask-go", "#table-answer")
    page.text("#table-held", "20")


def test_without_real_rows_only_synthetic_ones_are_summarized():
    synthetic = pd.DataFrame({"day": pd.to_datetime(["2020-01-31"] * 2), "n": [40860.0, 40861.0]})
    facts = _facts(synthetic.iloc[:0], synthetic, None)
    assert facts["headers"] == ["column", "kind", "synthetic"]
    assert [cells[2] for cells in facts["data"]] == ["median 2020-01-31", "40,860 ± 0.707"]
    both = _facts(synthetic, synthetic.assign(n=[None, 1.5]), None)
    assert both["headers"][2:] == ["real", "synthetic"]
    assert both["data"][1][3] == "1.5, 50.0% missing"


def test_a_row_that_is_not_there_gets_one_line(page):
    page.choose_model("moons")
    page.tab("Tables")
    page.draw(
        "#table-ask-go", "#table-answer"
    )  # a click while it is being drawn counts for nothing
    page.text("#table-ask-note", "Row 0 of")
    page.type("#table-row", 999999)
    page.click("#table-ask-go")
    assert "rows, 0 to" in page.error()
    page.type("#table-row", 0)
