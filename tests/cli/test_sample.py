"""``realnvp sample``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import realnvp
from helpers.command import json_of, refused, run, size_of
from realnvp import image_flow, load, vector_flow
from realnvp.cli.sample import main as sample
from realnvp.config import DataConfig
from realnvp.estimator import RealNVPDensity
from realnvp.model_info import ModelInfo


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
    run(f"sample {runs / 'moons'} --out points.parquet -n 4")
    points = pd.read_csv("points.csv").astype("float32")
    pd.testing.assert_frame_equal(pd.read_parquet("points.parquet"), points)
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


def test_rows_under_a_rule_have_their_class_and_are_of_all(conditional_table, capsys):
    run("sample runs/table -n 60 --out s.csv", "--reject", "x > 1e9")
    drawn = pd.read_csv("s.csv")
    assert list(drawn) == ["x", "y", "kind"]
    assert drawn["kind"].value_counts().min() > 15
    for option in ("--label b", "--given kind=b"):
        run(f"sample runs/table -n 6 --overwrite --out s.csv {option}", "--reject", "x > 1e9")
        assert pd.read_csv("s.csv")["kind"].tolist() == ["b"] * 6


def test_text_that_is_a_formula_can_be_escaped(here):
    town = ["=1+1", "@SUM(A1)", "-5", "-x", "Rome"] * 20
    frame = pd.DataFrame({"town": town, "n": np.random.default_rng(0).normal(size=100)})
    RealNVPDensity(max_steps=1, mixture_init=1, random_state=0).fit(frame).save("m")
    frame.assign(town=frame["town"].where(frame["n"] > 0)).to_csv("t.csv", index=False)
    escaped = {"'=1+1", "'@SUM(A1)", "-5", "'-x", "Rome"}
    for command, out in (
        ("sample m -n 200", "samples.csv"),
        ("impute m --data t.csv --candidates 20", "imputed.csv"),
        ("predict m --data t.csv --column town", "predictions.csv"),
    ):
        run(command)
        assert set(pd.read_csv(out)["town"]) <= set(town)
        run(f"{command} --escape-formulas --overwrite")
        assert set(pd.read_csv(out)["town"]) <= escaped
    run("score m --data t.csv --explain --escape-formulas")
    explained = pd.read_csv("scores-explained.csv")["town"].dropna()
    assert set(explained) <= escaped


def test_arrays_hold_the_labels(here):
    flow = image_flow((1, 8, 8), levels=17, hidden=4, blocks=1, classes=10)
    flow.eval().save_pretrained("m")
    run("sample m -n 20 --out s.npz")
    assert list(np.load("s.npz")["labels"]) == [i // 2 for i in range(20)]
    run("sample m -n 2 --label 7 --out seven.npz")
    assert list(np.load("seven.npz")["labels"]) == [7, 7]


def test_a_numeric_condition_is_written_too(here):
    flow = vector_flow(2, couplings=1, hidden=4, blocks=0, norm="none", condition_dim=1)
    flow.trained_on = ModelInfo(DataConfig(condition="dose"), columns=["x", "y"])
    flow.save_pretrained("m")
    run("sample m -n 2 --label 0.5 --out s.csv")
    assert list(pd.read_csv("s.csv")["dose"]) == [0.5, 0.5]
    run("sample m -n 2 --label 0.5 --out s.npz")
    assert np.load("s.npz")["condition"].tolist() == [[0.5], [0.5]]
    run("sample m -n 1 --label 1700000000.25 --out t.csv")
    assert list(pd.read_csv("t.csv")["dose"]) == [1700000000.25]


def test_tables_with_any_column_names_come_back(here, capsys):
    rows = "".join(f"{i},{i * i % 7 + 0.5}\n" for i in range(30))
    Path("t.csv").write_text('"größe, in m",温度 $x\n' + rows)
    run("train table --data t.csv --steps 2 --model.hidden 4 --quiet --data.integers none")
    run("sample runs/table -n 5 --out more.csv")
    run("sample runs/table -n 5 --out more.png")
    run("score runs/table --data more.csv")
    assert "5 log-likelihoods" in capsys.readouterr().out


def test_rows_of_a_mixed_table(here):
    rows = "".join(f"{'ab'[i % 2]},{i % 7 / 2},{i * i % 83 / 4},{i % 3}\n" for i in range(120))
    Path("t.csv").write_text(f"kind,half,quarter,few\n{rows}")
    train = "train table --data t.csv --steps 2 --quiet --model.hidden 4 --model.mixture_init 1"
    run(f"{train} --training.num_validations 1")
    run("sample runs/table -n 60 --out s.csv --given kind=a --reject", "half > 2")
    table = pd.read_csv("s.csv")
    assert list(table) == ["kind", "half", "quarter", "few"]
    assert len(table) == 60
    assert set(table.kind) == {"a"}
    assert table.half.max() <= 2
    assert ((4 * table.quarter) % 1 == 0).all()
    run(f"{train} --condition kind,half --out runs/two --training.num_validations 1")
    run("sample runs/two -n 5 --out two.csv --given kind=b,half=1.5")
    two = pd.read_csv("two.csv")
    assert list(two) == ["quarter", "few", "kind", "half"]
    assert (two.half == 1.5).all()


def test_rows_of_a_table_are_a_table_unless_a_picture_is_asked_for(mixed_run, here, capsys):
    model = mixed_run / "run"
    run(f"sample {model} -n 60")
    drawn = pd.read_csv("samples.csv", parse_dates=["day"])
    assert list(drawn) == ["color", "size", "day"]
    assert len(drawn) == 60
    assert set(drawn["color"]) == {"red", "blue"}
    assert not Path("samples.png").exists()
    assert "samples.csv exists" in refused(capsys, f"sample {model}")
    run(f"sample {model} -n 60 --out rows.parquet")
    same = pd.read_parquet("rows.parquet")
    assert (
        same["day"].tolist() == pd.read_csv("samples.csv")["day"].tolist()
    )  # text, as in the data
    pd.testing.assert_series_equal(same["size"], drawn["size"])
    run(f"sample {model} -n 60 --given color=red --out red.png")
    assert size_of("red.png")[0] > 200


def test_one_column_given_numbers(here, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2))
    table = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": 5 + x.sum(1) + rng.normal(size=80) / 9})
    table.to_csv("t.csv", index=False)
    run("train table --data t.csv --condition a,b --steps 2 --training.num_validations 1 --quiet")
    assert size_of("runs/table/samples/step-0000002.png")[0] > 200
    run("sample runs/table -n 50 --given a=1,b=-1")
    drawn = pd.read_csv("samples.csv")
    assert list(drawn) == ["y", "a", "b"]
    assert abs(drawn["y"].mean() - 5) < 0.3
    run("predict runs/table --data t.csv --column y --out p.csv --candidates 50")
    assert (pd.read_csv("p.csv")["y (0.5)"] - table["y"]).abs().mean() < 0.3


def test_sure_is_not_for_tables(mixed_run, here, capsys):
    assert "not for those of tables" in refused(capsys, f"sample {mixed_run / 'run'} --sure 0.9")


def test_bad_rules(here, capsys):
    rows = "".join(f"{'ab'[i % 2]},{i * i % 83}\n" for i in range(60))
    Path("t.csv").write_text(f"kind,n\n{rows}")
    run("train table --data t.csv --steps 2 --quiet --model.hidden 4 --model.mixture_init 1")
    for options, says in (
        ("--given kind", "name=value"),
        ("--given town=a", "no such column; its columns are kind, n"),
        ("--reject m>3", "cannot be applied"),
    ):
        assert says in refused(capsys, f"sample runs/table --out s.csv {options}")


def test_images_need_neither_tables_nor_figures(here):
    code = (
        "import sys; from realnvp.cli.main import main; main(sys.argv[1:]);"
        "assert not {'pandas', 'matplotlib', 'scipy'} & {*sys.modules}"
    )
    command = [sys.executable, "-c", code, "sample", "digits", "-n", "2", "--out", "two.png"]
    subprocess.run(command, check=True, timeout=600)
    assert Path("two.png").is_file()


def test_the_model_is_looked_for_before_the_output(here, capsys):
    Path("samples.png").touch()
    assert "there is no model 'nowhere'" in refused(capsys, "sample nowhere")


def test_numbers_are_written_as_in_the_table(here):
    rng = np.random.default_rng(0)
    sizes = [f"{x:.2f}".replace(".", ",") for x in rng.normal(9, 2, 60)]
    prices = [f"{n:,} \u20ac".replace(",", ".") for n in rng.integers(500, 5_000, 60)]
    rows = zip(sizes, prices, strict=True)
    Path("t.csv").write_text("size;price\n" + "".join(f"{x};{n}\n" for x, n in rows))
    frame = pd.read_csv("t.csv", sep=";")
    RealNVPDensity(max_steps=5, random_state=0).fit(frame).save("m")
    run("sample m -n 40 --out s.csv", "--reject", "price < 2000")
    drawn = pd.read_csv("s.csv")
    assert drawn["size"].str.fullmatch(r"-?\d+,\d\d").all()
    price = drawn["price"].str.fullmatch(r"\d{1,3}(\.\d{3})* \u20ac")
    assert price.all()
    assert (drawn["price"].str.replace(r"\D", "", regex=True).astype(int) >= 2000).all()
    run("eval m --data t.csv")
    run("score m --data t.csv --out scores.csv")
    assert np.isfinite(pd.read_csv("scores.csv").select_dtypes("number")).all(axis=None)


def test_rules_know_dates_and_names_that_are_no_words(here, capsys):
    rng = np.random.default_rng(0)
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, 90), "D")
    frame = pd.DataFrame({"order.date": day.strftime("%m/%d/%Y"), "price": rng.integers(1, 3, 90)})
    frame["price"] = frame["price"].map("${:,d}000".format).str.replace("000", ",000")
    RealNVPDensity(max_steps=5, random_state=0).fit(frame).save("m")
    run(
        "sample m -n 40 --out s.csv --given",
        "price=$1,000",
        "--reject",
        "`order.date` < '2024-06-01'",
    )
    drawn = pd.read_csv("s.csv")
    assert set(drawn["price"]) == {"$1,000"}
    assert pd.to_datetime(drawn["order.date"], format="%m/%d/%Y").min() >= pd.Timestamp(
        "2024-06-01"
    )
    said = refused(capsys, "sample m -n 4 --out x.csv --reject", "order.date < 3")
    assert "columns are order.date, price, and a name with spaces or dots is in backticks" in said


def test_samples_that_the_model_is_sure_of(here, capsys):
    flow = vector_flow(2, classes=2, couplings=2, hidden=8).eval()
    for parameter in flow.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    flow.save_pretrained("m")
    run("sample m -n 20 --label 1 --sure 0.6 --out s.npz --json")
    result = json_of(capsys)
    assert result["sure"] == 0.6
    assert result["drawn"] > 20, "some were not kept"
    with np.load("s.npz") as file:
        x = torch.from_numpy(file["x"])
    flow = load("m")
    assert flow.class_log_probs(x).softmax(1)[:, 1].min() > 0.599
    for sure, says in ((1.5, "between 0 and 1"), (1 - 1e-9, "ask for a lower probability")):
        with pytest.raises(ValueError, match=says):
            sample(["m", "--sure", str(sure)])
    with pytest.raises(ValueError, match="has none"):
        sample(["moons", "--sure", "0.9"])
