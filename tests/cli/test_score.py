"""``realnvp score``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.command import json_of, refused, run
from realnvp.estimator import RealNVPDensity, RealNVPOutlierDetector


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_the_mean_is_what_eval_reports(runs, name, here, capsys):
    run(f"score {runs / name} --out s.csv --json")
    result = json_of(capsys)
    table = pd.read_csv("s.csv")
    assert len(set(table["row"])) == result["examples"]
    run(f"eval {runs / name} --json")
    mean = json_of(capsys)
    column = "bits_per_dim" if name == "digits" else "log_likelihood"
    assert table[column].mean() == pytest.approx(mean.get("bits_per_dim", mean.get("nats")))
    run(f"score {runs / name} --out s.npz")
    assert np.allclose(np.load("s.npz")[column], table[column])
    capsys.readouterr()  # a bar, on a slow machine
    assert "--overwrite" in refused(capsys, f"score {runs / name} --out s.csv")


def test_nothing_of_training_and_of_compiling_is_imported(here):
    code = """
import sys
from realnvp import load
from realnvp.cli.main import main
load("mnist")
assert main(["score", "moons"]) == 0
slow = ("realnvp.training", "lightning", "torch._dynamo")
processes = {"realnvp.training", "realnvp.training.launch"}
loaded = [name for name in sys.modules if name.startswith(slow) and name not in processes]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_saved_detector_scores_a_table(here, capsys):
    rng = np.random.default_rng(0)
    city = rng.choice(["Bonn", "Oslo"], 60)
    table = pd.DataFrame({"id": range(60), "x": rng.normal(city == "Oslo", 0.1), "city": city})
    known = table[["x", "city"]]
    detector = RealNVPOutlierDetector(RealNVPDensity(max_steps=1), random_state=0).fit(known)
    detector.save("d")
    table.loc[3, ["x", "city"]] = 9.0, "Rome"
    table.to_csv("new.csv", index=False)
    run("score d --data new.csv --keep id --alpha 0.05 --explain --out s.csv --json")
    result, scores = json_of(capsys), pd.read_csv("s.csv")
    assert list(scores.columns) == ["id", "outlier_score", "p_value", "outlier"]
    new = pd.read_csv("new.csv")[["x", "city"]]
    assert np.allclose(scores["p_value"], detector.p_values(new))
    assert np.allclose(scores["outlier_score"], -detector.score_samples(new))
    assert scores["outlier"][3] == 1
    assert result["shift_p_value"] == pytest.approx(detector.drift(new))
    assert result["calibration"] == 60
    reasons = pd.read_csv("s-explained.csv")
    assert reasons["row"][0] == 3
    assert np.isinf(reasons["city: surprise"][0])
    run("score d --data new.csv --out s.parquet")
    assert "60 outlier scores" in capsys.readouterr().out
    table.drop(columns="x").to_csv("less.csv", index=False)
    assert "yet now missing: - x" in refused(capsys, "score d --data less.csv --out t.csv")
    assert "give the rows with --data" in refused(capsys, "score d --out t.csv")
    for command in ("eval d --data new.csv", "sample d"):
        assert "is a saved RealNVPOutlierDetector" in refused(capsys, command)


def test_a_model_of_a_table_scores_no_images(here, capsys):
    pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2))).to_csv("t.csv", index=False)
    run("train table --data t.csv --steps 2 --quiet --no-report --training.num_validations 1")
    Path("photos").mkdir()
    Image.new("L", (8, 8)).save("photos/x.png")
    for source in ("photos", "photos/x.png"):
        message = refused(capsys, f"score runs/table --data {source} --out s.csv")
        assert f"{source} holds images, and the model is of a table" in message


