"""The training loop, on Lightning Fabric, that can be read from top to bottom.

Nothing random has a hidden state: the order of the data comes from the seed and the epoch, the
noise of a step from the seed, the step and the example. So a resumed run equals an uninterrupted
one, and several processes with a share of every batch do what one would do with the whole.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from realnvp.checkpoint import check_like
from realnvp.config import Recipe, TrainingConfig, to_dict
from realnvp.data import Dataset
from realnvp.data.batches import Batches, to_device
from realnvp.ema import EMA
from realnvp.evaluate import noise_of
from realnvp.keeper import Keeper
from realnvp.launch import Team, launch
from realnvp.models import Flow
from realnvp.noise import normal_of, uniform
from realnvp.progress import Bar
from realnvp.reports import Mean, log, validate
from realnvp.rescue import Rescue, recover, skip
from realnvp.setup import (
    build,
    compile_conditioners,
    compute_dtype,
    learning_rate,
    make_optimizer,
    smoothing_of,
)
from realnvp.state import capture, initialize, restore, snapshot, whole

__all__ = ["Trainer", "check_budget", "unit_of"]

LOG_EVERY = 1.0
"""Seconds between records of the training loss."""

NOISE, SMOOTHING = 0, 5  # streams of random numbers, beside those of the batches


def unit_of(flow: Flow) -> tuple[float, str]:
    """What one nat per example is in the unit of reports, and the unit's name."""
    return (1.0, "nats") if flow.levels is None else (1 / (flow.dim * math.log(2)), "bits/dim")


def check_budget(config: TrainingConfig) -> None:
    """Something must end a training."""
    if config.minutes is None and config.epochs is None and config.steps is None:
        raise ValueError("no budget: give --minutes, --epochs or --steps")


