"""The command line as a user meets it: every verb, and one line of help for every bad input."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import realnvp
from helpers.data_files import idx_bytes
from realnvp.architectures import image_flow
from realnvp.cli.main import VERBS, main
from realnvp.config import DataConfig, load_recipe, read_recipe, recipe_names
from realnvp.training.initialization import build

SMALL = ["--model.hidden", "8", "--model.blocks", "1", "--quiet"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """A folder with a trained run of images and one of points."""
    folder = tmp_path_factory.mktemp("runs")
    for recipe, options in (
        ("digits", SMALL),
        ("moons", ["--model.hidden", "16", "--model.norm", "act", "--quiet"]),
    ):
        arguments = ["train", recipe, "--steps", "8", "--out", str(folder / recipe), *options]
        assert main(arguments) == 0
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def json_of(capsys) -> dict:
    out = capsys.readouterr().out
    return json.loads(out)


# ---------------------------------------------------------------------- what works


def test_help_lists_every_verb_without_importing_torch(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)
    assert main(["--version"]) == 0
    import subprocess
    import sys

    code = (
        "import sys; from realnvp.cli.main import main; main(['--help']); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    options, _, examples = capsys.readouterr().out.partition("examples:")
    assert f"realnvp {verb}" in examples
    assert "default: null" not in options, "no default is no news"
    assert not re.search(r"default: (\S+)\)\s+\(default: ", options), "each default once"


def test_train_help_shows_the_recipes_settings(capsys):
    with pytest.raises(SystemExit):
        main(["train", "cifar10", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "--model.hidden HIDDEN feature maps" in out
    assert "default: 64)" in out


def test_train_prints_a_table_and_names_what_it_left(here, capsys):
    assert main(["train", "digits", "--steps", "3", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "bits/dim" in out
    for name in ("model", "curves.png", "metrics.jsonl", "config.yaml", "checkpoints"):
        assert str(Path("runs/digits") / name) in out
        assert (here / "runs/digits" / name).exists()


def test_train_json_is_one_object_and_resume_goes_on(here, capsys):
    assert main(["train", "moons", "--steps", "3", "--json", "--seed", "4"]) == 0
    first = json_of(capsys)
    assert first["steps"] == 3
    assert {"nats", "true_nats", "kl", "standard_error"} <= set(first)
    assert main(["train", "moons", "--steps", "5", "--json", "--resume"]) == 0
    assert json_of(capsys)["steps"] == 5
    assert yaml.safe_load((here / "runs/moons/config.yaml").read_text())["seed"] == 4


def test_a_runs_config_is_itself_a_recipe(here, runs, capsys):
    shutil.copy(runs / "moons" / "config.yaml", "mine.yaml")
    assert main(["train", "mine.yaml", "--steps", "2", "--json", "--data=circles"]) == 0
    assert json_of(capsys)["run"] == "runs/mine"
    settings = yaml.safe_load((here / "runs/mine/config.yaml").read_text())
    assert settings["data"]["source"] == "circles"
    assert settings["model"]["hidden"] == 16


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_parses_and_builds(name):
    data = "moons" if name == "table" else "digits"
    options = None if read_recipe(name)["data"]["source"] else {"source": data}
    recipe = load_recipe(name, data=options)
    assert recipe.training.minutes or recipe.training.steps or recipe.training.epochs
    if recipe.kind == "vector":
        from realnvp.data import load_data

        data = DataConfig(source=recipe.data.source, points=100)
        assert build(recipe, load_data(data)).dim == 2
    else:
        side = max(8, 2**recipe.model.scales)
        options = {**vars(recipe.model), "hidden": 4, "blocks": 1, "steps": 2}
        flow = image_flow((1, side, side), **options)
        x = torch.zeros(2, *flow.shape, dtype=torch.uint8)
        assert torch.isfinite(flow.log_prob(x)).all()


def test_paper_recipes_have_the_papers_settings():
    assert read_recipe("cifar10")["model"] == {"scales": 2, "hidden": 64, "blocks": 8}
    assert read_recipe("celeba")["model"] == {"scales": 5, "hidden": 32, "blocks": 2}
    for name, blocks, scales in (("imagenet32", 4, 4), ("imagenet64", 2, 5), ("lsun", 2, 5)):
        assert read_recipe(name)["model"] == {"scales": scales, "hidden": 32, "blocks": blocks}
    assert read_recipe("circles")["data"]["source"] == "circles"
    assert read_recipe("fashion-mnist-glow")["model"]["architecture"] == "glow"


@pytest.mark.parametrize("run", ["digits", "moons"])
def test_eval(runs, run, capsys):
    assert main(["eval", str(runs / run), "--json"]) == 0
    result = json_of(capsys)
    assert ("bits_per_dim" in result) == (run == "digits")
    assert ("kl" in result) == (run == "moons")
    assert result["round_trip"]["wrong_values"] == 0
    assert main(["eval", str(runs / run), "--samples", "2"]) == 0
    assert "round trip" in capsys.readouterr().out


def test_eval_of_other_data(runs, here, capsys):
    np.save("images.npy", np.random.default_rng(0).integers(0, 17, (20, 8, 8), dtype=np.uint8))
    assert main(["eval", str(runs / "digits"), "--data", "images.npy", "--json"]) == 0
    assert json_of(capsys)["examples"] == 20
    assert main(["eval", str(runs / "digits"), "--split", "test", "--json"]) == 0
    assert json_of(capsys)["examples"] == 257


def test_sample_formats_seed_and_overwrite(runs, here, capsys):
    model = str(runs / "digits")
    assert main(["sample", model, "-n", "7"]) == 0
    assert width_of("samples.png") > 50
    for name in ("a.npz", "b.npz"):
        assert main(["sample", model, "-n", "3", "--out", name, "--seed", "5"]) == 0
    a, b = np.load("a.npz")["images"], np.load("b.npz")["images"]
    assert a.shape == (3, 1, 8, 8)
    assert (a == b).all()
    assert main(["sample", str(runs / "moons"), "--out", "points.csv", "-n", "4"]) == 0
    assert len(Path("points.csv").read_text().splitlines()) == 5
    assert main(["sample", model, "--overwrite"]) == 0
    flow = realnvp.load(model)
    expected = flow.sample(3, generator=torch.Generator().manual_seed(5))
    assert (expected.numpy() == a).all()


def test_pictures(runs, here):
    assert main(["interpolate", str(runs / "digits"), "--steps", "3"]) == 0
    assert main(["levels", str(runs / "digits"), "-n", "4"]) == 0
    assert width_of("interpolate.png") > 0
    assert width_of("levels.png") > 0


@pytest.mark.parametrize("run", ["digits", "moons"])
def test_check(runs, run, capsys):
    assert main(["check", str(runs / run), "--json", "-n", "8"]) == 0
    result = json_of(capsys)
    assert result["wrong"] == []
    assert any(layer["log_det_error"] is not None for layer in result["layers"])
    assert main(["check", str(runs / run), "-n", "8"]) == 0
    assert "every layer inverts" in capsys.readouterr().out


def test_check_finds_a_broken_model(runs, here, monkeypatch, capsys):
    from realnvp.bijections import ActNorm

    forward = ActNorm.forward
    monkeypatch.setattr(
        ActNorm, "forward", lambda self, x, c=None: (forward(self, x)[0], torch.ones(len(x)).to(x))
    )
    assert main(["check", str(runs / "moons"), "-n", "8"]) == 1
    assert "wrong layers: layers.2" in capsys.readouterr().out


def test_recipes(capsys):
    assert main(["recipes"]) == 0
    assert "cifar10" in capsys.readouterr().out
    assert main(["recipes", "digits"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["kind"] == "image"


def test_tables_with_any_column_names_come_back(here, capsys):
    rows = "".join(f"{i},{i * i % 7 + 0.5}\n" for i in range(30))
    Path("t.csv").write_text('"größe, in m",温度\n' + rows)
    small = ["--model.hidden", "4", "--quiet", "--data.integers", "none"]
    assert main(["train", "table", "--data", "t.csv", "--steps", "2", *small]) == 0
    assert main(["sample", "runs/table", "-n", "5", "--out", "more.csv"]) == 0
    assert main(["score", "runs/table", "--data", "more.csv"]) == 0
    assert "5 log-likelihoods" in capsys.readouterr().out


def test_a_model_of_resized_images_takes_others(here, capsys):
    rng = np.random.default_rng(0)
    for folder, side, count in (("photos", 12, 30), ("more", 9, 3)):
        Path(folder).mkdir()
        for i in range(count):
            image = rng.integers(0, 256, (side, side), dtype=np.uint8)
            Image.fromarray(image).save(f"{folder}/{i}.png")
    train = ["train", "image-small", "--data", "photos", "--data-size", "8", "--steps", "2"]
    assert main([*train, *SMALL]) == 0
    np.save("small.npy", rng.integers(0, 256, (3, 8, 8), dtype=np.uint8))
    Path("idx").mkdir()
    Path("idx/train-images-idx3-ubyte").write_bytes(idx_bytes(np.load("small.npy")))
    for options in (["small.npy"], ["idx"], ["more"], ["more", "--data-size", "8"]):
        capsys.readouterr()
        assert main(["eval", "runs/image-small", "--json", "--data", *options]) == 0
        assert json_of(capsys)["examples"] == 3
    np.save("small.npy", rng.integers(0, 256, (1, 8, 8), dtype=np.uint8))
    assert main(["eval", "runs/image-small", "--json", "--data", "small.npy"]) == 0
    assert json_of(capsys)["standard_error"] is None  # JSON has no NaN


def width_of(name: str) -> int:
    with Image.open(name) as image:
        return image.width


def test_check_of_learned_noise_and_mixtures(here, capsys):
    flow = image_flow(
        (1, 8, 8), levels=17, hidden=4, blocks=1, coupling="logistic_mixture",
        dequantization="variational",
        split_prior=True, norm="act", classes=10,
    )  # fmt: skip
    flow.trained_on = {"data": {"source": "digits", "condition": "label"}}
    flow.save_pretrained("m")
    assert main(["check", "m"]) == 0
    assert "MixtureLogistic" in capsys.readouterr().out


# ---------------------------------------------------------------------- plot, score, dry run


def test_plot(runs, here, capsys):
    assert main(["plot", str(runs / "moons"), str(runs / "moons"), "--out", "p.png"]) == 0
    with Image.open("p.png") as image:
        width, height = image.size
    assert width > 2 * height
    assert main(["plot", str(runs / "digits"), "--out", "d.png"]) == 2
    assert "two columns" in capsys.readouterr().err
    assert main(["plot", str(runs / "moons"), "--out", "p.png"]) == 2
    assert main(["plot", str(runs / "moons"), "--out", "p.jpg"]) == 2


def test_plot_of_a_conditional_table(here, capsys):
    rows = "\n".join(f"{i % 7 / 7},{i % 5 / 3},{'ab'[i % 2]}" for i in range(60))
    Path("t.csv").write_text(f"x,y,kind\n{rows}\n")
    train = (
        "train table --data t.csv --condition kind --steps 3 --quiet --training.num_validations 1"
    )
    assert main(train.split()) == 0
    assert main(["plot", "runs/table"]) == 2
    assert "--label" in capsys.readouterr().err
    assert main(["plot", "runs/table", "--label", "b"]) == 0
    assert main(["sample", "runs/table", "--label", "a", "-n", "3", "--out", "s.csv"]) == 0
    assert Path("s.csv").read_text().splitlines()[0] == "x,y"


def test_whole_numbers_of_a_table_are_dequantized(here, capsys):
    rows = "\n".join(f"{i % 7},{i % 5 / 3},{i % 3}" for i in range(60))
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


@pytest.mark.parametrize("run", ["digits", "moons"])
def test_score(runs, run, here, capsys):
    assert main(["score", str(runs / run), "--out", "s.csv", "--json"]) == 0
    result = json_of(capsys)
    values = np.genfromtxt("s.csv", delimiter=",", names=True)
    assert len(values) == result["examples"]
    assert main(["eval", str(runs / run), "--json"]) == 0
    mean = json_of(capsys)
    column = "bits_per_dim" if run == "digits" else "log_likelihood"
    assert np.mean(values[column]) == pytest.approx(mean.get("bits_per_dim", mean.get("nats")))
    assert main(["score", str(runs / run), "--out", "s.npz"]) == 0
    assert np.allclose(np.load("s.npz")[column], values[column])
    assert main(["score", str(runs / run), "--out", "s.csv"]) == 2


def test_dry_run_estimates_and_leaves_nothing(here, capsys):
    train = ["train", "digits", "--model.hidden", "4", "--dry-run", "--steps", "7"]
    assert main([*train, "--json"]) == 0
    result = json_of(capsys)
    assert result["steps"] == 7
    assert result["minutes"] == pytest.approx(7 * result["seconds_per_step"] / 60)
    assert result["peak_memory"] > 2**26
    assert list(here.iterdir()) == []
    assert main([*train, "--quiet"]) == 0
    assert "examples/s" in capsys.readouterr().out
    assert main([*train[:-2], "--minutes", "2", "--json"]) == 0
    result = json_of(capsys)
    assert result["steps"] == round(120 / result["seconds_per_step"])
    assert main([*train[:-2], "--minutes", "1e-5", "--quiet", "--json"]) == 0
    assert json_of(capsys)["steps"] == 1


@pytest.mark.parametrize("memory", ["checkpoint", "invertible"])
def test_less_memory_learns_the_same(here, capsys, memory):
    train = "train digits --model.hidden 4 --model.blocks 1 --steps 3 --quiet --json"
    train += " --precision float32"
    assert main([*train.split(), "--out", "a"]) == 0
    one = json_of(capsys)
    assert main([*train.split(), "--out", "b", "--memory", memory]) == 0
    assert json_of(capsys)["bits_per_dim"] == pytest.approx(one["bits_per_dim"], abs=1e-3)
    assert main([*train.split(), "--out", "c", "--memory", memory, "--strategy", "fsdp"]) == 2