def test_scores_of_a_folder_name_its_files(here, capsys):
    rng = np.random.default_rng(0)
    for folder in ("photos", "more/sub"):
        Path(folder).mkdir(parents=True)
        for i in range(6):
            image = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(image).save(f"{folder}/{i},{i}.png")
    small = "--model.hidden 4 --steps 2 --quiet"
    run(f"train images --data photos {small} --out r")
    run("score r --data more --out s.csv")
    table = pd.read_csv("s.csv")
    columns = ["image", "log_likelihood", "bits_per_dim", "outlier_score", "p_value"]
    assert list(table.columns) == columns
    assert list(table["image"]) == [f"sub/{i},{i}.png" for i in range(6)]
    run("score r --data more --out s.npz")
    assert list(np.load("s.npz")["image"]) == list(table["image"])
    Path("photos/1,1.png").write_bytes(b"no image")
    run("score r --data photos --data-skip-unreadable true --out rest.csv")
    assert list(pd.read_csv("rest.csv")["image"]) == [f"{i},{i}.png" for i in (0, 2, 3, 4, 5)]


def test_scores_of_a_part_name_its_rows_in_the_file(here):
    rows = np.random.default_rng(0).normal(size=(40, 2))
    np.savetxt("t.csv", rows, delimiter=",", header="a,b", comments="")
    run("train table --data t.csv --steps 2 --quiet --training.num_validations 1")
    run("score runs/table --data t.csv --out all.csv")
    run("score runs/table --split validation --out part.csv")
    every, part = pd.read_csv("all.csv"), pd.read_csv("part.csv")
    assert list(every["row"]) == list(range(40))
    assert len(part) == 4
    same = every.loc[part["row"], "log_likelihood"]
    assert np.allclose(same, part["log_likelihood"], atol=1e-5)


def test_outliers_are_marked_explained_and_a_shift_is_told(here, capsys):
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.normal(size=(400, 2)), columns=["a", "b"]).to_csv("t.csv", index=False)
    run("train table --data t.csv --steps 2 --quiet --training.num_validations 1")
    new = rng.normal(size=(60, 2))
    new[:3] = [[0, 9], [9, 0], [-9, 9]]
    pd.DataFrame(new, columns=["a", "b"]).to_csv("new.csv", index=False)
    capsys.readouterr()
    run("score runs/table --data new.csv --alpha 0.1 --explain --json --out s.parquet")
    captured = capsys.readouterr()
    assert "differ" not in captured.err
    assert json.loads(captured.out)["shift_p_value"] > 0.001
    table = pd.read_parquet("s.parquet")
    assert np.array_equal(table["outlier"], table["p_value"] <= 0.1)
    assert table["outlier"][:3].all()
    assert table["outlier"].mean() < 0.4
    reasons = pd.read_csv("s-explained.csv").set_index("row")
    assert {0, 1, 2} <= set(reasons.index[:6])
    assert reasons.loc[0, "b: surprise"] > reasons.loc[0, "a: surprise"] + 5
    assert abs(reasons.loc[1, "a: nearest"]) < 9
    run("score runs/table --data new.csv --alpha 0.2 --fdr --out fdr.csv")
    assert pd.read_csv("fdr.csv")["outlier"].sum() <= 60
    capsys.readouterr()
    run("score runs/table --data new.csv --alpha 0.001 --out few.csv")
    assert "no p-value can be below 0.024" in capsys.readouterr().err  # 40 are held out
    pd.DataFrame(new + 2, columns=["a", "b"]).to_csv("shifted.csv", index=False)
    capsys.readouterr()
    run("score runs/table --data shifted.csv --out shifted-scores.csv")
    assert "as a whole differ from the held-out ones" in capsys.readouterr().err
    assert "--alpha" in refused(capsys, "score runs/table --fdr --out x.csv")
    assert "between 0 and 1" in refused(capsys, "score runs/table --alpha 2 --out x.csv")


