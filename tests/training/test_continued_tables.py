"""A table's model that goes on learning from new rows keeps its columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from realnvp.config import VectorRecipe
from realnvp.pretrained import table_of
from realnvp.recipes import load_recipe
from realnvp.training.train import train


def rows(seed: int, cities: list[str], n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    city = rng.choice(cities, n)
    x = rng.normal(np.char.str_len(city) + (city == "Rome"), 0.1).round(4)
    return pd.DataFrame({"x": x, "age": rng.integers(18, 80, n), "city": city})


def recipe(path: Path, steps: int = 20, **data) -> VectorRecipe:
    made = load_recipe(
        "table", model={"hidden": 8, "couplings": 2}, data={"source": str(path), **data},
        training={"steps": steps, "patience": None, "calibration": 0},
    )  # fmt: skip
    assert isinstance(made, VectorRecipe)
    return made


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    rows(0, ["Bonn", "Oslo", "Rome"]).to_csv(folder / "old.csv", index=False)
    train(recipe(folder / "old.csv"), folder / "run", quiet=True)
    return folder / "run"


def test_the_columns_are_those_of_the_model(old, tmp_path):
    path = tmp_path / "new.csv"
    rows(1, ["Oslo", "Rome"]).to_csv(path, index=False)  # numbered anew, Rome would be Oslo
    flow = train(recipe(path), quiet=True, init=old).flow
    schema, before = table_of(flow), table_of(train(recipe(path), quiet=True).flow)
    assert schema is not None
    assert before is not None
    cities = [next(c for c in s.columns if c.name == "city").categories for s in (schema, before)]
    assert [len(each) for each in cities] == [3, 2]
    x = torch.from_numpy(schema.rows(rows(2, ["Oslo"], 50)))
    shuffled = torch.from_numpy(schema.rows(rows(2, ["Oslo"], 50).assign(city="Rome")))
    with torch.no_grad():
        assert flow.log_prob(x).mean() > flow.log_prob(shuffled).mean() + 1


def test_values_that_the_model_does_not_know_are_refused(old, tmp_path):
    path = tmp_path / "new.csv"
    rows(1, ["Aarau", "Bern", "Chur"]).to_csv(path, index=False)  # as many cities as before
    with pytest.raises(ValueError, match=r"'city' .* only Bonn, Oslo, Rome .* without init"):
        train(recipe(path), quiet=True, init=old)


@pytest.mark.parametrize(
    "asked", [{"keep_range": True}, {"condition": "city"}, {"columns": {"age": "continuous"}}]
)
def test_other_columns_are_refused(old, tmp_path, asked):
    path = tmp_path / "new.csv"
    rows(1, ["Oslo", "Rome"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=f"data.{next(iter(asked))} is .* to start from has"):
        train(recipe(path, **asked), quiet=True, init=old)


def test_a_run_that_started_from_a_model_is_resumed_without_it(old, tmp_path):
    path = tmp_path / "new.csv"
    rows(1, ["Oslo", "Rome"]).to_csv(path, index=False)
    whole = train(recipe(path, 30), tmp_path / "whole", quiet=True, init=old)
    parts = tmp_path / "parts"
    train(recipe(path, 15), parts, quiet=True, init=old)
    config = load_recipe(str(parts / "config.yaml"))
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=30))
    resumed = train(config, parts, quiet=True, resume=True)
    expected = whole.flow.state_dict()
    assert resumed.steps == 30
    assert all(torch.equal(t, expected[name]) for name, t in resumed.flow.state_dict().items())


def test_data_settings_of_the_model_are_kept(tmp_path):
    path = tmp_path / "rows.csv"
    rows(0, ["Bonn", "Oslo"]).to_csv(path, index=False)
    first = train(recipe(path, 3, condition="city"), tmp_path / "run", quiet=True).flow
    second = train(recipe(path, 3), quiet=True, init=first).flow
    assert second.trained_on is not None
    assert second.trained_on.data.condition == "city"
    assert second.classes == 2
