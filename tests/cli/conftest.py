"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.command import SMALL, run


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """Return a folder with a trained run of images and one of points."""
    folder = tmp_path_factory.mktemp("runs")
    for recipe, options in (
        ("digits", SMALL),
        ("moons", ["--model.hidden", "16", "--model.norm", "act", "--quiet"]),
    ):
        run(f"train {recipe} --steps 8 --out {folder / recipe}", *options)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Make an empty folder the current one, and return it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def conditional_table(here) -> Path:
    """Return a folder with a table of two columns and a class, and a run trained with it."""
    rows = "\n".join(f"{i % 7 / 7},{i % 5 / 3},{'ab'[i % 2]}" for i in range(60))
    (here / "t.csv").write_text(f"x,y,kind\n{rows}\n")
    run("train table --data t.csv --condition kind --steps 3 --quiet --training.num_validations 1")
    return here


@pytest.fixture(scope="session")
def mixed_run(tmp_path_factory) -> Path:
    """Return a folder with a run of a table of a category, a number, a date and gaps."""
    import numpy as np
    import pandas as pd

    folder = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(0)
    color = rng.choice(["red", "blue"], 300)
    size = np.round(rng.normal(size=300) + 4 * (color == "red"), 2)
    days = pd.to_timedelta(np.rint(10 * size) + 100, unit="D")
    table = pd.DataFrame({"color": color, "size": size, "day": pd.Timestamp("2020-01-01") + days})
    table.loc[::10, "size"] = np.nan
    table.to_csv(folder / "t.csv", index=False)
    run(
        f"train table --data {folder / 't.csv'} --out {folder / 'run'} --steps 3 --quiet "
        "--training.num_validations 1 --no-report"
    )
    return folder
