"""Training: one loop, on Lightning Fabric, that can be read from top to bottom.

Nothing random has a hidden state: the order of the data comes from the seed and the epoch, the
noise of a step from the seed and the step. So a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from realnvp.config import Recipe, to_dict
from realnvp.data import Dataset, load_data
from realnvp.data.batches import Batches, step_seed, to_device
from realnvp.ema import EMA
from realnvp.evaluate import Likelihood, evaluate
from realnvp.keeper import Keeper
from realnvp.models import Flow
from realnvp.progress import Bar, duration
from realnvp.runs import Run
from realnvp.safety import Interrupted, first_bad_layer, stop_signals
from realnvp.setup import build, compute_dtype, learning_rate, make_optimizer

__all__ = ["Outcome", "Trainer", "train", "unit_of"]

LOG_EVERY = 1.0
"""Seconds between records of the training loss."""


@dataclass
class Outcome:
    """What a training came to."""

    run: Run
    likelihood: Likelihood
    steps: int
    seconds: float
    parameters: int


def unit_of(flow: Flow) -> tuple[float, str]:
    """What one nat per example is in the unit of reports, and the unit's name."""
    return (1.0, "nats") if flow.levels is None else (1 / (flow.dim * math.log(2)), "bits/dim")


def train(recipe: Recipe, folder: Path, *, resume: bool = False, quiet: bool = False) -> Outcome:
    """Train a recipe's model, and leave a run folder.

    Args:
        recipe: model, data and training settings; at least one budget.
        folder: the run folder to make, or to go on with.
        resume: go on with the run in ``folder``.
        quiet: show no progress.

    Raises:
        ValueError: if settings and data do not go together.
        FileExistsError: if there is something in the folder, and ``resume`` is not asked for.
        Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
        FloatingPointError: if the loss or a gradient is not finite, naming the layer.
    """
    run = Run(folder, resume=resume)
    trainer = Trainer(recipe, load_data(recipe.data))
    if resume:
        trainer.load_state_dict(run.load())
    run.create(to_dict(recipe))
    trainer.keeper = run.keeper(trainer.step)
    with stop_signals() as stopped, Bar("training", trainer.progress(), visible=not quiet) as bar:
        trainer.fit(stopped, bar)
    if stopped:
        raise Interrupted(
            f"stopped at step {trainer.step} after {duration(trainer.seconds)}; everything is "
            f"saved in {folder}: go on with the same command and --resume"
        )
    flow = trainer.best_flow()
    toy = trainer.dataset.toy
    likelihood = evaluate(
        flow,
        trainer.dataset.validation,
        seed=recipe.seed,
        true_log_density=toy.log_density if toy is not None else None,
    )
    parameters = sum(p.numel() for p in flow.parameters())
    return Outcome(run, likelihood, trainer.step, trainer.seconds, parameters)


