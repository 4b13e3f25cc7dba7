"""``realnvp columns``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.command import run
from realnvp.cli.main import main


def test_kinds_are_shown(here: Path, capsys):
    towns = ["Rome", "Oslo"]
    rows = "".join(
        f"{towns[i % 2]},{i / 4},{i % 3 or ''},2020-01-{i % 28 + 1:02}\n" for i in range(90)
    )
    Path("t.csv").write_text(f"town,size,gap,day\n{rows}")
    run("columns t.csv")
    printed = capsys.readouterr().out
    for words in (
        "2 categories: Oslo, Rome",
        "step 0.25",
        "with missing values",
        "days",
        "90 rows",
    ):
        assert words in printed
    run("columns t.csv --json")
    found = json.loads(capsys.readouterr().out)
    kinds = [column["kind"] for column in found["columns"]]
    assert kinds == ["categorical", "decimal", "categorical", "datetime"]
    assert found["observed"] == {"size": ["0", "22.25"], "day": ["2020-01-01", "2020-01-28"]}
    assert "size\tdecimal\t1\t0 to 22.25\tstep 0.25" in printed


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_no_file(here: Path, capsys, name: str):
    assert main(["columns", name]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_all_that_is_refused_is_shown(here: Path, capsys):
    rows = "".join(f"p{i},{i / 4},{'some' if i == 70 else i},{i % 7 / 10}\n" for i in range(90))
    Path("t.csv").write_text(f"name,size,mixed,share\n{rows}inf,1,1,inf\n")
    assert main(["columns", "t.csv"]) == 2
    printed = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    assert printed.count("refused") == 2
    assert "step 0.25" in printed
    assert main(["columns", "t.csv", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert list(found["refused"]) == ["mixed", "share"]
    assert "categorical (--data.columns.mixed categorical)" in found["refused"]["mixed"]
    assert "left out: 91 different texts in 91 rows" in printed
