"""``realnvp impute``."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from helpers.command import run
from realnvp.cli.main import main


def test_gaps_are_filled_and_everything_else_stays(mixed_run: Path, here: Path, capsys):
    table = pd.read_csv(mixed_run / "t.csv")
    table.loc[1::9, "color"] = None
    table["note"] = "kept"
    table.to_csv("gaps.csv", index=False)
    run(f"impute {mixed_run / 'run'} --data gaps.csv --candidates 50 --json")
    found = json.loads(capsys.readouterr().out)
    assert found["imputed"] == {
        "color": table.color.isna().sum(),
        "size": table["size"].isna().sum(),
    }
    filled = pd.read_csv("imputed.csv")
    assert not filled.isna().any(axis=None)
    there = table.notna().all(axis=1)
    pd.testing.assert_frame_equal(filled[there], table[there])
    assert main(["impute", str(mixed_run / "run"), "--data", "gaps.csv"]) == 2
    assert "imputed.csv exists" in capsys.readouterr().err


def test_a_model_of_points_has_no_gaps(runs: Path, here: Path, capsys):
    Path("t.csv").write_text("a,b\n1,2\n")
    assert main(["impute", str(runs / "moons"), "--data", "t.csv"]) == 2
    assert "is not a model of a table" in capsys.readouterr().err
