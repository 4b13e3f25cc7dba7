"""What tells synthetic rows from real ones."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from realnvp.cli.main import main
from realnvp.tables.comparison import compare_rows


def town(n: int, seed: int, *, independent: bool = False) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    kind = random.choice(["a", "b"], n, p=[0.7, 0.3])
    size = np.round(np.where(kind == "a", 0.0, 4.0) + random.normal(size=n), 6)
    size[random.random(n) < 0.1] = np.nan
    if independent:
        kind = random.permutation(kind)
    return pd.DataFrame({"kind": kind, "size": size, "other": random.normal(size=n)})


def test_rows_of_the_same_distribution_cannot_be_told_apart():
    found = compare_rows(town(600, 0), town(600, 1), town(600, 2))
    assert abs(found.auc - 0.5) < 4 * found.auc_error + 0.03
    assert max(found.columns.values()) < 0.09
    assert found.copies == found.copies_by_chance == 0
    assert found.nearer_to_real == pytest.approx(0.5, abs=0.08)
    assert found.impossible == 0


def test_a_lost_dependence_is_seen_in_its_pair_alone():
    found = compare_rows(town(600, 0), town(600, 1, independent=True))
    assert found.auc > 0.65
    assert max(found.columns.values()) < 0.09
    (pair, distance), (_, second) = list(found.pairs.items())[:2]
    assert pair == "kind and size"
    assert distance > 2 * second
    assert found.copies_by_chance is None


def test_memorized_rows_are_copies_and_nearer():
    real = town(400, 0)
    stolen = pd.concat([real[:200], town(200, 1)])
    found = compare_rows(real, stolen, town(400, 2))
    assert found.copies == pytest.approx(0.5)
    assert found.nearer_to_real > 0.7
    assert compare_rows(real, stolen.assign(kind="new")).impossible == 1


def test_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    town(200, 0).to_csv("real.csv", index=False)
    town(200, 1).to_json("new.json", orient="records")
    town(200, 2).to_csv("aside.csv", index=False)
    words = "compare-rows real.csv new.json --kept-aside aside.csv --out rows.png"
    assert main([*words.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0.3 < found["auc"] < 0.7
    assert (tmp_path / "rows.png").is_file()
    assert main(words.replace(".png", "2.png").split()) == 0
    assert "kind and size" in capsys.readouterr().out
    assert main(["compare-rows", "real.csv", "none.csv"]) == 2
    assert "there is no file" in capsys.readouterr().err