def test_explanations_are_in_the_words_of_the_table(here, capsys):
    rng = np.random.default_rng(0)
    kind = rng.choice(["cat", "dog"], 300)
    size = np.where(kind == "dog", 60, 30) + rng.integers(-9, 9, 300).astype(float)
    size[rng.random(300) < 0.1] = np.nan
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, 300), "D")
    table = pd.DataFrame({"kind": kind, "size": size, "day": day})
    table.to_csv("t.csv", index=False)
    run("train table --data t.csv --steps 2 --quiet --training.num_validations 1")
    table.iloc[:40].assign(size=[-500.0, *size[1:40]]).to_csv("new.csv", index=False)
    run("score runs/table --data new.csv --explain --out s.csv")
    reasons = pd.read_csv("s-explained.csv").set_index("row")
    assert list(reasons.columns[2:5]) == ["most surprising", "kind", "kind: surprise"]
    assert reasons.loc[0, "most surprising"].startswith("size")
    assert reasons.loc[0, ["kind", "size"]].tolist() == [kind[0], -500]
    assert set(reasons["kind: nearest"]) <= {"cat", "dog"}
    assert reasons.loc[0, "day"] == str(day[0].date())


def test_images_are_compared_with_symmetric_copies_on_request(runs, here, capsys):
    run(f"score {runs / 'digits'} --out plain.csv")
    run(f"score {runs / 'digits'} --symmetries --out copies.csv")
    plain, copies = pd.read_csv("plain.csv"), pd.read_csv("copies.csv")
    assert plain["log_likelihood"].equals(copies["log_likelihood"])
    assert not plain["outlier_score"].equals(copies["outlier_score"])
    assert copies["p_value"].between(0, 1).all()
    assert "vectors" in refused(capsys, "score moons --symmetries --out x.csv")


def test_images_are_explained_by_a_picture(runs, here):
    run(f"score {runs / 'digits'} --explain --out s.csv")
    with Image.open("s-explained.png") as picture:
        assert picture.width > 500


@pytest.fixture
def parquet_table(here, monkeypatch) -> Path:
    """Return a folder with a model of a table, and 400 rows in one file and in a folder of some."""
    from realnvp.cli import score

    monkeypatch.setattr(score, "BLOCK", 60)  # rounded to batches of 50: 100 rows at once
    monkeypatch.setattr(score, "IN_MEMORY", 1)
    rng = np.random.default_rng(0)
    color = rng.choice(["red", "blue"], 400)
    table = pd.DataFrame({"color": color, "a": rng.normal(size=400), "b": rng.integers(0, 9, 400)})
    table.to_csv("t.csv", index=False)
    table.to_parquet("t.parquet", row_group_size=70)
    Path("parts").mkdir()
    for i, end in enumerate((30, 230, 400)):
        begin = (0, 30, 230)[i]
        table[begin:end].to_parquet(f"parts/{i}.parquet")
    Path("parts/notes.txt").write_text("no table")
    run("train table --data t.csv --steps 3 --out m --quiet --training.num_validations 1")
    return here


def test_parquet_is_scored_in_parts_as_it_is_whole(parquet_table, monkeypatch, capsys):
    from realnvp.data.parquet import ParquetRows

    run("score m --data t.csv --batch-size 50 --alpha 0.2 --fdr --out whole.csv --json")
    whole = json_of(capsys)
    monkeypatch.setattr(ParquetRows, "whole", None)  # all at once
    for data in ("t.parquet", "parts"):
        options = "--batch-size 50 --alpha 0.2 --fdr --out s.csv --json --overwrite"
        run(f"score m --data {data} {options}")
        result = json_of(capsys)
        assert Path("s.csv").read_bytes() == Path("whole.csv").read_bytes()
        assert {**result, "out": "", "data": ""} == pytest.approx({**whole, "out": "", "data": ""})
    run("score m --data parts --batch-size 50 --out s.parquet")
    assert np.allclose(
        pd.read_parquet("s.parquet")["log_likelihood"], pd.read_csv("whole.csv")["log_likelihood"]
    )


def test_no_more_than_a_block_of_parquet_is_in_memory(parquet_table, monkeypatch):
    from realnvp.data import tables

    sizes = []
    parts = tables.table_parts

    def seen(frame, *args, **kwargs):
        sizes.append(len(frame))
        return parts(frame, *args, **kwargs)

    monkeypatch.setattr(tables, "table_parts", seen)
    run("score m --data parts --batch-size 50 --out s.csv")
    assert sizes == [100, 100, 100, 100]


