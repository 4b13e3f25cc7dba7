"""Runs read from their folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from realnvp import recipe, train
from realnvp.reports.run import Run, find_runs, read_records


@pytest.fixture(scope="module")
def moons(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "moons"
    train(recipe("moons", training={"steps": 4}), folder, quiet=True)
    return folder


def test_a_run_knows_its_settings_results_and_data(moons):
    run = Run.open(moons)
    assert run.name == "moons"
    assert run.settings["training.steps"] == 4
    assert (run.steps, run.unit, run.sign) == (4, "nats (log-density)", -1.0)
    assert run.final is not None
    assert run.best is not None
    assert run.final["part"] == "test"
    assert run.final["loss"] == -run.final["nats"]
    assert run.flow is not None
    part, split = run.held_out()
    assert (part, len(split)) == ("test", 10_000)
    assert [step for step, _ in run.pictures] == [4]


def test_records_that_a_crash_cut_short_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = {"kind": "validation", "step": 1, "seconds": 1.0, "loss": 2.0}
    text = '\n{"kind": "train", "step": 1, "loss": null}\n{"kind": "tr\n3\n[1]\n{"step": 2}\n'
    path.write_text(json.dumps(whole) + text)
    first, second = read_records(path)
    assert first == whole
    assert second["loss"] != second["loss"], "null stands for what is not finite"
    assert read_records(tmp_path / "none") == []


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.yaml"):
        Run.open(tmp_path)
    (tmp_path / "config.yaml").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        Run.open(tmp_path)


def test_runs_are_found_below_a_folder(moons, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("{")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "a").symlink_to(moons)
    assert [run.name for run in find_runs(tmp_path)] == ["sweep/a"]


def test_data_in_memory_cannot_be_read_again(tmp_path):
    X = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    model = {"hidden": 4, "mixture_init": 1}
    chosen = recipe("table", data={"source": "-"}, model=model, training={"steps": 2})
    train(chosen, tmp_path / "run", data=torch.from_numpy(X), quiet=True)
    with pytest.raises(ValueError, match="in memory only"):
        Run.open(tmp_path / "run").held_out()
