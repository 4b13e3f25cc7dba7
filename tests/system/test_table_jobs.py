"""What people do with a model of a table, from an empty folder: one trained run, many uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import realnvp
from helpers.command import refused, run
from realnvp import RealNVPDensity

pytestmark = pytest.mark.slow


def people(seed: int, n: int) -> pd.DataFrame:
    """Return customers: an ID, a city, and an age and an income that depend on it."""
    rng = np.random.default_rng(seed)
    city = rng.choice(["Rome", "Oslo", "東京"], n, p=[0.7, 0.28, 0.02])
    age = rng.integers(18, 80, n)
    income = np.exp(rng.normal(9 + (city == "Oslo") + age / 100, 0.3)).round(2)
    ids = rng.permutation(n) + 100_000
    return pd.DataFrame({"customer": ids, "age": age, "income": income, "city": city})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    people(0, 1500).to_csv(folder / "people.csv", index=False)
    people(1, 300).to_csv(folder / "new.csv", index=False)
    small = "--model.hidden 16 --training.num_validations 10 --steps 100 --no-report --quiet"
    run(f"train table --data {folder / 'people.csv'} --out {folder / 'run'} {small}")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_p_values_are_served_from_python(folder):
    density, new = RealNVPDensity.load(folder / "run"), people(1, 300)
    p = density.p_values(new)
    assert np.quantile(p, 0.5) == pytest.approx(0.5, abs=0.1)
    odd = new.head(3).assign(income=[1e7, 1.0, 3e6])
    assert (density.p_values(odd) < 0.02).all()


def test_keys_are_left_out(folder):
    density = RealNVPDensity.load(folder / "run")
    assert "customer" not in density.sample(5)


def test_rows_as_asked_agree_with_rejection(folder):
    density = RealNVPDensity.load(folder / "run")
    rows = density.sample(400, random_state=0, given={"city": "東京"}, where="age > 40")
    assert (rows.city == "東京").all()
    assert (rows.age > 40).all()
    drawn = density.sample(60_000, random_state=1)
    kept = drawn[(drawn.city == "東京") & (drawn.age > 40)]
    for name in ("age", "income"):
        error = kept[name].std() * (1 / len(rows) + 1 / len(kept)) ** 0.5
        assert abs(rows[name].mean() - kept[name].mean()) < 4 * error


def test_scores_are_joined_by_an_identifier(folder, here):
    run(f"score {folder / 'run'} --data {folder / 'new.csv'} --keep customer --out scores.csv")
    joined = pd.read_csv(folder / "new.csv").merge(pd.read_csv("scores.csv"), on="customer")
    assert len(joined) == 300
    expected = realnvp.Scorer(folder / "run")(joined).p_value
    np.testing.assert_allclose(joined.p_value, expected, rtol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl", "feather", "xlsx"])
def test_a_table_has_the_same_scores_in_every_format(folder, here, ending):
    new, path = people(2, 40), f"new.{ending}"
    write = {
        "csv": lambda: new.to_csv(path, index=False),
        "parquet": lambda: new.to_parquet(path),
        "jsonl": lambda: new.to_json(path, orient="records", lines=True),
        "feather": lambda: new.to_feather(path),
        "xlsx": lambda: new.to_excel(path, index=False),
    }
    write[ending]()
    run(f"score {folder / 'run'} --data {path} --out scores.csv")
    found = pd.read_csv("scores.csv").log_likelihood
    expected = realnvp.Scorer(folder / "run")(new).log_likelihood
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_tables_go_through_pipes(folder, here):
    realnvp_ = f"{sys.executable} -m realnvp"
    line = (
        f"{realnvp_} sample {folder / 'run'} -n 50 --seed 1 --out - "
        f"| {realnvp_} predict {folder / 'run'} --data - --column city --out - "
        "| wc -l"
    )
    done = subprocess.run(line, shell=True, capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "51", done.stderr
    assert "-  50 rows" in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sample {} -n 3 --out - --json", "both write to standard output"),
        ("train table --data -", "train reads no standard input"),
        ("levels mnist --out -", "levels writes to no pipe"),
    ],
)
def test_other_pipes_are_refused(folder, capsys, line, message):
    assert message in refused(capsys, line.format(folder / "run"))


def test_training_goes_on_with_new_rows(folder, here):
    more = people(3, 800)
    more.to_csv("more.csv", index=False)
    run(f"train table --init {folder / 'run'} --data more.csv --out later --steps 20 --quiet")
    before, after = RealNVPDensity.load(folder / "run"), RealNVPDensity.load("later")
    assert after.score(people(4, 500)) == pytest.approx(before.score(people(4, 500)), abs=0.2)


def test_synthetic_rows_are_compared_with_real_ones(folder, here, capsys):
    run(f"sample {folder / 'run'} -n 1500 --out synthetic.csv")
    run(f"compare-rows {folder / 'people.csv'} synthetic.csv --json")
    assert '"copies"' in capsys.readouterr().out
