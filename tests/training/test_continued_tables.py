"""A table's model that goes on learning from new rows keeps its columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from realnvp.config import VectorRecipe
from realnvp.estimator import RealNVPDensity
from realnvp.pretrained import table_of
from realnvp.recipes import load_recipe
from realnvp.training.train import train


def rows(seed: int, cities: list[str], n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    city = rng.choice(cities, n)
    x = rng.normal(np.char.str_len(city) + (city == "Rome"), 0.1).round(4)
    return pd.DataFrame({"x": x, "age": rng.integers(18, 80, n), "city": city})


def drifted(seed: int, n: int = 300) -> pd.DataFrame:
    return rows(seed, ["Oslo", "Rome"], n).assign(x=lambda frame: frame["x"] + 0.5)


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


# ---------------------------------------------------------------------- the estimator


@pytest.fixture(scope="module")
def fitted() -> RealNVPDensity:
    may = rows(0, ["Bonn", "Oslo", "Rome"])
    return RealNVPDensity(couplings=2, max_steps=20, random_state=0).fit(may)


@pytest.mark.parametrize("kind", ["estimator", "folder", "run"])
def test_a_density_starts_from_a_model_and_follows_the_drift(kind, old, fitted, tmp_path):
    init, before = (old, RealNVPDensity.load(old)) if kind == "run" else (fitted, fitted)
    if kind == "folder":
        fitted.save(init := tmp_path / "saved")
    new = RealNVPDensity(max_steps=60, random_state=0, lr=0.01).fit(drifted(1), init=init)
    assert new.n_iter_ > 0
    assert new.score(drifted(2)) > before.score(drifted(2)) + 0.3
    assert table_of(new.flow_) == table_of(before.flow_)
    assert new.flow_.calibration is None
    new.save(tmp_path / "new")
    again = RealNVPDensity.load(tmp_path / "new")
    assert np.array_equal(again.score_samples(drifted(2)), new.score_samples(drifted(2)))
    assert again.flow_.made_with is not None
    assert again.flow_.made_with != before.flow_.made_with, "it was made later"


def test_without_drift_the_model_is_kept(fitted):
    new = RealNVPDensity(random_state=0).fit(rows(5, ["Bonn", "Oslo", "Rome"]), init=fitted)
    assert new.n_iter_ == 0
    test = rows(6, ["Oslo"])
    assert np.array_equal(new.score_samples(test), fitted.score_samples(test))
    assert new.flow_ is not fitted.flow_


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"city": "Paris"}, r"'city' of X holds 'Paris' .* only Bonn, Oslo, Rome"),
        ({"x": "blue"}, r"column 'x' of X must hold numbers, .* 'blue'"),
        ({"other": 1}, "Feature names unseen at fit time: - other"),
    ],
)
def test_a_density_refuses_rows_that_do_not_fit_the_model(fitted, changes, message):
    with pytest.raises(ValueError, match=f"^[^\n]*{message}[^\n]* keeps its columns: [^\n]*$"):
        RealNVPDensity().fit(drifted(1).assign(**changes), init=fitted)


@pytest.mark.parametrize(
    "asked", [{"keep_range": True}, {"integers": "none"}, {"columns": {"age": "continuous"}}]
)
def test_a_density_refuses_to_change_columns(fitted, asked):
    with pytest.raises(ValueError, match=f"^{next(iter(asked))} is .* to start from has"):
        RealNVPDensity(**asked).fit(drifted(1), init=fitted)


@pytest.mark.parametrize("init", [3, RealNVPDensity(), "moons"])
def test_a_density_starts_from_a_model_of_a_table_only(init):
    with pytest.raises(ValueError, match=r"a fitted estimator, got|is not one of a table"):
        RealNVPDensity().fit(drifted(1), init=init)


@pytest.mark.parametrize("members", [1, 2])
def test_a_condition_keeps_its_unit(members):
    rng = np.random.default_rng(0)
    x = rng.normal(1e6, 1e4, 200)
    y = (x - 1e6) / 1e4 + 0.1 * rng.normal(size=200)
    settings = {"members": members, "validation_fraction": 0, "random_state": 0, "lr": 1e-9}
    first = RealNVPDensity(**settings, max_steps=20).fit(y, condition=x)
    second = RealNVPDensity(**settings, max_steps=1).fit(y, condition=x + 5e3, init=first)
    assert torch.equal(second.flow_.condition_shift, first.flow_.condition_shift)
    assert torch.equal(second.flow_.condition_scale, first.flow_.condition_scale)
    scores = [each.score_samples(y, condition=x) for each in (first, second)]
    np.testing.assert_allclose(*scores, atol=1e-4)


def test_a_domain_is_kept():
    x = np.random.default_rng(0).uniform(size=(200, 2))
    domain = [("interval", 0, 1), None]
    settings = {"max_steps": 5, "random_state": 0}
    first = RealNVPDensity(**settings).fit(x, domain=domain)
    second = RealNVPDensity(**settings).fit(x**2, domain=domain, init=first)
    with pytest.warns(UserWarning, match="is not in the domain"):
        assert second.score_samples([[1.5, 0.0]]).tolist() == [-np.inf]
    with pytest.raises(ValueError, match="is not in the domain"):
        RealNVPDensity(**settings).fit(x + 1, init=first)
    with pytest.raises(ValueError, match=r"^domain is .* to start from has"):
        RealNVPDensity(**settings).fit(x, domain=[("interval", 0, 2), None], init=first)


def test_a_run_starts_from_a_saved_density_and_refuses_impossible_rows(tmp_path):
    path, saved = tmp_path / "new.csv", tmp_path / "saved"
    frame = rows(1, ["Oslo", "Rome"]).assign(waited=np.random.default_rng(0).exponential(size=300))
    density = RealNVPDensity(couplings=1, max_steps=1, validation_fraction=0, random_state=0)
    density.fit(frame).save(saved)
    frame.to_csv(path, index=False)
    flow = train(recipe(path, 3), quiet=True, init=saved).flow
    assert flow.dtype == torch.float32
    assert flow.made_with is None
    frame.loc[7, "waited"] = -0.5
    frame.to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"'waited' .* holds -0\.5 in row 7 .* keeps its columns"):
        train(recipe(path, 3), quiet=True, init=saved)
    with pytest.raises(ValueError, match=r"'waited' .* holds -0\.5 in row 7 .* keeps its columns"):
        density.fit(frame, init=saved)
