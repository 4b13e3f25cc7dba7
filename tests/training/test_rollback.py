"""A loss or gradient that is not finite is named, undone and skipped, and a loss that rises is
undone; three times end the run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers.poison import CASES, IMAGES, LAYER, POINTS, POINTS_LAYER, poison_data
from realnvp.data import load_data
from realnvp.diagnostics import find_non_finite
from realnvp.training import rollback as rollback
from realnvp.training.callbacks import Callback
from realnvp.training.train import train
from realnvp.training.trainer import Trainer
from realnvp.utils.serialization import from_bytes, to_bytes


def trained(recipe: Any, poison: Callable | None, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    trainer = Trainer.from_recipe(recipe, load_data(recipe.data))
    if poison is not None:
        poison(trainer, monkeypatch)
    trainer.fit()
    return trainer


@pytest.mark.parametrize("name", CASES)
def test_the_layer_and_the_examples_are_named_and_the_step_is_undone(name, monkeypatch, capsys):
    poison, recipe, layer, rows = CASES[name]
    monkeypatch.setattr(rollback, "EVERY", 3)
    trainer = trained(recipe, poison, monkeypatch)
    assert trainer.step == 12
    found = trainer.rollback.skipped
    assert list(found) == [5]
    assert found[5]["layer"] == layer
    assert found[5]["examples"] == trainer.batches.indices(5)[rows].tolist()
    assert trainer.rollback.factor == 0.5
    assert trainer.rollback.failures == 0  # the copy of step 6 was made since
    line = capsys.readouterr().err
    assert line.startswith("realnvp: warning: step 5: not finite: ")
    assert layer in line
    assert "back to step 3" in line
    assert all(torch.isfinite(t).all() for t in trainer.flow.state_dict().values())
    assert all(torch.isfinite(t).all() for t in trainer.ema.average.values())


def test_it_goes_on_as_if_the_rate_had_been_half_and_the_batch_not_there(monkeypatch):
    monkeypatch.setattr(rollback, "EVERY", 3)
    rescued = trained(POINTS, poison_data, monkeypatch)
    # the same by hand: up to the copy of step 3, and from there without the batch of step 5
    by_hand = Trainer.from_recipe(POINTS, load_data(POINTS.data))
    for step in range(12):
        if step == 5:
            by_hand.step += 1
        else:
            by_hand.train_step(POINTS.training.lr * (1 if step < 3 else 0.5))
    expected = by_hand.flow.state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in rescued.flow.state_dict().items())


def test_the_third_time_in_a_row_ends_the_run_with_a_saved_state(tmp_path, monkeypatch, capsys):
    step = Trainer.train_step

    def poisoned(self: Trainer, lr: float) -> Any:
        if self.step >= 4:
            with torch.no_grad():
                self.flow.get_parameter(f"{LAYER}.first.bias")[0] = math.nan
        return step(self, lr)

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    monkeypatch.setattr(rollback, "EVERY", 2)
    folder = tmp_path / "run"
    with pytest.raises(FloatingPointError, match=r"conditioner\.first .*3rd time.*step 6 is saved"):
        train(IMAGES, folder, quiet=True)
    assert capsys.readouterr().err.count("warning: step 4: not finite") == 1
    monkeypatch.undo()
    lower = replace(IMAGES, training=replace(IMAGES.training, lr=1e-4))
    outcome = train(lower, folder, resume=True, quiet=True)
    assert outcome.steps == 12
    assert outcome.skipped == 3  # the batches that were given up before
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["batch"] for r in records if r["kind"] == "skipped"] == [4, 5, 6]
    assert all(r["lr"] == 1e-4 for r in records if r["kind"] == "train" and r["step"] > 6)
    assert [r for r in records if r["kind"] == "train"][-1]["skipped"] == 3


RISING = replace(POINTS, training=replace(POINTS.training, steps=300, lr=1e-3))


def spoil(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, step: int = 180) -> None:
    """Before that step the weights go where the loss is high, but finite; once."""
    train_step, done = trainer.train_step, []

    def spoiled(lr: float) -> Any:
        if trainer.step == step and not done:
            done.append(True)
            with torch.no_grad():
                trainer.flow.get_parameter(f"{POINTS_LAYER}.bias").add_(3.0)
        return train_step(lr)

    monkeypatch.setattr(trainer, "train_step", spoiled)


def test_a_loss_that_rises_is_undone(monkeypatch, capsys):
    trainer = trained(RISING, spoil, monkeypatch)
    line = capsys.readouterr().err
    assert "the log-density fell from" in line
    assert "back to step 100, with half the learning rate" in line
    assert trainer.step == 300
    assert trainer.rollback.factor == 0.5
    assert not trainer.rollback.skipped
    # the same by hand: half the rate from step 100 on
    by_hand = Trainer.from_recipe(RISING, load_data(RISING.data))
    for step in range(300):
        by_hand.train_step(RISING.training.lr * (1 if step < 100 else 0.5))
    expected = by_hand.flow.state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in trainer.flow.state_dict().items())


def test_no_copy_is_made_of_a_state_that_is_going_wrong(monkeypatch, capsys):
    trainer = trained(RISING, lambda *args: spoil(*args, step=189), monkeypatch)
    assert "back to step 100" in capsys.readouterr().err
    assert trainer.rollback.factor == 0.5


def test_what_is_known_of_the_loss_is_part_of_a_checkpoint(tmp_path, monkeypatch):
    trainer = trained(RISING, spoil, monkeypatch)
    again = Trainer.from_recipe(RISING, load_data(RISING.data))
    again.load_state_dict(from_bytes(to_bytes(trainer.state_dict())))
    assert again.rollback.state_dict() == trainer.rollback.state_dict()
    assert len(again.rollback.level.losses) == rollback.WINDOW


def test_a_step_whose_gradient_is_far_longer_than_those_before_is_skipped(monkeypatch):
    recipe, records = replace(POINTS, training=replace(POINTS.training, steps=90)), []

    class Records(Callback):
        def log(self, kind: str, step: int, seconds: float, values: dict[str, Any]) -> None:
            records.append((kind, values))

    def trainer() -> Trainer:
        made = Trainer.from_recipe(recipe, load_data(recipe.data))
        batch = made.batch

        def poisoned(step: int) -> Any:
            x, *others = batch(step)
            if step == 70:
                x = x.clone()
                x[3] = 1e4  # far from all points, and finite
            return x, *others

        monkeypatch.setattr(made, "batch", poisoned)
        return made

    once = trainer()
    once.callbacks = [Records()]
    once.fit()
    assert once.step == 90
    assert list(once.rollback.skipped) == [70]
    assert once.rollback.factor == 1
    found = next(values for kind, values in records if kind == "skipped")
    assert found["batch"] == 70
    assert found["gradient"] > 100 * found["usual"] > 0
    assert max(values["loss"] for kind, values in records if kind == "train") < 10
    # the same by hand, without the batch, and with a break in between
    by_hand = trainer()
    for step in range(90):
        if step == 70:
            by_hand.step += 1
            by_hand.rollback.gradients.add(1.0)
            continue
        by_hand.train_step(recipe.training.lr)
        if step == 60:
            state = from_bytes(to_bytes(by_hand.state_dict()))
            by_hand = trainer()
            by_hand.load_state_dict(state)
    expected = by_hand.flow.state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in once.flow.state_dict().items())


@pytest.mark.parametrize(
    "recipe", [IMAGES, replace(POINTS, model=replace(POINTS.model, norm="batch"))]
)
def test_a_skipped_step_moves_no_running_average(recipe, monkeypatch):
    once = Trainer.from_recipe(recipe, load_data(recipe.data))
    usual = once.rollback.gradients.add
    monkeypatch.setattr(
        once.rollback.gradients, "add", lambda norm: 1.0 if once.step == 5 else usual(norm)
    )
    once.fit()
    assert list(once.rollback.skipped) == [5]
    by_hand = Trainer.from_recipe(recipe, load_data(recipe.data))
    for step in range(12):
        if step == 5:
            by_hand.step += 1
        else:
            by_hand.train_step(recipe.training.lr)
    expected = by_hand.flow.state_dict()
    assert any("running_var" in name for name in expected)
    assert all(torch.equal(t, expected[n]) for n, t in once.flow.state_dict().items())
    assert all(torch.equal(t, by_hand.ema.average[n]) for n, t in once.ema.average.items())


def test_gradients_that_grow_for_good_are_no_spikes():
    gradients = rollback.GradientSpikeDetector(clip=1.0)
    assert gradients.add(1e9) is None  # nothing to compare with
    for _ in range(rollback.WINDOW):
        assert gradients.add(2.0) is None
    skipped = [gradients.add(1000.0) is not None for _ in range(rollback.WINDOW)]
    assert skipped == [True] * (rollback.WINDOW // 2) + [False] * (rollback.WINDOW // 2)


def test_gradients_too_short_to_be_clipped_are_no_spikes():
    gradients = rollback.GradientSpikeDetector(clip=1.0)
    assert not any(gradients.add(norm) for norm in [*[1e-4] * 60, 90.0])
    assert gradients.add(101.0) == 1e-4


def test_chance_and_single_examples_are_no_rise():
    level, generator = rollback.LossSpikeDetector(), torch.Generator().manual_seed(0)
    losses = 1.5 + 0.2 * torch.randn(20_000, generator=generator)
    losses[::20] += 1e6  # one batch in twenty has an example far from all others
    for loss in losses.tolist():
        level.add(loss)
        assert not level.is_high()


def test_a_validation_that_is_not_finite_is_told_and_never_the_best(monkeypatch, capsys):
    from realnvp.evaluation import Likelihood
    from realnvp.training import trainer as module

    nothing = Likelihood(32, 0.0, 1, bits_per_dim=math.nan, levels=17)
    monkeypatch.setattr(module, "evaluate", lambda *args, **kwargs: nothing)
    trainer = trained(IMAGES, None, monkeypatch)
    assert "the validation is not finite" in capsys.readouterr().err
    with pytest.raises(FloatingPointError, match="no validation was finite"):
        trainer.best_flow()


@pytest.mark.parametrize("where", ["bijection.layers.6", "bijection.layers.2.conditioner.last"])
def test_the_first_layer_is_the_one(where):
    trainer = Trainer.from_recipe(IMAGES, load_data(IMAGES.data))
    flow = trainer.flow.train()

    def hook(module: Any, args: Any, output: Any) -> Any:
        value = output[0] if isinstance(output, tuple) else output
        value = value.clone()
        value[1] = math.nan
        return (value, *output[1:]) if isinstance(output, tuple) else value

    flow.get_submodule(where).register_forward_hook(hook)
    finding = find_non_finite(flow, *trainer.batch(0)[:3])
    assert finding.where.startswith(where + " (")
    assert finding.rows == [1]


def test_the_layer_of_a_later_validation_example_is_found():
    recipe = replace(IMAGES, training=replace(IMAGES.training, validation_examples=64))
    trainer, calls = Trainer.from_recipe(recipe, load_data(recipe.data)), []

    def hook(module: Any, args: Any, output: Any) -> Any:
        calls.append(len(args[0]))
        return (output[0] * math.nan, output[1]) if len(calls) == 3 else output

    handle = trainer.flow.get_submodule("bijection.layers.6").register_forward_hook(hook)
    held_out = trainer.validation_examples(64)
    assert trainer._first_non_finite(held_out).startswith("bijection.layers.6 (")
    assert sum(calls) > 2 * trainer.evaluation_batch
    handle.remove()
    assert trainer._first_non_finite(held_out) == "nothing when it is repeated"


def test_nothing_found_is_said(monkeypatch):
    trainer = Trainer.from_recipe(IMAGES, load_data(IMAGES.data))
    assert (
        "nothing when the step is repeated"
        in find_non_finite(trainer.flow, *trainer.batch(0)[:3]).where
    )