class Trainer:
    """Everything that a training needs, set up; :meth:`fit` is the loop.

    Args:
        recipe: model, data and training settings; at least one budget.
        dataset: the data.
        team: the processes that train; those of the settings, if left out.

    Attributes:
        keeper: where the metrics, the checkpoints and the pictures go; nowhere, unless it is set.
        best_weights: those with the best validation.
        stopping: number of the signal that is ending the loop, 0 for none.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, team: Team | None = None) -> None:
        self.recipe, self.dataset = recipe, dataset
        self.config = config = recipe.training
        check_budget(config)
        if team is None:
            team = launch(config.accelerator, config.devices, config.nodes, config.strategy)
        self.team = team
        device = team.fabric.device
        torch.manual_seed(recipe.seed)
        self.flow = build(recipe, dataset)
        self.flow.trained_on = {
            "data": to_dict(recipe.data),
            "columns": dataset.columns,
            "categories": dataset.categories,
        }
        self.flow.set_compute_dtype(compute_dtype(config, self.flow, device))
        self.flow.memory = config.memory
        if config.compile:
            compile_conditioners(self.flow)
        self.batches = Batches(
            to_device(dataset.train, device),
            config.batch_size,
            recipe.seed,
            dataset.flip,
            dataset.shift,
        )
        if team.ranks > self.batches.size:
            raise ValueError(
                f"a batch of {self.batches.size} examples cannot be shared by {team.ranks} "
                f"processes: raise --training.batch_size, or use fewer"
            )
        self.smoothing = smoothing_of(self.flow, dataset, config.smoothing, device)
        self._set_up(device)
        self.ema = EMA(self.flow, config.ema)
        # Any of them: the first ones of a file that is sorted would be of one kind.
        few = torch.randperm(
            len(dataset.validation), generator=torch.Generator().manual_seed(recipe.seed)
        )[: config.validation_examples].sort()
        self.validation = to_device(dataset.validation.select(few.values), device)
        # Validations are not to need more memory than the training.
        self.evaluation_batch = min(250, self.batches.size)
        self.unit, self.unit_name = unit_of(self.flow)
        self.keeper: Keeper = Keeper()
        self.rescue = Rescue(config.lr)
        self.step, self.seconds = 0, 0.0
        self.best, self.best_step = math.inf, 0
        self.worse = 0  # validations since the best one
        self.best_weights: dict[str, Tensor] | None = None
        self.stopping = 0
        self._stopped: list[int] = []
        self._start = time.monotonic()

    def _set_up(self, device: torch.device) -> None:
        fabric, config = self.team.fabric, self.config
        self.optimizer: Any  # Fabric's wrapper of one
        if self.team.sharded:
            initialize(self.flow.to(device), *self.batch(0))
            self.wrapped = fabric.setup_module(self.flow)
            self.optimizer = fabric.setup_optimizers(make_optimizer(self.flow, config))
        else:
            optimizer = make_optimizer(self.flow, config)
            self.wrapped, self.optimizer = fabric.setup(self.flow, optimizer)
        self.wrapped.mark_forward_method("loss_terms")

    # ------------------------------------------------------------------ the loop

    def fit(self, stopped: list[int], bar: Bar) -> None:
        """Train until the budget is used up, or a signal number appears in ``stopped``."""
        config, means = self.config, Mean()
        self._stopped, self._start = stopped, time.monotonic() - self.seconds
        logged = saved = self.seconds
        if config.patience is not None and self.step == self.worse == 0 and not self.best_weights:
            validate(self, bar)  # few data: the start may be the best there is
        while self.progress() < 1 and not self.stopping and not self.out_of_patience():
            if self.rescue.is_due(self.step):
                self.rescue.keep({**snapshot(self._now()), "best_weights": self.best_weights})
            before = self.progress()
            lr = self.rescue.factor * learning_rate(config, self.step, before)
            if self.step in self.rescue.skipped:
                skip(self)
            else:
                terms = self.train_step(lr)
                if terms is None or self.rescue.level.is_high():
                    recover(self, bar)
                    means, logged = Mean(), self.seconds
                    continue
                means.add(terms)
            due = math.floor(self.progress() * config.validations)
            is_due = due > math.floor(before * config.validations)
            if means.count and (self.seconds - logged >= LOG_EVERY or is_due):
                rate = means.count * self.batches.size / max(self.seconds - logged, 1e-9)
                log(self, bar, means, lr, rate)
                logged = self.seconds
            if is_due:
                validate(self, bar)
            if is_due or self.seconds - saved >= config.checkpoint_every:
                self.keeper.save(self, self.state_dict())
                saved = self.seconds
            if is_due:  # its time is part of the budget, but not of the training's speed
                self.agree()
                logged = self.seconds
        if not self.stopping and self.best_weights is None:
            validate(self, bar)  # so short a budget that none was due
        state = self.state_dict()
        with self.team.together():
            self.keeper.save(self, state, final=True)

    def train_step(self, lr: float) -> dict[str, Tensor] | None:
        """One optimizer step, unless something is not finite: then nothing is updated.

        Returns:
            the terms of the loss, in nats per example; those of the processes average to those
            of the batch. None if something is not finite.
        """
        x, condition, noise = self.batch(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.wrapped.train()
        self.optimizer.zero_grad()
        terms = self.wrapped.loss_terms(x, condition, noise)
        # The regulariser is of the model, everything else of examples: gradients are averaged
        # over the processes, each of which counts by how many examples it holds.
        weight = len(x) * self.team.ranks / self.batches.size
        terms = {n: t if n == "regulariser" else t * weight for n, t in terms.items()}
        loss = torch.stack(list(terms.values())).sum() / self.flow.dim
        self.team.fabric.backward(loss)
        norm = whole(torch.nn.utils.clip_grad_norm_(self.flow.parameters(), self.config.clip))
        bad, largest = self.agree(not (torch.isfinite(norm) and torch.isfinite(loss)), loss.item())
        if bad:
            return None
        self.optimizer.step()
        self.ema.update()
        self.rescue.succeed(self.step, largest)
        self.step += 1
        return {**{name: term.detach() for name, term in terms.items()}, "gradient": norm}

    def batch(self, step: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """This process's share of the batch of a step: examples, condition and noise."""
        x, condition = self.batches.get(step, self.team.rank, self.team.ranks)
        start = self.batches.share(self.team.rank, self.team.ranks).start
        if self.smoothing is not None:
            seed = self.recipe.seed, SMOOTHING, step
            u = uniform(seed, start, len(x), self.flow.shape, self.flow.dtype, x.device)
            x = x + normal_of(u) @ self.smoothing
        return x, condition, noise_of(self.flow, (self.recipe.seed, NOISE, step), start, len(x))

    def agree(self, *values: float) -> tuple[float, ...]:
        """Have one clock and one end in all processes, and the largest of each of these values."""
        stop = self._stopped[0] if self._stopped else 0
        now = time.monotonic() - self._start
        self.seconds, stopping, *largest = self.team.agree(now, stop, *values)
        self.stopping = int(stopping)
        return tuple(largest)

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

    # ------------------------------------------------------------------ the result, and the state

    def best_flow(self) -> Flow:
        """The model with the best validation, in evaluation mode and full precision.

        Raises:
            FloatingPointError: if no validation was finite.
        """
        if self.best_weights is None:
            raise FloatingPointError(
                "no validation was finite, so there is no best model: lower --training.lr, and "
                "look for extreme values in the data"
            )
        device = self.team.fabric.device
        flow = build(self.recipe, self.dataset).to(device) if self.team.sharded else self.flow
        flow.trained_on = self.flow.trained_on
        flow.load_state_dict(self.best_weights)
        flow.set_compute_dtype(None)
        return flow.eval()

    def _now(self) -> dict[str, Any]:
        return {
            **capture(self.flow, self.optimizer, self.ema),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "best_step": self.best_step,
            "worse": self.worse,
        }

    def state_dict(self) -> dict[str, Any]:
        """All that the training goes on from: nothing else has a state."""
        good = self.rescue.good
        return {
            "now": {**self._now(), "best_weights": self.best_weights},
            "good": None if good is None or good["step"] == self.step else good,
            "rescue": self.rescue.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: if the checkpoint is of another model or training.
        """
        try:
            self.rescue.load_state_dict(state["rescue"])
            if state["good"] is not None:
                self.set_state(state["good"])  # checked, and replaced by the next line
            self.set_state(state["now"])
            self.rescue.good = state["good"]
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint does not fit the settings: resume a run with the model it began "
                f"with ({str(error).splitlines()[-1].strip()})"
            ) from error

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`_now` returned, with the best weights.

        Raises:
            ValueError: if it is of another model.
        """
        best = state["best_weights"]
        if best is not None:
            check_like(best, self.flow.state_dict(), "best_weights")
        for name in ("step", "seconds", "best", "best_step", "worse"):
            check_like(state[name], 0, name)
        restore(state, self.flow, self.optimizer, self.ema)
        self.step, self.seconds = state["step"], state["seconds"]
        self.best, self.best_step, self.worse = state["best"], state["best_step"], state["worse"]
        self.best_weights = best
