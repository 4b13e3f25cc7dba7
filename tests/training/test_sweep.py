"""Sweeps: what they are made of, that they go on, and what ends them."""

from __future__ import annotations

import pytest

from realnvp import recipe
from realnvp.reports.run import Run
from realnvp.training import sweep as module
from realnvp.training.sweep import combinations, name_of, sweep


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["training.lr"], "is written as"),
        (["training.lr=0.1,,0.2"], "is written as"),
        (["training.lr=0.1"], "at least two runs"),
        (["training.lr=0.1,0.1"], "at least two runs"),
        (["a=1,2", "a=3"], "given twice"),
    ],
)
def test_what_is_no_sweep_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        combinations(given)


def test_commas_inside_brackets_are_part_of_a_value():
    found = combinations(["training.betas=[0.9,0.99],[0.8,0.9]", "seed=1,2"])
    assert [run["training.betas"] for run in found] == ["[0.9,0.99]"] * 2 + ["[0.8,0.9]"] * 2
    assert name_of(found[0]) == "betas=_0.9,0.99_,seed=1"


def make(settings):
    return recipe(
        "moons", model={"hidden": 4, "couplings": 2}, data={"points": 200},
        training={"steps": 2, "num_validations": 1, "lr": float(settings["training.lr"])},
    )  # fmt: skip


def test_a_sweep_goes_on_where_it_ended(tmp_path):
    first = combinations(["training.lr=0.001,0.01"])
    options = {"quiet": True, "logger": "none"}
    found = sweep(first, make, tmp_path, **options)
    assert found.settings == {"training.lr": [0.001, 0.01]}
    before = (tmp_path / "lr=0.01" / "metrics.jsonl").read_bytes()
    assert not list(tmp_path.glob("*/events*")), "no logger, no events"
    more = combinations(["training.lr=0.001,0.01,0.1"])
    with pytest.raises(FileExistsError):
        sweep(more, make, tmp_path, **options)
    found = sweep(more, make, tmp_path, resume=True, **options)
    assert found.settings == {"training.lr": [0.001, 0.01, 0.1]}
    assert (tmp_path / "lr=0.01" / "metrics.jsonl").read_bytes() == before
    assert Run.open(tmp_path / "lr=0.1").steps == 2


def test_a_run_that_diverges_does_not_end_the_others(tmp_path, monkeypatch, capsys):
    own = module.train

    def train(recipe, folder, **options):
        if recipe.training.lr == 0.01:
            raise FloatingPointError("the loss is not finite")
        return own(recipe, folder, **options)

    monkeypatch.setattr(module, "train", train)
    runs = combinations(["training.lr=0.001,0.01,0.1"])
    found = sweep(runs, make, tmp_path, quiet=True)
    assert [run.name for run in found.runs] == ["lr=0.001", "lr=0.1"]
    said = capsys.readouterr().err
    assert "lr=0.01: the loss is not finite" in said
    assert "run 1 of" not in said, "quiet"


def test_it_says_which_run_it_is_at(tmp_path, capsys):
    runs = combinations(["training.lr=0.001,0.01"])
    sweep(runs, make, tmp_path, quiet=False)
    said = capsys.readouterr().err
    assert said.index("run 1 of 2: lr=0.001\n") < said.index("run 2 of 2: lr=0.01\n")