class Trainer:
    """Everything that a training needs, set up; :meth:`fit` is the loop.

    Args:
        recipe: model, data and training settings; at least one budget.
        dataset: the data.

    Attributes:
        keeper: where the best model, the metrics and the checkpoints go; in memory, unless it is
            set to a run's.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self.recipe, self.dataset = recipe, dataset
        self.config = config = recipe.training
        if config.minutes is None and config.epochs is None and config.steps is None:
            raise ValueError("no budget: give --minutes, --epochs or --steps")
        self.fabric = fabric = Fabric(accelerator=config.accelerator, devices=config.devices)
        fabric.launch()
        torch.manual_seed(recipe.seed)
        self.flow = build(recipe, dataset)
        self.flow.trained_on = {
            "data": to_dict(recipe.data),
            "columns": dataset.columns,
            "categories": dataset.categories,
        }
        self.flow.set_compute_dtype(compute_dtype(config, self.flow, fabric.device))
        optimizer = make_optimizer(self.flow, config)
        self.wrapped, self.optimizer = fabric.setup(self.flow, optimizer)
        self.wrapped.mark_forward_method("loss_terms")
        self.ema = EMA(self.flow, config.ema)
        self.batches = Batches(
            to_device(dataset.train, fabric.device), config.batch_size, recipe.seed, dataset.flip
        )
        few = torch.arange(min(config.validation_examples, len(dataset.validation)))
        self.validation = to_device(dataset.validation.select(few), fabric.device)
        self.generator = torch.Generator(fabric.device)
        self.unit, self.unit_name = unit_of(self.flow)
        self.keeper: Keeper = Keeper()
        self.step, self.seconds = 0, 0.0
        self.best, self.worse = math.inf, 0  # validations since the best one

    # ------------------------------------------------------------------ the loop

    def fit(self, stopped: list[int], bar: Bar) -> None:
        """Train until the budget is used up, or a signal number appears in ``stopped``."""
        config, means = self.config, _Mean()
        start = time.monotonic() - self.seconds
        logged = saved = time.monotonic()
        while self.progress() < 1 and not stopped and not self.out_of_patience():
            before = self.progress()
            lr = learning_rate(config, self.step, before)
            means.add(self.train_step(lr))
            self.seconds = time.monotonic() - start
            now = time.monotonic()
            due = math.floor(self.progress() * config.validations)
            validate = due > math.floor(before * config.validations)
            if now - logged >= LOG_EVERY or validate:
                rate = means.count * self.batches.size / (now - logged)
                self.log(bar, means.take(), lr, rate)
                logged = now
            if validate:
                self.validate(bar)
            if validate or now - saved >= config.checkpoint_every:
                self.keeper.save(self)
                saved = time.monotonic()
            if validate:  # its time is part of the budget, but not of the training's speed
                logged = time.monotonic()
                self.seconds = logged - start
        if stopped:
            self.keeper.save(self)
        elif math.isinf(self.best):  # so short a budget that none was due
            self.validate(bar)
            self.keeper.save(self)
        self.keeper.close()

    def train_step(self, lr: float) -> dict[str, Tensor]:
        """One optimizer step; returns the terms of the loss, in nats per example."""
        rank, ranks = self.fabric.global_rank, self.fabric.world_size
        self.generator.manual_seed(step_seed(self.recipe.seed, 0, self.step, rank))
        x, condition = self.batches.get(self.step, rank, ranks, self.generator)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.wrapped.train()
        self.optimizer.zero_grad()
        terms = self.wrapped.loss_terms(x, condition, self.generator)
        self.fabric.backward(sum(terms.values()) / self.flow.dim)
        norm = self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=self.config.clip, error_if_nonfinite=False
        )
        assert norm is not None  # clipping by norm returns it
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"step {self.step}: not finite in {first_bad_layer(self.flow, x, condition)}; "
                f"the last checkpoint is intact: resume it with a lower --training.lr"
            )
        self.optimizer.step()
        self.ema.update()
        self.step += 1
        return {**{name: term.detach() for name, term in terms.items()}, "gradient": norm}

    def progress(self) -> float:
        """The fraction of the budget that is used up, in [0, 1]."""
        config = self.config
        used = [
            self.step / config.steps if config.steps else 0.0,
            self.step / (config.epochs * self.batches.per_epoch) if config.epochs else 0.0,
            self.seconds / (60 * config.minutes) if config.minutes else 0.0,
        ]
        return min(1.0, max(used))

    def out_of_patience(self) -> bool:
        """Whether so many validations were no better that training is to stop early."""
        return self.config.patience is not None and self.worse >= self.config.patience

    # ------------------------------------------------------------------ what it leaves

    def log(self, bar: Bar, terms: dict[str, float], lr: float, rate: float) -> None:
        """Show and write the mean loss since the last record, with its terms."""
        gradient = terms.pop("gradient")
        values = {name: value * self.unit for name, value in terms.items()}
        loss = sum(values.values())
        record = {"loss": loss, **values, "gradient": gradient, "lr": lr, "examples_per_s": rate}
        self.keeper.log("train", self.step, self.seconds, record)
        short = " ".join(f"{name} {value:.2f}" for name, value in values.items() if value)
        best = f" best {self.best:.3f}" if math.isfinite(self.best) else ""
        bar.update(
            self.progress(),
            f"{loss:.3f} {self.unit_name}{best} ({short}) {rate:.0f} examples/s",
        )

    def validate(self, bar: Bar) -> None:
        """Evaluate the averaged weights, and keep them if they are the best."""
        with self.ema.applied():
            result = evaluate(self.flow, self.validation, seed=self.recipe.seed)
            self.worse += 1
            if result.loss < self.best:
                self.best, self.worse = result.loss, 0
                self.keeper.keep(self.flow)
            record = {"validation": result.loss, "standard_error": result.standard_error}
            self.keeper.log("validation", self.step, self.seconds, record)
            self.keeper.picture(self)
        bar.say(
            f"step {self.step:,} after {duration(self.seconds)}: validation {result.loss:.4f} "
            f"± {result.standard_error:.4f} {self.unit_name}"
        )

    def best_flow(self) -> Flow:
        """The model with the best validation, in evaluation mode and full precision."""
        return self.keeper.best(self.flow).to(self.fabric.device)

    def state_dict(self) -> dict[str, Any]:
        """All that the training goes on from: nothing else has a state."""
        return {
            "model": self.flow.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "worse": self.worse,
            "rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: if the checkpoint is of another model or training.
        """
        try:
            self.flow.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
            torch.set_rng_state(state["rng"])
            self.step, self.seconds = state["step"], state["seconds"]
            self.best, self.worse = state["best"], state["worse"]
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint does not fit the settings: resume a run with the model it began "
                f"with ({str(error).splitlines()[-1].strip()})"
            ) from error


class _Mean:
    """The mean of terms over steps, summed on the device: reading a number would wait for it."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        self.count += 1
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + term if name in self._sums else term

    def take(self) -> dict[str, float]:
        means = {name: value.item() / self.count for name, value in self._sums.items()}
        self.count, self._sums = 0, {}
        return means
