"""The models of a studio."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from realnvp import load, plots, recipe, train, vector_flow
from realnvp.evaluation import evaluate
from realnvp.studio.models import EVERY, Library, condition_of_label, labels_of
from realnvp.studio.page import _example_condition


def test_models_of_the_package_and_runs_are_offered(library):
    names = library.names()
    assert names[0] == "digits"
    assert {"mnist", "moons", "runs/a", "runs/b"} < set(names)
    assert library.get("runs/a") is library.get("runs/a")
    assert [row[0] for row in library.rows()][-2:] == ["runs/b", "runs/a"] or "runs/a" in names


def test_a_run_that_has_a_better_model_is_read_again(tmp_path):
    library = Library(tmp_path, "moons")
    folder = tmp_path / "r"
    chosen = {"model": {"hidden": 8, "couplings": 2}, "data": {"points": 300}}
    for steps in (1, 2):
        made = recipe("moons", **chosen, training={"steps": steps})
        train(made, folder, quiet=True, overwrite=True)
        assert library.get("runs/r") is library.get("runs/r")
        mine, theirs = library.get("runs/r").state_dict(), load(folder).state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_command_names_a_model_as_a_shell_does():
    library = Library(Path("my runs"), "moons")
    assert library.command("plot", "moons") == "`realnvp plot moons`"
    assert library.command("plot", "runs/a") == "`realnvp plot 'my runs/a'`"


def test_what_was_not_offered_is_not_opened(library, tmp_path):
    vector_flow(2).save_pretrained(tmp_path / "m")
    for name in (str(tmp_path / "m"), "../x", "runs/../a", ""):
        with pytest.raises(ValueError, match="unknown model"):
            library.get(name)


def test_scores_are_compared_with_held_out_data_where_they_are(library):
    split, what = library.examples("runs/a")
    assert what == "held-out examples of moons (test)"
    log_p, _ = library.reference("runs/a")
    flow = library.get("runs/a")
    assert log_p.mean().item() == pytest.approx(evaluate(flow, split).nats, abs=1e-5)
    log_p, what = library.reference("mnist")
    assert what == "held-out examples of mnist"
    assert len(log_p) == 2000, "those of its calibration"
    _, what = library.examples("mnist")
    assert what.startswith("samples of the model itself")


def test_portraits_of_points_are_samples_of_the_model(library, monkeypatch):
    shown = []
    draw = plots.points
    monkeypatch.setattr(plots, "points", lambda x: shown.append(x) or draw(x))
    library.portrait("moons")
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(shown[0], load("moons").sample(1000, generator=generator))


def test_the_gallery_has_runs_with_a_model_and_short_commands(library):
    (library.runs / "begun").mkdir()
    (library.runs / "begun" / "config.yaml").write_text("data: {source: moons}\n")
    try:
        assert "begun" in library.found_runs()
        rows = {row[0]: row for row in library.rows()}
        assert "runs/begun" not in rows
        assert all(len(row[4]) <= 30 for row in rows.values())
        assert rows["cifar10"][4].startswith("realnvp train cifar10 ")
    finally:
        shutil.rmtree(library.runs / "begun")


def test_without_data_a_model_given_numbers_has_no_examples_and_can_be_chosen(tmp_path):
    folder = str(tmp_path / "m")
    vector_flow(2, condition_dim=1).save_pretrained(folder)
    library = Library(tmp_path, folder)
    with pytest.raises(ValueError, match="there are no examples: the data of"):
        library.examples(folder)
    assert _example_condition(library, folder) == ""


def test_conditions_are_checked():
    flow = vector_flow(2, classes=3)
    assert labels_of(flow) == [EVERY, "0", "1", "2"]
    assert condition_of_label(flow, "2", 2).tolist() == [2, 2]
    assert condition_of_label(flow, EVERY, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="unknown label '7'"):
        condition_of_label(flow, "7", 1)
    numeric = vector_flow(2, condition_dim=2)
    assert torch.equal(condition_of_label(numeric, "1, 2.5", 1), torch.tensor([[1.0, 2.5]]))
    with pytest.raises(ValueError, match="must be numbers, 2 with commas"):
        condition_of_label(numeric, "1", 1)
    assert condition_of_label(vector_flow(2), "anything", 1) is None
