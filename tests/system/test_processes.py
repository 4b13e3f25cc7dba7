"""Several processes do what one would do, and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.processes import in_processes, largest_difference, recipes, train_some
from realnvp.cli.main import main
from realnvp.conditioners import BatchNorm2d
from realnvp.training.launch import launch
from realnvp.utils.serialization import from_bytes

NAMES = ["batch norm", "batch norm+double", "invertible+double", "muon+double", "act norm+double"]
TRAIN = [
    "train", "digits", "--model.scales", "1", "--model.hidden", "4", "--model.blocks", "1",
    "--precision", "float32", "--quiet", "--no-report", "--training.calibration", "50",
    "--training.num_validations", "1",
]  # fmt: skip


ELASTIC = {"batch norm+double": "batch", "act norm+double": "act"}
"""Trainings of two processes that others go on with, and the checkpoint of each."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(folder) -> list[dict[str, Any]]:
    halves = [f"{name}+stop={folder / file}" for name, file in ELASTIC.items()]
    return in_processes(2, folder, *NAMES, *halves)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_with_half_of_every_batch_are_one_with_the_whole(two, name):
    """To rounding after 12 steps: of float64 in all numbers, of float32 in what the model says.

    Adam divides by the gradient's size, so that the rounding of a tiny gradient can be as much of
    a weight as the learning rate; float64 shows that there is nothing but rounding.
    """
    one = train_some(recipes()[name.partition("+")[0]], double="double" in name)
    if "double" in name:
        assert largest_difference(two[0][name], one) < 1e-9
    else:
        assert largest_difference(two[0][name], one, "scores") < 1e-5
        assert largest_difference(two[0][name], one, "best") < 1e-6
        assert largest_difference(two[0][name], one, "weights") < 2e-3
    assert largest_difference(two[0][name], two[1][name]) == 0.0


def test_a_run_of_two_processes_goes_on_in_one_and_in_three(two, folder, tmp_path):
    """As if there had always been as many."""
    resumed = {name: f"{name}+resume={folder / file}" for name, file in ELASTIC.items()}
    three = in_processes(3, tmp_path, *resumed.values())[2]
    for name, file in ELASTIC.items():
        recipe = recipes()[name.partition("+")[0]]
        whole = train_some(recipe, double=True)
        one = train_some(recipe, double=True, resume=folder / file)
        assert largest_difference(one, whole) < 1e-9
        assert largest_difference(three[resumed[name]], whole) < 1e-9


def test_batch_norm_of_one_process_is_pytorchs():
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    x = torch.randn(5, 3, 4, 4)
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(x), theirs.train(mode)(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def command(count: int, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "realnvp", *arguments, "--devices", str(count)]


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(2, *arguments), cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def test_devices_train_stop_resume_and_evaluate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--steps", "5000", "--training.checkpoint_every", "0.1"]
    with start(tmp_path, *TRAIN, *options) as first:
        while not Path("runs/digits/checkpoints/previous.safetensors").exists():
            assert first.poll() is None
            time.sleep(0.1)
        os.kill(first.pid, signal.SIGTERM)
        out, errors = first.communicate(timeout=600)
    assert first.returncode == 128 + signal.SIGTERM, errors
    assert out == ""
    assert len(errors.splitlines()) == 1
    assert "stopped at step" in errors
    state = from_bytes(Path("runs/digits/checkpoints/last.safetensors").read_bytes())
    step = state["now"]["step"]
    # another number of processes may go on
    assert main([*TRAIN, "--steps", str(step + 2), "--resume", "--devices", "1"]) == 0
    capsys.readouterr()
    assert main(["eval", "runs/digits", "--json"]) == 0
    alone = capsys.readouterr().out
    with start(tmp_path, "eval", "runs/digits", "--json") as both:
        out, errors = both.communicate(timeout=600)
    assert (both.returncode, errors) == (0, "")
    assert out == alone  # not a digit depends on the number of processes


@pytest.mark.parametrize("name", ["moons", "digits"])
def test_two_processes_write_the_scores_of_one(name, tmp_path, monkeypatch):
    """Of rows that are streamed from a file, and of images, in batches that both share."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    if name == "moons":
        Path("rows").mkdir()
        for i in range(2):
            rows = pd.DataFrame(rng.normal(size=(90 + i, 2)), columns=["x", "y"])
            rows.to_parquet(f"rows/{i}.parquet")
    else:
        np.savez("rows.npz", x=rng.integers(0, 17, (90, 8, 8), dtype=np.uint8))
    data = "rows" if name == "moons" else "rows.npz"
    options = ["score", name, "--data", data, "--batch-size", "20", "--alpha", "0.1"]
    assert main([*options, "--out", "one.csv", "--json"]) == 0
    with start(tmp_path, *options, "--out", "two.csv", "--json") as both:
        out, errors = both.communicate(timeout=600)
    assert both.returncode == 0, errors
    assert len(out.splitlines()) == 1  # one process reports
    assert Path("two.csv").read_bytes() == Path("one.csv").read_bytes()


def test_an_error_is_told_once_and_ends_all(tmp_path):
    with start(tmp_path, *TRAIN, "--steps", "5", "--data", "nowhere.npz") as run:
        out, errors = run.communicate(timeout=600)
    assert run.returncode == 2
    assert out == ""
    assert errors.splitlines() == [
        f"realnvp: error: there is no file or folder {tmp_path / 'nowhere.npz'}"
    ]
    assert list(tmp_path.iterdir()) == []


def test_torchrun_and_devices_must_not_contradict(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(ValueError, match="torchrun started 2 processes"):
        launch("cpu", devices=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("abacus",), "abacus"), (("cuda", 64), "cuda"), (("mps", 2), "mps")],
)
def test_devices_that_are_not_there(arguments, message):
    with pytest.raises(ValueError, match=f"cannot use .*{message}"):
        launch(*arguments)
