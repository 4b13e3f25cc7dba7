"""Tabs of vector models, driven in a browser."""

from __future__ import annotations

import pandas as pd
import pytest

from realnvp.cli.main import main


@pytest.fixture
def moons(page):
    page.choose_model("moons")
    return page


def test_a_point_has_its_latent(moons):
    moons.tab("Plane")
    moons.click("#plane-go")
    moons.picture("#plane-whole")
    moons.type("#plane-x1", 0.5)
    moons.until(lambda: "log-density" in moons.find("#plane-where").text)
    before = moons.find("#plane-where").text
    moons.picture("#plane-point")
    moons.type("#plane-x2", -0.25)
    moons.until(lambda: moons.find("#plane-where").text != before)
    assert moons.find("#plane-where").text.startswith("latent (")


def test_synthetic_rows_are_those_of_the_command_line(moons, tmp_path):
    moons.tab("Tables")
    moons.type("#table-n", 30)
    moons.type("#table-seed", 3)
    moons.click("#table-go")
    moons.picture("#table-marginals")
    file = tmp_path / "s.csv"
    assert main(["sample", "moons", "-n", "30", "--seed", "3", "--out", str(file)]) == 0
    got = pd.read_csv(moons.download("#table-csv"))
    pd.testing.assert_frame_equal(got, pd.read_csv(file))
    moons.click("#table-ask")
    moons.picture("#table-answer")


def test_a_row_that_is_not_there_gets_one_line(moons):
    moons.tab("Tables")
    moons.type("#table-row", 999999)
    moons.click("#table-ask")
    assert "rows, 0 to" in moons.error()
