"""``realnvp train``."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from helpers.command import SMALL, json_of, refused, run
from helpers.data_files import idx_bytes
from realnvp.cli.main import main


def test_a_table_and_the_files_of_the_run(here, capsys):
    assert main(["train", "digits", "--steps", "3", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "bits/dim" in out
    for name in ("model", "curves.png", "metrics.jsonl", "config.yaml", "checkpoints"):
        assert str(Path("runs/digits") / name) in out
        assert (here / "runs/digits" / name).exists()


def test_json_is_one_object_and_resume_goes_on(here, capsys):
    assert main(["train", "moons", "--steps", "3", "--json", "--seed", "4"]) == 0
    first = json_of(capsys)
    assert first["steps"] == 3
    assert {"nats", "true_nats", "kl", "standard_error"} <= set(first)
    assert main(["train", "moons", "--steps", "5", "--json", "--resume"]) == 0
    assert json_of(capsys)["steps"] == 5
    assert yaml.safe_load((here / "runs/moons/config.yaml").read_text())["seed"] == 4


def test_a_run_is_resumed_by_its_folder(here, capsys):
    assert main(["train", "moons", "--steps", "3", "--json", "--out", "mine"]) == 0
    capsys.readouterr()
    assert "mine is a run: add --resume" in refused(capsys, "train mine --steps 5")
    assert main(["train", "mine", "--steps", "5", "--json", "--resume"]) == 0
    result = json_of(capsys)
    assert (result["run"], result["steps"]) == ("mine", 5)
    assert not Path("runs").exists()


def test_missing_data_are_told_before_an_existing_run(here, capsys):
    assert main(["train", "moons", "--steps", "3", "--json", "--out", "mine"]) == 0
    capsys.readouterr()
    assert "no file or folder" in refused(capsys, "train table --data missing.csv --out mine")
    assert "mine" in refused(capsys, "train moons --steps 3 --out mine")


def test_a_runs_config_is_itself_a_recipe(here, runs, capsys):
    shutil.copy(runs / "moons" / "config.yaml", "mine.yaml")
    assert main(["train", "mine.yaml", "--steps", "2", "--json", "--data=circles"]) == 0
    assert json_of(capsys)["run"] == "runs/mine"
    settings = yaml.safe_load((here / "runs/mine/config.yaml").read_text())
    assert settings["data"]["source"] == "circles"
    assert settings["model"]["hidden"] == 16


def test_a_model_of_resized_images_takes_others(here, capsys):
    rng = np.random.default_rng(0)
    for folder, side, count in (("photos", 12, 30), ("more", 9, 3)):
        Path(folder).mkdir()
        for i in range(count):
            image = rng.integers(0, 256, (side, side), dtype=np.uint8)
            Image.fromarray(image).save(f"{folder}/{i}.png")
    train = ["train", "images", "--data", "photos", "--data-size", "8", "--steps", "2"]
    assert main([*train, *SMALL]) == 0
    np.save("small.npy", rng.integers(0, 256, (3, 8, 8), dtype=np.uint8))
    Path("idx").mkdir()
    Path("idx/train-images-idx3-ubyte").write_bytes(idx_bytes(np.load("small.npy")))
    for options in (["small.npy"], ["idx"], ["more"], ["more", "--data-size", "8"]):
        capsys.readouterr()
        assert main(["eval", "runs/images", "--json", "--data", *options]) == 0
        assert json_of(capsys)["examples"] == 3
    np.save("small.npy", rng.integers(0, 256, (1, 8, 8), dtype=np.uint8))
    assert main(["eval", "runs/images", "--json", "--data", "small.npy"]) == 0
    assert json_of(capsys)["standard_error"] is None  # JSON has no NaN


def test_integers_of_a_table_are_dequantized(here, capsys):
    rows = "\n".join(f"{i % 29},{i * i % 59 / 7},{i % 3}" for i in range(60))
    Path("t.csv").write_text(f"n [/min],y,label\n{rows}\n")
    train = "train table --data t.csv --condition label --steps 3 --quiet --json"
    assert main(train.split()[:-1]) == 0
    assert "n [/min]" in capsys.readouterr().out, "the name is no markup"
    assert main([*train.split(), "--out", "again"]) == 0
    found = json_of(capsys)
    assert (found["dequantized"], found["noise_draws"]) == (["n [/min]"], 1)
    assert main(["sample", "runs/table", "--label", "1", "-n", "9", "--out", "s.csv"]) == 0
    values = np.loadtxt("s.csv", delimiter=",", skiprows=1)
    assert (values[:, 0] == np.floor(values[:, 0])).all()
    capsys.readouterr()
    assert main(["eval", "runs/table", "--json"]) == 0
    assert json_of(capsys)["round_trip"]["wrong_values"] == 0
    assert main([*train.split(), "--data.integers", "none", "--out", "other"]) == 0
    found = json_of(capsys)
    assert (found["dequantized"], found["noise_draws"]) == ([], 0)


def test_dry_run_estimates_and_leaves_nothing(here, capsys):
    train = ["train", "digits", "--model.hidden", "4", "--dry-run", "--steps", "7"]
    assert main([*train, "--json"]) == 0
    result = json_of(capsys)
    assert result["steps"] == 7
    assert result["minutes"] == pytest.approx(7 * result["seconds_per_step"] / 60 / 0.9)
    assert result["peak_memory"] > 2**26
    assert list(here.iterdir()) == []
    assert main([*train, "--quiet"]) == 0
    assert "examples/s" in capsys.readouterr().out
    assert main([*train[:-2], "--minutes", "2", "--json"]) == 0
    result = json_of(capsys)
    assert result["steps"] == pytest.approx(0.9 * 120 / result["seconds_per_step"], abs=1)
    assert main([*train[:-2], "--minutes", "1e-5", "--quiet", "--json"]) == 0
    assert json_of(capsys)["steps"] == 1


def test_less_memory_learns_the_same(here, capsys):
    train = "train digits --model.hidden 4 --model.blocks 1 --steps 3 --quiet --json"
    train += " --precision float32"
    assert main([*train.split(), "--out", "a"]) == 0
    one = json_of(capsys)
    for memory in ("checkpoint", "invertible"):
        assert main([*train.split(), "--out", memory, "--memory", memory]) == 0
        assert json_of(capsys)["bits_per_dim"] == pytest.approx(one["bits_per_dim"], abs=1e-3)


def test_an_empty_folder_name_is_refused(here, capsys):
    assert "--out is empty" in refused(capsys, "train moons --steps 1 --out", "")


def test_overwrite_replaces_a_run(here, capsys):
    run("train moons --steps 3 --quiet")
    message = refused(capsys, "train moons --steps 4 --quiet")
    assert "--overwrite" in message
    assert "--resume" in message
    run("train moons --steps 4 --quiet --overwrite --json")
    assert json_of(capsys)["steps"] == 4
    Path("photos").mkdir()
    Path("photos/mine.txt").write_text("mine")
    assert "not a run" in refused(capsys, "train moons --steps 1 --out photos --overwrite")
    assert Path("photos/mine.txt").read_text() == "mine"
    assert "one of the two" in refused(capsys, "train moons --steps 9 --resume --overwrite")


def test_what_the_number_is_of(here, capsys):
    run("train moons --steps 2 --json --quiet")
    result = json_of(capsys)
    assert (result["part"], result["examples"]) == ("test", 10_000)


def test_a_table_that_begins_with_gaps_is_drawn(here: Path, capsys):
    rows = "".join(f"{i / 4 if i % 3 else '?'},{i % 7 / 10}\n" for i in range(30))
    Path("t.csv").write_text(f"a,b\n{rows}")
    run("train table --data t.csv --steps 2 --quiet --out run")
    assert list(Path("run/samples").glob("*.png"))
