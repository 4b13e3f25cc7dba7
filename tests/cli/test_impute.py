"""``realnvp impute``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.command import run
from realnvp.cli.main import main
from realnvp.estimator import RealNVPDensity


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


@pytest.mark.filterwarnings("ignore:.*left out of it")
def test_only_what_is_filled_in_counts(here: Path, capsys):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["x", "y"])
    table = table.assign(copy=table.x, empty=np.nan)
    RealNVPDensity(max_steps=1, mixture_init=1, random_state=0).fit(table).save("model")
    table.loc[0, "copy"] = table.loc[1, "y"] = np.nan
    table.to_csv("gaps.csv", index=False)
    run("impute model --data gaps.csv --candidates 50 --json")
    found = json.loads(capsys.readouterr().out)
    assert (found["imputed"], found["imputed_rows"]) == ({"y": 1, "copy": 1}, 2)
    run("impute model --data gaps.csv --candidates 50 --overwrite")
    assert "2 missing values in 2 rows filled in" in capsys.readouterr().out
    filled = pd.read_csv("imputed.csv")
    assert filled.isna().sum().tolist() == [0, 0, 0, 60], "empty is what it always was"


def test_a_model_of_points_has_no_gaps(runs: Path, here: Path, capsys):
    Path("t.csv").write_text("a,b\n1,2\n")
    assert main(["impute", str(runs / "moons"), "--data", "t.csv"]) == 2
    assert "is not a model of a table" in capsys.readouterr().err
