"""The two files of a saved model, which belong together and are bounded before they are read."""

from __future__ import annotations

import json

import pytest
import torch

from helpers.flows import small_image_flow
from realnvp.utils import model_folder
from realnvp.utils.model_folder import load_folder, made_with, physical_memory, write_model

FLOW = small_image_flow()
SETTINGS, WEIGHTS = FLOW.settings(), FLOW.state_dict()


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "m", SETTINGS, WEIGHTS)
    return tmp_path / "m"


def test_what_is_written_comes_back(folder):
    flow = load_folder(folder)
    assert {**flow.settings(), "made_with": None} == SETTINGS
    assert all(torch.equal(flow.state_dict()[name], tensor) for name, tensor in WEIGHTS.items())


def test_files_of_different_models_do_not_belong_together(folder):
    path = folder / "config.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(ValueError, match="does not belong"):
        load_folder(folder)


def test_a_newer_format_is_refused_and_none_is_the_first(tmp_path):
    write_model(tmp_path / "new", {**SETTINGS, "format": 2}, WEIGHTS)
    with pytest.raises(ValueError, match=r"the format 2, .* formats up to 1: install a newer one"):
        load_folder(tmp_path / "new")
    first = {name: value for name, value in SETTINGS.items() if name != "format"}
    write_model(tmp_path / "first", first, WEIGHTS)
    assert load_folder(tmp_path / "first").settings()["format"] == 1


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_folder(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 100_000, "nested"), ("{", "JSON"), (" " * 5_000_000, "too large"), ("\xff", "JSON")],
)
def test_settings_are_bounded(folder, text, message):
    (folder / "config.json").write_text(text, "latin-1")
    with pytest.raises(ValueError, match=message):
        load_folder(folder)


def test_weights_larger_than_memory_are_not_read(folder, monkeypatch):
    monkeypatch.setattr(model_folder, "physical_memory", lambda: 100)
    with pytest.raises(ValueError, match="load it on a larger one"):
        load_folder(folder)


def test_a_failed_save_leaves_the_model_as_it_was(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="not JSON"):
        write_model(folder, {**SETTINGS, "own": {1, 2}}, WEIGHTS)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_date_is_kept_while_the_settings_are_the_same(folder):
    path = folder / "config.json"
    path.write_text(json.dumps({**SETTINGS, "made_with": {"date": "1999"}}))
    write_model(folder, SETTINGS, WEIGHTS)
    assert json.loads(path.read_text())["made_with"] == {"date": "1999"}
    write_model(folder, {**SETTINGS, "arguments": {}}, WEIGHTS)
    assert json.loads(path.read_text())["made_with"]["date"] > "2000"


def test_what_a_model_is_made_with_is_text(monkeypatch):
    made = made_with()
    assert all(isinstance(value, str) for key, value in made.items() if key != "commit")
    monkeypatch.setattr(model_folder.subprocess, "run", lambda *a, **k: 1 / 0)
    monkeypatch.setattr(model_folder.Path, "exists", lambda self: False)
    assert made_with()["commit"] is None  # an installed package has none


def test_the_memory_of_this_machine_is_known_or_none():
    held = physical_memory()
    assert held is None or held > 2**28