def test_a_row_that_is_not_possible_has_a_likelihood_of_0(parquet_table, capsys):
    table = pd.read_parquet("t.parquet")
    table.loc[250, "color"] = "green"
    table.loc[260, "b"] = 99
    table["b"] = table["b"].astype(float)
    table.loc[270, "b"] = table.loc[390, "b"] = 2.5
    table.to_parquet("new.parquet")
    run("score m --data t.parquet --batch-size 50 --out s.csv")
    before = pd.read_csv("s.csv")
    capsys.readouterr()
    run("score m --data new.parquet --batch-size 50 --alpha 0.1 --explain --out new.out.csv")
    printed = capsys.readouterr()
    assert "4 of them -inf" in printed.out
    assert "'color' of new.parquet holds 'green' in row 250" in printed.err
    found = pd.read_csv("new.out.csv")
    bad = [250, 260, 270, 390]
    others = before.index.difference(bad)
    assert np.isneginf(found["log_likelihood"][bad]).all()
    assert found["outlier_score"].idxmax() in bad
    assert (found["p_value"][bad] == found["p_value"].min()).all()
    assert np.allclose(found.loc[others, "log_likelihood"], before.loc[others, "log_likelihood"])
    reasons = pd.read_csv("new.out-explained.csv").set_index("row")
    assert reasons.loc[bad, "most surprising"].tolist() == ["color", "b", "b", "b"]
    assert np.isinf(reasons.loc[250, "color: surprise"])
    assert reasons.loc[250, "color"] == "green"
    run("score m --data new.parquet --batch-size 50 --samples 2 --out parts.csv")
    warned = capsys.readouterr().err
    assert "'color' of new.parquet holds 'green' in row 250" in warned
    assert warned.count("likelihood of 0") == 1  # not once for each part
    assert np.isneginf(pd.read_csv("parts.csv")["log_likelihood"][bad]).all()


def test_a_constant_that_deviates_is_explained_by_itself(parquet_table, capsys):
    table = pd.read_parquet("t.parquet").assign(unit="kg", twin=lambda t: t.a)
    table.to_parquet("t2.parquet")
    run("train table --data t2.parquet --out m2 --steps 2 --quiet --training.num_validations 1")
    table.loc[7, "unit"] = table.loc[9, "unit"] = "lb"
    table.loc[9, "color"] = "green"
    table.loc[11, "twin"] += 1
    table.to_parquet("new.parquet")
    run("score m2 --data new.parquet --explain --out s.csv")
    assert "'unit' of new.parquet holds 'lb' in rows 7, 9 (counting" in capsys.readouterr().err
    reasons = pd.read_csv("s-explained.csv").set_index("row")
    assert reasons.loc[7, "most surprising"] == "unit"
    assert reasons.loc[7, "unit"] == "lb"
    assert reasons.loc[7, "unit: nearest"] == "kg"
    assert set(reasons.loc[9, "most surprising"].split(", ")) == {"color", "unit"}
    assert reasons.loc[11, "most surprising"] == "twin"
    assert reasons.loc[11, "a"] == pytest.approx(table.loc[11, "a"])
    assert (reasons["unit: surprise"] > 0).sum() == 2


def test_a_damaged_parquet_file_is_refused(parquet_table, capsys):
    table = pd.read_parquet("t.parquet")
    Path("bad.parquet").write_bytes(Path("t.parquet").read_bytes()[:900])
    assert "cannot read bad.parquet" in refused(capsys, "score m --data bad.parquet --out s.csv")
    table.drop(columns="a").to_parquet("bad.parquet")
    assert "'a'" in refused(capsys, "score m --data bad.parquet --out s.csv")


def test_explanations_keep_columns_of_a_table_that_are_called_as_results(here, capsys):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"row": rng.normal(60, 1, 200), "p_value": rng.normal(size=200)})
    frame.to_csv("t.csv", index=False)
    run("train table --data t.csv --steps 2 --quiet --out r")
    run("score r --data t.csv --explain --out s.csv")
    explained = pd.read_csv("s-explained.csv")
    rows = explained["row (realnvp)"]
    assert np.allclose(explained["row"], frame["row"][rows], atol=1e-6)
    assert explained["p_value (realnvp)"].between(0, 1).all()
