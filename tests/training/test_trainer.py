"""The loop: what it reads from the device, what threads share, and how time is spent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.poison import IMAGES, POINTS
from realnvp.config import Recipe, TrainingConfig
from realnvp.data import load_data
from realnvp.evaluation import Likelihood
from realnvp.recipes import load_recipe
from realnvp.training import trainer
from realnvp.training.callbacks import Callback, History
from realnvp.training.launch import launch
from realnvp.training.runtime import limited_threads
from realnvp.training.trainer import RunningMeans, Trainer
from realnvp.utils.progress import Bar


def trained(recipe: Recipe) -> dict[str, Tensor]:
    with launch("cpu", local=True) as processes:
        it = Trainer.from_recipe(recipe, load_data(recipe.data), processes)
        with limited_threads(it.flow, recipe.training.batch_size):
            it.fit()
    return it.best_flow().state_dict()


def test_equal_seeds_are_equal_in_threads_too():
    recipe = replace(POINTS, training=replace(POINTS.training, steps=30))
    alone = trained(recipe)
    generator = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(trained, [recipe] * 4))
    for weights in found:
        assert all(torch.equal(weights[name], tensor) for name, tensor in alone.items())
    assert torch.equal(torch.get_rng_state(), generator), "the global generator is somebody else's"


@pytest.mark.parametrize("recipe", [IMAGES, POINTS], ids=["images", "points"])
def test_a_step_reads_one_value_from_the_device(monkeypatch, recipe):
    """Every read waits for a GPU. This counts them without one."""
    it = Trainer.from_recipe(recipe, load_data(recipe.data))
    it.train_step(1e-3)
    read: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy", "nonzero"):
        method = getattr(Tensor, name)

        def counted(self: Tensor, *args: Any, name: str = name, method: Any = method) -> Any:
            read.append(name)
            return method(self, *args)

        monkeypatch.setattr(Tensor, name, counted)
    assert it.train_step(1e-3) is not None
    monkeypatch.undo()
    assert read == ["tolist"]


class Recorder(Callback):
    """Note what is called, with which kinds of values."""

    draws = True

    def __init__(self) -> None:
        self.calls: list[str] = []

    def log(self, kind: str, step: int, seconds: float, values: dict[str, Any]) -> None:
        self.calls.append(kind)

    def picture(self, step: int, samples: Tensor) -> None:
        assert len(samples) == trainer.IMAGES
        self.calls.append(f"picture {step}")

    def save(self, state: dict[str, Any], *, final: bool = False) -> None:
        self.calls.append(f"save {state['now']['step']}{' final' if final else ''}")


def test_callbacks_are_called_in_order():
    it = Trainer.from_recipe(IMAGES, load_data(IMAGES.data))
    recorder = Recorder()
    it.callbacks = [recorder]
    it.fit()
    it.evaluate_best()
    it.finish()
    calls = [call for call in recorder.calls if call != "train"]
    assert calls == [
        "validation", "picture 6", "save 6", "validation", "picture 12", "save 12", "final",
        "save 12 final",
    ]  # fmt: skip


def test_the_final_evaluation_leaves_the_training_as_it_is():
    it = Trainer.from_recipe(IMAGES, load_data(IMAGES.data))
    it.fit()
    before = {name: tensor.clone() for name, tensor in it.flow.state_dict().items()}
    likelihood = it.evaluate_best()
    assert likelihood.examples == len(it.dataset.reporting[1])
    assert all(torch.equal(t, before[n]) for n, t in it.flow.state_dict().items())


def test_a_short_budget_of_minutes_is_kept_with_its_evaluations(monkeypatch):
    now, evaluate = 0.0, Trainer.evaluate

    def tick() -> float:
        nonlocal now
        now += 0.02
        return now

    def slow(*args: Any) -> Likelihood:
        nonlocal now
        now += 0.3
        return evaluate(*args)

    monkeypatch.setattr(trainer.time, "monotonic", tick)
    monkeypatch.setattr(Trainer, "evaluate", slow)
    training = replace(IMAGES.training, steps=None, minutes=0.1, validation_share=0.1)
    it = Trainer.from_recipe(replace(IMAGES, training=training), load_data(IMAGES.data))
    history = History()
    it.callbacks = [history]
    it.fit()
    likelihood = it.evaluate_best()
    assert it.seconds == pytest.approx(6, rel=0.2)  # an evaluation that does not fit is left out
    kinds = [record["kind"] for record in history.records]
    assert kinds[-1] == "final"
    assert "validation" in kinds
    assert 0 < likelihood.examples <= len(it.dataset.reporting[1])


def test_validations_of_steps_do_not_depend_on_the_clock(monkeypatch):
    training = replace(IMAGES.training, validation_share=0.2, num_validations=6)
    found = []
    for hurry in (0.0, 1e6):
        ticks = iter(range(10**9))
        monkeypatch.setattr(trainer.time, "monotonic", lambda t=ticks, h=hurry: h * next(t))
        it = Trainer.from_recipe(replace(IMAGES, training=training), load_data(IMAGES.data))
        history = History()
        it.callbacks = [history]
        it.fit()
        found.append([(r["step"], r["loss"]) for r in history.records if r["kind"] == "validation"])
    assert found[0] == found[1]
    assert 1 <= len(found[0]) < 6


def test_batch_norm_is_frozen_at_the_end_of_the_budget():
    """The running averages of the conditioners stop; those of the flow's own layers do not."""
    training = replace(IMAGES.training, steps=4, frozen_norm=0.5)
    it = Trainer.from_recipe(replace(IMAGES, training=training), load_data(IMAGES.data))
    averages = {n: b for n, b in it.flow.named_buffers() if n.endswith("running_mean")}
    assert {"conditioner" in name for name in averages} == {True, False}
    for moves in (True, True, False, False):
        before = {name: tensor.clone() for name, tensor in averages.items()}
        it.train_step(1e-3)
        for name, tensor in averages.items():
            moved = not torch.equal(tensor, before[name])
            assert moved == (moves or "conditioner" not in name), name


