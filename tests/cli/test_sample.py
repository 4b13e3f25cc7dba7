"""``realnvp sample``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

import realnvp
from helpers.command import refused, run, size_of
from realnvp import image_flow, vector_flow


def test_formats_seed_and_overwrite(runs, here, capsys):
    model = runs / "digits"
    run(f"sample {model} -n 7")
    assert size_of("samples.png")[0] > 50
    for name in ("a.npz", "b.npz"):
        run(f"sample {model} -n 3 --out {name} --seed 5")
    a, b = np.load("a.npz")["images"], np.load("b.npz")["images"]
    assert a.shape == (3, 1, 8, 8)
    assert (a == b).all()
    run(f"sample {runs / 'moons'} --out points.csv -n 4")
    assert len(Path("points.csv").read_text().splitlines()) == 5
    assert "--overwrite" in refused(capsys, f"sample {model}")
    run(f"sample {model} --overwrite")
    flow = realnvp.load(model)
    expected = flow.sample(3, generator=torch.Generator().manual_seed(5))
    assert (expected.numpy() == a).all()


def test_a_conditional_table_has_its_class_column(conditional_table, capsys):
    run("sample runs/table --label a -n 3 --out s.csv")
    table = pd.read_csv("s.csv")
    assert list(table.columns) == ["x", "y", "kind"]
    assert list(table["kind"]) == ["a"] * 3
    run("sample runs/table -n 4 --out all.csv")
    assert list(pd.read_csv("all.csv")["kind"]) == ["a", "a", "b", "b"]
    capsys.readouterr()
    run("score runs/table --data all.csv")
    assert "4 log-likelihoods" in capsys.readouterr().out


def test_arrays_hold_the_labels(here):
    flow = image_flow((1, 8, 8), levels=17, hidden=4, blocks=1, classes=10)
    flow.eval().save_pretrained("m")
    run("sample m -n 20 --out s.npz")
    assert list(np.load("s.npz")["labels"]) == [i // 2 for i in range(20)]
    run("sample m -n 2 --label 7 --out seven.npz")
    assert list(np.load("seven.npz")["labels"]) == [7, 7]


def test_a_numeric_condition_is_written_too(here):
    flow = vector_flow(2, couplings=1, hidden=4, blocks=0, norm="none", condition_dim=1)
    flow.trained_on = {"data": {"condition": "dose"}, "columns": ["x", "y"], "categories": None}
    flow.save_pretrained("m")
    run("sample m -n 2 --label 0.5 --out s.csv")
    assert list(pd.read_csv("s.csv")["dose"]) == [0.5, 0.5]
    run("sample m -n 2 --label 0.5 --out s.npz")
    assert np.load("s.npz")["condition"].tolist() == [[0.5], [0.5]]


def test_tables_with_any_column_names_come_back(here, capsys):
    rows = "".join(f"{i},{i * i % 7 + 0.5}\n" for i in range(30))
    Path("t.csv").write_text('"größe, in m",温度 $x\n' + rows)
    run("train table --data t.csv --steps 2 --model.hidden 4 --quiet --data.integers none")
    run("sample runs/table -n 5 --out more.csv")
    run("sample runs/table -n 5 --out more.png")
    run("score runs/table --data more.csv")
    assert "5 log-likelihoods" in capsys.readouterr().out
