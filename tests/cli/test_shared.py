"""The data of a model: those of a run of one's own are followed, those of others only shown."""

from __future__ import annotations

import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.command import json_of, refused, run
from helpers.data_files import save
from realnvp import vector_flow
from realnvp.cli.shared import Table, row_names, tell
from realnvp.config import DataConfig
from realnvp.data import Split
from realnvp.model_info import ModelInfo


@pytest.fixture
def table_model(here):
    """Save a model that names a file and a folder to download into, as anybody's may."""
    np.savetxt(here / "t.csv", np.random.default_rng(0).normal(size=(40, 2)), "%.9g", ",")
    flow = vector_flow(2, couplings=1, hidden=4, blocks=0, norm="none")
    flow.trained_on = ModelInfo(DataConfig("t.csv", root="elsewhere"), columns=["x", "y"])
    flow.save_pretrained("m")
    return here


def test_a_strangers_data_are_shown_but_not_followed(table_model, capsys):
    message = refused(capsys, "eval m")
    assert "m was trained with t.csv" in message
    assert "give --data t.csv" in message


def test_a_strangers_data_are_used_when_asked_for(table_model, capsys):
    run("eval m --data t.csv --json")
    assert json_of(capsys)["examples"] == 40
    run("eval m --data t.csv --split validation --json")
    assert json_of(capsys)["examples"] == 4


def test_a_strangers_download_folder_is_not_used(table_model, monkeypatch, capsys):
    asked = {}

    def load_examples(config, known, **checks):
        asked.update(root=config.root)
        raise ValueError("stop here")

    monkeypatch.setattr("realnvp.data.load_examples", load_examples)
    refused(capsys, "eval m --data mnist")
    assert asked["root"] == "data"
    refused(capsys, "eval m --data mnist --data-root mine")
    assert asked["root"] == "mine"


def test_a_saved_model_of_embedded_data_needs_no_data(runs, here, capsys):
    shutil.copytree(runs / "moons" / "model", "m")
    run("eval m --json")
    assert json_of(capsys)["data"] == "moons (test)"


@pytest.mark.parametrize("name", ["moons", "digits"])
def test_shipped_models_of_embedded_data_need_no_data(here, name, capsys):
    run(f"score {name} --out {name}.npz --json")
    assert json_of(capsys)["examples"] > 100


def test_shipped_models_of_other_data_ask_for_them(here, capsys):
    assert "give --data mnist" in refused(capsys, "eval mnist")


def test_empty_data_are_refused(runs, here, capsys):
    np.save("x.npy", np.zeros((3, 2), np.float32))  # what the current folder holds is not asked
    assert "--data is empty" in refused(capsys, f"eval {runs / 'moons'} --data", "")


def test_a_split_is_of_the_data_that_the_model_was_trained_with(runs, table_model, capsys):
    assert "--split" in refused(capsys, "eval m --data other.csv --split validation")
    run(f"eval {runs / 'moons'} --data moons --split test --json")
    assert json_of(capsys)["data"] == "moons (test)"


def test_files_of_a_folder_are_named(here):
    split = Split(torch.zeros(2, 1, 1, 1), rows=torch.tensor([0, 2]))
    for name in ("a", "b", "c"):
        save(np.zeros((4, 4), np.uint8), here / f"photos/{name}.png")
    assert row_names("photos", split) == {"image": ["a.png", "c.png"]}


LAYERS = Table(
    "moons on 64 examples",
    ["layer", "kind", "mean", "round trip", "log_det + inverse's", "what it does"],
    [("layers.1", "GaussianMixtureCoupling", "0.091", "1.3e-07", "6.0e-07", "bends [one] half")]
    * 2,
)


def test_a_table_fits_into_a_terminal():
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=80, markup=False).print(LAYERS)
    lines = file.getvalue().splitlines()
    assert lines[0].strip() == LAYERS.title
    assert max(map(len, lines)) <= 80
    assert "[one]" in file.getvalue()


def test_a_table_that_has_too_little_room_is_still_drawn():
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=20).print(LAYERS)
    assert max(map(len, file.getvalue().splitlines())) <= 20


def test_a_piped_table_is_tab_separated(capsys):
    assert (
        tell(SimpleNamespace(json=False), {}, Table("a title", ["a", "b"], [("1", "x\ty\nz")])) == 0
    )
    assert capsys.readouterr().out == "# a title\na\tb\n1\tx y z\n"
