"""The training loop: it learns, it resumes bit for bit, and it loses nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import realnvp
from realnvp.config import DataConfig, ImageModel, ImageRecipe, TrainingConfig, VectorRecipe
from realnvp.training.optim import EMA, learning_rate
from realnvp.training.train import train
from realnvp.utils.serialization import from_bytes

TINY = ImageModel(hidden=8, blocks=1)


def tiny(steps: int | None = 12, **training) -> ImageRecipe:
    settings = {
        "steps": steps,
        "batch_size": 32,
        "warmup": 5,
        "validation_examples": 64,
        "validation_share": 1.0,
    }
    return ImageRecipe(
        TINY, DataConfig(source="digits"), TrainingConfig(**{**settings, **training})
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = (folder / "checkpoints" / "last.safetensors").read_bytes()
    state = from_bytes(content)["now"]
    return {**state["model"], **{f"ema.{name}": t for name, t in state["average"].items()}}


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_training_learns_and_leaves_a_run_folder(tmp_path):
    outcome = train(tiny(60, lr=5e-3), tmp_path / "run", quiet=True)
    assert outcome.likelihood.bits_per_dim < 2.5  # 4.1 for a uniform model of 17 levels
    assert outcome.likelihood.levels == 17
    names = {path.name.partition(".")[0] for path in (tmp_path / "run").iterdir()}
    assert names == {"config", "metrics", "events", "checkpoints", "samples", "curves", "model"}
    assert list((tmp_path / "run" / "samples").glob("*.png"))
    records = metrics(tmp_path / "run")
    train_record = next(r for r in records if r["kind"] == "train")
    terms = ("prior", "coupling", "norm", "preprocessing", "regularizer")
    assert train_record["loss"] == pytest.approx(sum(train_record[term] for term in terms))
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["model"]["hidden"] == 8
    flow = realnvp.load(tmp_path / "run")
    assert flow.trained_on["data"]["source"] == "digits"
    assert not flow.training


def test_the_best_model_is_what_was_validated(tmp_path):
    outcome = train(tiny(20), tmp_path / "run", quiet=True)
    records = metrics(tmp_path / "run")
    best = min(r["loss"] for r in records if r["kind"] == "validation")
    # the whole validation split against its first 64 examples
    assert outcome.likelihood.bits_per_dim == pytest.approx(best, abs=0.2)


def test_equal_seeds_give_equal_runs_and_others_do_not(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(replace(tiny(4), seed=seed), tmp_path / name, quiet=True)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_run_folder_is_never_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("data")
    with pytest.raises(FileExistsError, match="is not a run"):
        train(tiny(2), tmp_path / "run", quiet=True)
    with pytest.raises(FileExistsError, match="is not a run"):
        train(tiny(2), tmp_path / "run", overwrite=True, quiet=True)
    with pytest.raises(FileNotFoundError, match="no run"):
        train(tiny(2), tmp_path / "run", resume=True, quiet=True)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["precious"]
    train(tiny(2), tmp_path / "new" / "deep", quiet=True)  # parents are made
    with pytest.raises(FileExistsError, match="--resume"):
        train(tiny(2), tmp_path / "new" / "deep", quiet=True)


def test_vectors_know_their_kl(tmp_path):
    recipe = VectorRecipe(training=TrainingConfig(steps=5, batch_size=100))
    outcome = train(recipe, tmp_path / "run", quiet=True)
    result = outcome.likelihood
    assert result.kl == pytest.approx(result.true_nats - result.nats, abs=1e-9)
    assert result.kl > 0
    with pytest.raises(ValueError, match="models vectors"):
        train(replace(recipe, data=DataConfig(source="digits")), tmp_path / "x", quiet=True)
    assert not (tmp_path / "x").exists()


def test_a_budget_is_needed(tmp_path):
    with pytest.raises(ValueError, match="budget"):
        train(tiny(None), tmp_path / "run", quiet=True)


def test_conditional_training(tmp_path):
    recipe = tiny(3)
    recipe = replace(recipe, data=replace(recipe.data, condition="label"))
    train(recipe, tmp_path / "run", quiet=True)
    assert realnvp.load(tmp_path / "run").classes == 10


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": 0.0}, {"lr": math.nan}, {"batch_size": -1}, {"ema": 1.0}, {"clip": -1.0},
        {"minutes": 0.0}, {"decay_fraction": 0.0}, {"betas": (0.9, 1.0)}, {"warmup": -1},
    ],
)  # fmt: skip
def test_settings_are_validated(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrainingConfig(**bad)


# ---------------------------------------------------------------------- parts


def test_ema_is_the_average():
    model = torch.nn.Linear(1, 1, bias=False)
    ema = EMA(model, decay=0.5)
    values = [1.0, 2.0, 4.0]
    average = values[0]
    for i, value in enumerate(values):
        model.weight.data.fill_(value)
        ema.update()
        if i:
            decay = min(0.5, (1 + i) / (10 + i))
            average = decay * average + (1 - decay) * value
    with ema.applied():
        assert model.weight.item() == pytest.approx(average)
    assert model.weight.item() == 4.0


def test_learning_rate_rises_holds_and_falls():
    config = TrainingConfig(steps=1, lr=2.0, warmup=10, decay="linear", decay_fraction=0.5)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.2)
    assert learning_rate(config, 20, 0.5) == pytest.approx(2.0)
    assert learning_rate(config, 20, 0.75) == pytest.approx(1.0)
    assert learning_rate(config, 20, 1.0) == 0.0
    cosine = TrainingConfig(steps=1, lr=2.0, warmup=0)
    assert learning_rate(cosine, 0, 0.5) == pytest.approx(1.0)