def test_log_lines_of_vectors_are_log_densities(capsys):
    from realnvp.utils.progress import Bar

    recipe = load_recipe("moons", training={"steps": 5, "num_validations": 1})
    it = Trainer.from_recipe(recipe, load_data(recipe.data))
    it.fit(Bar("training"))
    lines = capsys.readouterr().err.splitlines()
    said = next(line for line in lines if line.startswith("step 5 after"))
    assert f"validation {-it.selection.loss:.4f} ±" in said
    assert said.endswith("nats (log-density)")
    assert any("current weights; validation: their running average" in line for line in lines)


def test_something_must_end_a_training():
    with pytest.raises(ValueError, match="no budget"):
        trainer.check_budget(TrainingConfig())


def test_running_means_start_again():
    means = RunningMeans()
    for value in (1.0, 3.0):
        means.add({"loss": torch.tensor(value)})
    with launch("cpu", local=True) as processes:
        assert means.take(processes) == {"loss": 2.0}
    assert means.count == 0


@pytest.mark.parametrize("patience", [None, 6])
def test_validations_that_get_worse_are_told_once(monkeypatch, patience):
    """The best of twelve validations is the third; those after the tenth are worse and worse."""
    losses = [5.0, 4.0, 3.0, 3.01, 3.01, 3.01, 3.01, 3.01, 3.01, 8.0, 9.0, 10.0]
    found = iter(losses)

    def evaluate(*args: Any, **kwargs: Any) -> Likelihood:
        return Likelihood(32, 0.1, 1, bits_per_dim=next(found, 3.0), levels=17)

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    settings = replace(IMAGES.training, num_validations=12, patience=patience)
    it = Trainer.from_recipe(replace(IMAGES, training=settings), load_data(IMAGES.data))
    bar = Bar("training")
    said: list[str] = []
    monkeypatch.setattr(bar, "say", said.append)
    monkeypatch.setattr(bar, "warn", said.append)
    it.fit(bar)
    lines = [line for line in said if line.startswith("the last ")]
    steps, worse = (12, 7) if patience is None else (9, 6)
    assert (it.step, it.selection.step, len(lines)) == (steps, 3, 1)
    told = f"the last {worse} validations are worse than that of step 3 (3.0000 bits/dim)"
    assert lines[0].startswith(told)
    assert ("training ends here" in lines[0]) == (patience is not None)
