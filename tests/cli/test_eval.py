"""``realnvp eval``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import Tensor

import realnvp
from helpers.bijections import randomize
from helpers.command import json_of, run
from realnvp import Flow, image_flow
from realnvp.cli.main import main
from realnvp.config import DataConfig
from realnvp.data import load_part
from realnvp.evaluation import evaluate


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_likelihood_and_round_trip(runs, name, capsys):
    run(f"eval {runs / name} --json")
    result = json_of(capsys)
    assert ("bits_per_dim" in result) == (name == "digits")
    assert ("kl" in result) == (name == "moons")
    assert result["round_trip"]["wrong_values"] == 0
    assert result["made_with"]["realnvp"] == realnvp.__version__
    run(f"eval {runs / name} --samples 2")
    printed = capsys.readouterr().out
    assert "round trip" in printed
    assert f"realnvp {realnvp.__version__}, torch" in printed


def test_other_data(runs, here, capsys):
    np.save("images.npy", np.random.default_rng(0).integers(0, 17, (20, 8, 8), dtype=np.uint8))
    run(f"eval {runs / 'digits'} --data images.npy --json")
    assert json_of(capsys)["examples"] == 20
    run(f"eval {runs / 'digits'} --split test --json")
    assert json_of(capsys)["examples"] == 257


def test_rows_that_are_not_possible_are_left_out_and_counted(mixed_run, here, capsys):
    table = pd.read_csv(mixed_run / "t.csv").head(50)
    model = mixed_run / "run"
    table.drop(index=[3, 8]).to_csv("possible.csv", index=False)
    run(f"eval {model} --data possible.csv --json")
    expected = json_of(capsys)
    table.loc[3, "color"], table.loc[8, "size"] = "green", 0.123
    table.to_csv("some.csv", index=False)
    run(f"eval {model} --data some.csv --json")
    found = json_of(capsys)
    assert (found["examples"], found["impossible"]) == (48, 2)
    assert found["nats"] == pytest.approx(expected["nats"], abs=1e-6)
    run(f"eval {model} --data some.csv")
    printed = capsys.readouterr()
    assert "likelihood of 0" in printed.out
    assert "'green'" in printed.err
    table.assign(color="green").to_csv("none.csv", index=False)
    assert main(["eval", str(model), "--data", "none.csv"]) == 2
    assert "all 50 rows" in capsys.readouterr().err


def test_training_rows_of_a_folder_of_parquet_files_are_evaluated(here, capsys):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"town": rng.choice(["Rome", "Oslo"], 90), "x": rng.normal(size=90)})
    (here / "parts").mkdir()
    table.to_parquet(here / "parts/a.parquet", row_group_size=30)
    run("train table --data parts --steps 2 --quiet --no-report --training.num_validations 1")
    capsys.readouterr()
    run("eval runs/table --split train --json")
    assert json_of(capsys)["examples"] == 81


def test_the_table_says_which_way_is_better(runs, capsys):
    run(f"eval {runs / 'digits'}")
    assert "lower is better" in capsys.readouterr().out
    run(f"eval {runs / 'moons'}")
    assert "higher is better" in capsys.readouterr().out


def test_the_table_says_what_the_density_is_given(conditional_table, tmp_path, capsys):
    run("eval runs/table")
    assert "log-density in nats given" in capsys.readouterr().out
    flow = randomize(image_flow((1, 8, 8), hidden=4, blocks=1, classes=2))
    flow.save_pretrained(tmp_path / "model")
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8), np.uint8))
    run(f"eval {tmp_path / 'model'} --data {tmp_path / 'a.npy'}")
    assert "bits/dim without labels (lower" in capsys.readouterr().out


def count_densities(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that receives the number of rows of each call of ``log_prob``."""
    seen, own = [], Flow.log_prob

    def counted(self: Flow, x: Tensor, *rest: Any) -> Tensor:
        seen.append(len(x))
        return own(self, x, *rest)

    monkeypatch.setattr(Flow, "log_prob", counted)
    return seen


def test_labels_that_are_not_given_are_summed_over_once(tmp_path, capsys, monkeypatch):
    flow = randomize(image_flow((1, 8, 8), levels=17, hidden=4, blocks=1, classes=10)).eval()
    flow.save_pretrained(tmp_path)
    _, part = load_part(DataConfig("digits"), "test")
    expected = evaluate(flow, part)
    seen = count_densities(monkeypatch)
    run(f"eval {tmp_path} --data digits --json")
    found = json_of(capsys)
    assert sum(seen) == 10 * 257
    assert found["bits_per_dim"] == pytest.approx(expected.bits_per_dim, abs=1e-6)
    assert found["bits_per_dim"] == pytest.approx(found["bits_per_dim_without_labels"])
    assert found["standard_error"] == pytest.approx(expected.standard_error, abs=1e-6)
    assert 0 <= found["accuracy"] <= 1


def test_labels_that_are_given_are_one_of_the_classes(conditional_table, capsys, monkeypatch):
    metrics = (conditional_table / "runs/table/metrics.jsonl").read_text().splitlines()
    [final] = [record for record in map(json.loads, metrics) if record["kind"] == "final"]
    seen = count_densities(monkeypatch)
    run("eval runs/table --json")
    found = json_of(capsys)
    assert sum(seen) == 2 * found["examples"]
    assert found["nats"] == pytest.approx(final["nats"], abs=1e-6)
    assert found["nats"] != found["nats_without_labels"]
