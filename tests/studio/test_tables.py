"""The tab of tables, driven in a browser."""

from __future__ import annotations

import pytest

from realnvp.cli.main import main


@pytest.mark.parametrize("name", ["moons", "runs/mixed"])
def test_synthetic_rows_are_those_of_the_command_line(page, library, tmp_path, name):
    page.choose_model(name)
    page.tab("Tables")
    page.type("#table-n", 30)
    page.type("#table-seed", 3)
    drawn = page.driver.find_elements("css selector", "#table-marginals img")
    before = drawn[0].get_attribute("src") if drawn else ""
    page.click("#table-go")
    page.picture("#table-marginals", not_=before)
    file = tmp_path / "s.csv"
    model = name.replace("runs", str(library.runs))
    assert main(["sample", model, "-n", "30", "--seed", "3", "--out", str(file)]) == 0
    assert page.download("#table-csv").read_text() == file.read_text()


def test_a_table_of_text_dates_and_gaps_has_its_columns(page):
    page.choose_model("runs/mixed")
    page.tab("Tables")
    page.click("#table-go")
    page.until(lambda: "datetime" in page.find("#table-columns").get_attribute("textContent"))
    text = page.find("#table-columns").get_attribute("textContent")
    assert "median 20" in text
    assert "categorical" in text
    assert "%" in text
    before = ""
    for column in ("color", "size", "day"):
        page.choose("#table-column", column)
        page.click("#table-ask")
        before = page.picture("#table-answer", not_=before)
    assert "20" in page.find("#table-held").get_attribute("textContent")


def test_a_row_that_is_not_there_gets_one_line(page):
    page.choose_model("moons")
    page.tab("Tables")
    shown = page.driver.find_elements("css selector", "#table-answer img")
    before = shown[0].get_attribute("src") if shown else ""
    page.click("#table-ask")
    page.picture("#table-answer", not_=before)  # a click while it is being drawn counts for nothing
    page.type("#table-row", 999999)
    page.click("#table-ask")
    assert "rows, 0 to" in page.error()
    page.type("#table-row", 0)
