"""Trainings from start to end: of a recipe, of data in memory, and of a flow of one's own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import realnvp
from realnvp.bijections import AffineCoupling, ChannelMask
from realnvp.conditioners import MLP
from realnvp.config import DataConfig, ImageModel, ImageRecipe, TrainingConfig, VectorRecipe
from realnvp.recipes import load_recipe
from realnvp.training.callbacks import Callback
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
        "num_validations": 3,
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
    assert names == {
        "config", "metrics", "events", "checkpoints", "samples", "curves", "model",
        "log_likelihoods",
    }  # fmt: skip
    assert list((tmp_path / "run" / "samples").glob("*.png"))
    records = metrics(tmp_path / "run")
    train_record = next(r for r in records if r["kind"] == "train")
    terms = ("prior", "coupling", "norm", "preprocessing", "regularizer")
    assert train_record["loss"] == pytest.approx(sum(train_record[term] for term in terms))
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["model"]["hidden"] == 8
    flow = realnvp.load(tmp_path / "run")
    assert flow.trained_on.data.source == "digits"
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


def test_a_finished_run_of_minutes_is_finished(tmp_path, capsys):
    recipe = load_recipe("moons", training={"minutes": 0.05})
    first = train(recipe, tmp_path / "run", quiet=True)
    again = train(recipe, tmp_path / "run", resume=True)
    assert "already finished after" in capsys.readouterr().err
    assert (again.steps, again.seconds) == (first.steps, pytest.approx(first.seconds, abs=1))
    assert again.likelihood == first.likelihood


def test_a_budget_is_needed(tmp_path):
    with pytest.raises(ValueError, match="budget"):
        train(tiny(None), tmp_path / "run", quiet=True)


def test_conditional_training(tmp_path):
    recipe = tiny(3)
    recipe = replace(recipe, data=replace(recipe.data, condition="label"))
    train(recipe, tmp_path / "run", quiet=True)
    assert realnvp.load(tmp_path / "run").classes == 10


# ---------------------------------------------------------------------- from Python


def test_a_recipe_by_name_returns_the_flow_the_curve_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    training = {"steps": 20, "num_validations": 2}
    recipe = load_recipe("table", data={"source": "unused"}, training=training)
    result = realnvp.train(recipe, data=X, quiet=True)
    assert result.flow.shape == (3,)
    assert not result.flow.training
    assert result.folder is None
    assert result.steps == 20
    kinds = [r["kind"] for r in result.records]
    assert (kinds[0], kinds[-1]) == ("run", "final")
    assert "validation" in kinds
    assert result.records[-1]["loss"] == pytest.approx(result.likelihood.loss)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="without out"):
        realnvp.train(recipe, data=X, resume=True)


def test_images_in_memory_train_and_their_run_says_that_they_were(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    result = train(tiny(2), tmp_path / "run", data=images, quiet=True)
    assert result.likelihood.levels == 256
    flow = realnvp.load(tmp_path / "run")
    assert flow.trained_on is None, "nobody could read them again"
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["data"]["source"] == "(in memory)"


def own_flow(seed: int = 0) -> realnvp.Flow:
    """Return a chain of layers that no builder made."""
    torch.manual_seed(seed)
    layers = [
        AffineCoupling(ChannelMask(flip), MLP(1, 2, hidden=8, blocks=1), channels=1)
        for flip in (False, True)
    ]
    return realnvp.Flow(realnvp.Chain(*layers), shape=(2,))


def correlated(n: int = 400) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 2, generator=generator) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])


CONSTANT = TrainingConfig(batch_size=50, lr=1e-2, decay="constant", num_validations=4)


def test_a_flow_of_ones_own_learns_with_our_loop():
    flow, x = own_flow(), correlated()
    before = flow.log_prob(x).mean()
    result = realnvp.fit(flow, x, steps=100, training=CONSTANT, quiet=True)
    assert result.flow is flow
    assert flow.log_prob(x).mean() > before + 0.2
    assert result.likelihood.examples == 40


def test_a_fitted_flow_has_a_run_that_resumes_bit_for_bit(tmp_path, capsys):
    x = correlated()
    whole = realnvp.fit(own_flow(), x, steps=40, training=CONSTANT, out=tmp_path / "a", quiet=True)
    half = replace(CONSTANT, num_validations=2)
    realnvp.fit(own_flow(), x, steps=20, training=half, out=tmp_path / "b", quiet=True)
    parts = realnvp.fit(
        own_flow(1), x, steps=40, training=CONSTANT, out=tmp_path / "b", resume=True, quiet=True
    )
    expected = whole.flow.state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in parts.flow.state_dict().items())
    assert "cannot be" not in capsys.readouterr().out
    assert (tmp_path / "b" / "metrics.jsonl").is_file()
    with pytest.raises(ValueError, match="has changed since"):
        realnvp.fit(own_flow(), x + 1, steps=60, out=tmp_path / "b", resume=True, quiet=True)
    with pytest.raises(ValueError, match="began with seed 0, not 1"):
        realnvp.fit(own_flow(), x, steps=60, seed=1, out=tmp_path / "b", resume=True, quiet=True)


def test_a_built_flow_is_fitted_on_conditions_and_its_run_is_loaded(tmp_path):
    x = correlated()
    labels = (x[:, 0] > 0).long()
    flow = realnvp.vector_flow(2, hidden=4, couplings=2, classes=2)
    realnvp.fit(flow, x, condition=labels, steps=5, out=tmp_path / "run", quiet=True)
    loaded = realnvp.load(tmp_path / "run")
    assert torch.equal(loaded.log_prob(x, labels), flow.log_prob(x, labels))


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (torch.randn(50, 3), {}, "this flow models shape"),
        (torch.randn(50, 2), {"condition": torch.zeros(50)}, "not conditional"),
        (torch.randn(50, 2), {"condition": torch.zeros(3)}, "50 examples, but 3 conditions"),
        (torch.full((50, 2), torch.nan), {}, "missing value"),
        (torch.randn(2, 2), {"validation": 0.9}, "too few to train with"),
    ],
)
def test_what_does_not_fit_the_flow_is_refused(x, arguments, message):
    with pytest.raises(ValueError, match=message):
        realnvp.fit(own_flow(), x, steps=2, quiet=True, **arguments)


def test_a_flow_with_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        realnvp.fit(own_flow().requires_grad_(False), correlated(), steps=2, quiet=True)


def test_callbacks_of_ones_own_are_called():
    seen: list[str] = []

    class Mine(Callback):
        def log(self, kind, step, seconds, values):
            seen.append(kind)

    realnvp.fit(own_flow(), correlated(), steps=3, quiet=True, callbacks=[Mine()])
    assert seen[0] == "run"
    assert seen[-1] == "final"


# ---------------------------------------------------------------------- the data of a run


def test_a_run_is_not_resumed_when_a_file_has_changed(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    path = tmp_path / "rows.csv"
    np.savetxt(path, rows, delimiter=",", header="a,b", comments="")
    recipe = load_recipe("table", data={"source": str(path)}, training={"steps": 2})
    train(recipe, tmp_path / "run", quiet=True)
    assert realnvp.load(tmp_path / "run").trained_on.fingerprint.keys() >= {"train"}
    np.savetxt(path, rows[:-1], delimiter=",", header="a,b", comments="")
    longer = replace(recipe, training=replace(recipe.training, steps=4))
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.*")}
    with pytest.raises(ValueError, match=r"rows\.csv has changed .*: restore"):
        train(longer, tmp_path / "run", resume=True, quiet=True)
    assert {p: p.read_bytes() for p in before} == before
    np.savetxt(path, rows, delimiter=",", header="a,b", comments="")
    assert train(longer, tmp_path / "run", resume=True, quiet=True).steps == 4


def test_overwriting_begins_another_run(tmp_path):
    train(tiny(3), tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="the recipe models images"):
        train(
            replace(tiny(3), data=DataConfig(source="moons")),
            tmp_path / "run", overwrite=True, quiet=True,
        )  # fmt: skip
    assert len(metrics(tmp_path / "run")) > 1, "the old run is still there"
    train(replace(tiny(2), seed=1), tmp_path / "run", overwrite=True, quiet=True)
    assert {r["step"] for r in metrics(tmp_path / "run")} <= {0, 1, 2}
    assert [r["kind"] for r in metrics(tmp_path / "run")].count("run") == 1


def test_training_starts_from_the_weights_of_another_model(tmp_path):
    first = train(tiny(30), tmp_path / "first", quiet=True)
    start = train(tiny(1, lr=1e-9, ema=0), init=tmp_path / "first", quiet=True)
    assert abs(start.likelihood.loss - first.likelihood.loss) < 0.01
    again = train(tiny(1, lr=1e-9, ema=0), init=first.flow, quiet=True)
    assert again.likelihood == start.likelihood
    other = replace(tiny(1), model=replace(TINY, hidden=12))
    with pytest.raises(ValueError, match="has other layers than the recipe's model: bijection"):
        train(other, tmp_path / "other", init=tmp_path / "first", quiet=True)
    assert not (tmp_path / "other").exists()


def test_a_resumed_run_starts_from_another_model_only_without_a_checkpoint(tmp_path):
    first = train(tiny(30), tmp_path / "first", quiet=True)
    run = tmp_path / "run"
    start = train(tiny(1, lr=1e-9, ema=0), run, init=first.flow, quiet=True)
    other = realnvp.image_flow((1, 8, 8), levels=17, hidden=12)
    resumed = train(tiny(1, lr=1e-9, ema=0), run, init=other, resume=True, quiet=True)
    assert resumed.likelihood == start.likelihood, "it has not looked at the other layers"
    for path in (run / "checkpoints").glob("*.safetensors"):
        path.unlink()
    again = train(tiny(1, lr=1e-9, ema=0), run, init=first.flow, resume=True, quiet=True)
    assert again.likelihood == start.likelihood


def test_a_training_of_images_imports_no_pandas():
    """It would take 65 MB and half a second of every start."""
    code = (
        "import sys, realnvp.training.train as t; assert not {'pandas', 'pyarrow'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_fit_takes_one_column_and_standardizes_its_condition():
    theta = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    given = 100 * theta + 5000
    flow = realnvp.vector_flow(1, condition_dim=1)
    realnvp.fit(flow, theta, condition=given, steps=1, quiet=True)
    assert flow.condition_shift.item() == pytest.approx(5000, abs=30)
    assert flow.condition_scale.item() == pytest.approx(100, rel=0.2)
    flow.condition_shift.fill_(1.0)  # set by somebody
    realnvp.fit(flow, theta, condition=given, steps=1, quiet=True)
    assert flow.condition_shift.item() == 1
