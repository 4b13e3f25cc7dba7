"""``realnvp predict``."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from helpers.command import refused, run
from realnvp.cli.main import main


def test_a_category_and_its_accuracy(mixed_run: Path, here: Path, capsys):
    run(f"predict {mixed_run / 'run'} --data {mixed_run / 't.csv'} --column color --json")
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] > 0.9
    assert found["examples"] == 300
    table = pd.read_csv("predictions.csv")
    assert list(table) == ["row", "color", "p(blue)", "p(red)"]
    assert (table["p(blue)"] + table["p(red)"]).to_numpy() == pytest.approx(1)


def test_a_truth_that_is_written_otherwise_counts(here: Path, capsys):
    frame = pd.DataFrame({"x": [i / 7 for i in range(60)], "late": [i >= 30 for i in range(60)]})
    frame.to_csv("t.csv", index=False)
    run("train table --data t.csv --steps 2 --quiet --training.num_validations 1")
    found = []
    for late in (frame["late"], frame["late"].map({True: "yes", False: "no"})):
        frame.assign(late=late).to_csv("new.csv", index=False)
        capsys.readouterr()
        run("predict runs/table --data new.csv --column late --json --overwrite")
        found.append(json.loads(capsys.readouterr().out))
    assert found[1] == found[0]
    assert found[0]["accuracy"] > 0.5
    assert found[0]["examples"] == 60


def test_an_interval_and_its_coverage(mixed_run: Path, here: Path, capsys):
    run(
        f"predict {mixed_run / 'run'} --data {mixed_run / 't.csv'} --column day --candidates 100 "
        "--quantiles 0.1,0.9 --json"
    )
    found = json.loads(capsys.readouterr().out)
    assert found["nominal_coverage"] == pytest.approx(0.8)
    assert 0.6 < found["coverage"] <= 1
    names = ["day (mean)", "day (0.1)", "day (0.5)", "day (0.9)"]
    table = pd.read_csv("predictions.csv", parse_dates=names)
    assert list(table) == ["row", *names]
    assert table[names[1:]].apply(lambda row: row.is_monotonic_increasing, axis=1).all()
    assert (table["day (mean)"] <= table["day (0.9)"]).mean() > 0.9


def test_the_column_need_not_be_there(mixed_run: Path, here: Path, capsys):
    pd.read_csv(mixed_run / "t.csv").drop(columns="color")[:5].to_csv("new.csv", index=False)
    run(f"predict {mixed_run / 'run'} --data new.csv --column color --json")
    assert "accuracy" not in json.loads(capsys.readouterr().out)


def test_a_row_with_an_unknown_category_is_predicted_from_the_rest(
    mixed_run: Path, here: Path, capsys
):
    table = pd.read_csv(mixed_run / "t.csv")[:30]
    table.to_csv("known.csv", index=False)
    table.loc[4, "color"] = "green"
    table.to_csv("new.csv", index=False)
    found = {}
    for name in ("known", "new"):
        run(f"predict {mixed_run / 'run'} --data {name}.csv --column day --out {name}-p.csv")
        found[name] = pd.read_csv(f"{name}-p.csv")
    assert "'color' of new.csv holds 'green' in row 4 (counting" in capsys.readouterr().err
    assert found["new"].notna().all(axis=None)
    table["size"] = None
    table.to_csv("new.csv", index=False)
    run(f"impute {mixed_run / 'run'} --data new.csv --candidates 50")
    assert "'green' in row 4 (counting from 0), but had only blue, red" in capsys.readouterr().err
    filled = pd.read_csv("imputed.csv")
    assert filled["color"].tolist() == table["color"].tolist()
    assert filled["size"].notna().all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--column weight", "no column 'weight'"),
        ("--column size --quantiles 0,1", "between 0 and 1"),
        ("--column size --quantiles many", "is a list such as"),
    ],
)
def test_refused(mixed_run: Path, here: Path, capsys, options: str, says: str):
    arguments = f"predict {mixed_run / 'run'} --data {mixed_run / 't.csv'} {options}".split()
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_rows_are_joined_by_their_own_columns_and_numbers_are_numbers(here: Path, capsys):
    frame = pd.DataFrame({
        "id": [f"k{i}" for i in range(60)],
        "price": [f"${i * 31 % 997:,}.00" for i in range(60)],
        "x": [i / 7 for i in range(60)],
    })  # fmt: skip
    frame.drop(columns="id").to_csv("t.csv", index=False)
    frame.to_csv("new.csv", index=False)
    run("train table --data t.csv --steps 2 --quiet --training.num_validations 1")
    words = "predict runs/table --data new.csv --column price --candidates 50 --overwrite"
    run(f"{words} --quantiles 0.5 --keep id,price")
    found = pd.read_csv("predictions.csv")
    assert found["id"].tolist() == frame["id"].tolist()
    assert list(found) == ["id", "price", "price (mean)", "price (0.5)"]
    assert found["price (0.5)"].dtype.kind in "if"
    run(f"{words} --quantiles 0.5 --as-written")
    assert pd.read_csv("predictions.csv")["price (0.5)"].str.startswith("$").all()
    capsys.readouterr()
    assert "new.csv has no column 'key'" in refused(capsys, f"{words} --keep key")
    run("score runs/table --data new.csv --keep id --out scores.csv")
    assert pd.read_csv("scores.csv")["id"].tolist() == frame["id"].tolist()
