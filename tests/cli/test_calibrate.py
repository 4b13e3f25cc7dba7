"""``realnvp calibrate``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

from helpers.command import json_of, refused, run


def test_a_model_without_a_calibration_gets_one(runs, here, capsys):
    shutil.copytree(runs / "moons", "m")
    Path("m/model/calibration.safetensors").unlink()
    run("score m --out before.csv")
    assert "has no calibration" in capsys.readouterr().err
    assert "p_value" not in pd.read_csv("before.csv")
    assert "realnvp calibrate" in refused(capsys, "score m --alpha 0.1 --out x.csv")
    run("calibrate m --examples 100 --json")
    assert json_of(capsys)["examples"] == 100
    run("score m --out after.csv")
    assert pd.read_csv("after.csv")["p_value"].between(1 / 101, 1).all()


def test_shipped_models_stay_as_they_are(here, capsys):
    assert "save_pretrained" in refused(capsys, "calibrate moons --data moons")


def test_a_calibration_without_rows_keeps_none(runs, here, capsys):
    shutil.copytree(runs / "moons", "m")
    tensors = load_file("m/model/calibration.safetensors")
    run("calibrate m --examples 100 --no-rows")
    assert "rows" in tensors
    assert "rows" not in load_file("m/model/calibration.safetensors")
    run("score m --out after.csv")
    assert pd.read_csv("after.csv")["p_value"].between(1 / 101, 1).all()
