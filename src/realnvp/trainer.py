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
from realnvp.diagnosis import find_non_finite
from realnvp.ema import EMA
from realnvp.evaluate import evaluate
from realnvp.keeper import Keeper
from realnvp.launch import Team, launch
from realnvp.models import Flow
from realnvp.noise import uniform
from realnvp.progress import Bar, duration
from realnvp.rescue import LIMIT, Rescue
from realnvp.setup import build, compute_dtype, learning_rate, make_optimizer
from realnvp.state import capture, initialize, restore, snapshot, whole

__all__ = ["Trainer", "check_budget", "unit_of"]

LOG_EVERY = 1.0
"""Seconds between records of the training loss."""

SAMPLES = 100, 2000
"""How many images, or points, a picture shows."""

NOISE = 0  # a stream of random numbers, beside those of the batches


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
        self.batches = Batches(
            to_device(dataset.train, device), config.batch_size, recipe.seed, dataset.flip
        )
        if team.ranks > self.batches.size:
            raise ValueError(
                f"a batch of {self.batches.size} examples cannot be shared by {team.ranks} "
                f"processes: raise --training.batch_size, or use fewer"
            )
        self._set_up(device)
        self.ema = EMA(self.flow, config.ema)
        few = torch.arange(min(config.validation_examples, len(dataset.validation)))
        self.validation = to_device(dataset.validation.select(few), device)
        self.unit, self.unit_name = unit_of(self.flow)
        self.keeper: Keeper = Keeper()
        self.rescue = Rescue(config.lr)
        self.step, self.seconds = 0, 0.0
        self.best, self.worse = math.inf, 0  # validations since the best one
        self.best_weights: dict[str, Tensor] | None = None
        self.stopping = 0
        self._stopped: list[int] = []
        self._start = time.monotonic()

    def _set_up(self, device: torch.device) -> None:
        fabric, config = self.team.fabric, self.config
        self.optimizer: Any  # Fabric's wrapper of one
        if self.team.sharded:
            initialize(self.flow.to(device), *self._batch(0))
            self.wrapped = fabric.setup_module(self.flow)
            self.optimizer = fabric.setup_optimizers(make_optimizer(self.flow, config))
        else:
            optimizer = make_optimizer(self.flow, config)
            self.wrapped, self.optimizer = fabric.setup(self.flow, optimizer)
        self.wrapped.mark_forward_method("loss_terms")

    # ------------------------------------------------------------------ the loop

    def fit(self, stopped: list[int], bar: Bar) -> None:
        """Train until the budget is used up, or a signal number appears in ``stopped``."""
        config, means = self.config, _Mean()
        self._stopped, self._start = stopped, time.monotonic() - self.seconds
        logged = saved = self.seconds
        while self.progress() < 1 and not self.stopping and not self.out_of_patience():
            if self.rescue.is_due(self.step):
                self.rescue.keep({**snapshot(self._now()), "best_weights": self.best_weights})
            before = self.progress()
            lr = self.rescue.factor * learning_rate(config, self.step, before)
            if self.step in self.rescue.skipped:
                self.skip()
            else:
                terms = self.train_step(lr)
                if terms is None:
                    self.recover(bar)
                    means, logged = _Mean(), self.seconds
                    continue
                means.add(terms)
            due = math.floor(self.progress() * config.validations)
            validate = due > math.floor(before * config.validations)
            if means.count and (self.seconds - logged >= LOG_EVERY or validate):
                rate = means.count * self.batches.size / max(self.seconds - logged, 1e-9)
                self.log(bar, means, lr, rate)
                logged = self.seconds
            if validate:
                self.validate(bar)
            if validate or self.seconds - saved >= config.checkpoint_every:
                self.keeper.save(self, self.state_dict())
                saved = self.seconds
            if validate:  # its time is part of the budget, but not of the training's speed
                self.agree()
                logged = self.seconds
        if not self.stopping and self.best_weights is None:
            self.validate(bar)  # so short a budget that none was due
        state = self.state_dict()
        with self.team.together():
            self.keeper.save(self, state, final=True)

    def train_step(self, lr: float) -> dict[str, Tensor] | None:
        """One optimizer step, unless something is not finite: then nothing is updated.

        Returns:
            the terms of the loss, in nats per example; those of the processes average to those
            of the batch. None if something is not finite.
        """
        x, condition, noise = self._batch(self.step)
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
        if self.agree(not torch.isfinite(norm + loss.detach())):
            return None
        self.optimizer.step()
        self.ema.update()
        self.rescue.succeed(self.step)
        self.step += 1
        return {**{name: term.detach() for name, term in terms.items()}, "gradient": norm}

    def _batch(self, step: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """This process's share of the batch of a step: examples, condition and noise."""
        x, condition = self.batches.get(step, self.team.rank, self.team.ranks)
        if self.flow.levels is None:
            return x, condition, None
        start = self.batches.share(self.team.rank, self.team.ranks).start
        seed = (self.recipe.seed, NOISE, step)
        shape, dtype = self.flow.shape, self.flow.dtype
        return x, condition, uniform(seed, start, len(x), shape, dtype, x.device)

    def agree(self, bad: bool = False) -> bool:
        """Have one clock, one end and one opinion in all processes: is something bad in any?"""
        stop = self._stopped[0] if self._stopped else 0
        seconds, stopping, flag = self.team.agree(time.monotonic() - self._start, stop, bad)
        self.seconds, self.stopping = seconds, int(stopping)
        return bool(flag)

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

    # ------------------------------------------------------------------ what is not finite

    def recover(self, bar: Bar) -> None:
        """Name what was not finite, and go back to the last good state.

        Raises:
            FloatingPointError: if it is the last time; the good state is saved.
        """
        step, team = self.step, self.team
        finding = find_non_finite(
            self.flow,
            *self._batch(step),
            gradients=not team.sharded,
            anywhere=lambda flag: bool(team.agree(flag)[0]),
        )
        findings = team.gather(finding)
        first = min(findings, key=lambda finding: finding.order)
        rows = [
            self.batches.share(rank, team.ranks)[row]
            for rank, its in enumerate(findings)
            if its.order == first.order
            for row in its.rows
        ]
        batch = self.batches.indices(step)
        told = self.rescue.fail(step, first, (batch[rows] if rows else batch).tolist())
        assert self.rescue.good is not None  # fit() keeps one before its first step
        seconds = self.seconds
        self._set(self.rescue.good)
        self.seconds = seconds
        self.keeper.rewind(self.step)
        if self.rescue.failures < LIMIT:
            bar.warn(told)
            return
        self.rescue.failures = 0  # a resumed run has as many attempts
        state = self.state_dict()
        with team.together():
            self.keeper.save(self, state, final=True)
        if not team.main:
            raise team.elsewhere()
        raise FloatingPointError(
            f"{told}; this is the {LIMIT}rd time in a row, each time with half the learning rate, "
            f"so training ends here; the state of step {self.step} is saved: resume it with a "
            f"lower --training.lr, or look at these examples"
        )

    def skip(self) -> None:
        """Pass over a step that failed before."""
        record = {"batch": self.step, **self.rescue.skipped[self.step]}
        self.step += 1
        self.agree()
        self.keeper.log("skipped", self.step, self.seconds, record)

    # ------------------------------------------------------------------ what it leaves

    def log(self, bar: Bar, means: _Mean, lr: float, rate: float) -> None:
        """Show and write the mean loss since the last record, with its terms."""
        terms = means.take(self.team)
        gradient = terms.pop("gradient")
        values = {name: value * self.unit for name, value in terms.items()}
        loss = sum(values.values())
        record = {"loss": loss, **values, "gradient": gradient, "lr": lr, "examples_per_s": rate}
        short = " ".join(f"{name} {value:.2f}" for name, value in values.items() if value)
        best = f" best {self.best:.3f}" if math.isfinite(self.best) else ""
        if self.rescue.skipped:
            record["skipped"] = len(self.rescue.skipped)
            best += f" skipped {len(self.rescue.skipped)}"
        self.keeper.log("train", self.step, self.seconds, record)
        bar.update(
            self.progress(),
            f"{loss:.3f} {self.unit_name}{best} ({short}) {rate:.0f} examples/s",
        )

    def validate(self, bar: Bar) -> None:
        """Evaluate the averaged weights, and keep them if they are the best."""
        with self.ema.applied():
            result = evaluate(self.flow, self.validation, seed=self.recipe.seed, shared=True)
            self.worse += 1
            if result.loss < self.best:
                self.best, self.worse = result.loss, 0
                tensors = self.flow.state_dict().items()
                self.best_weights = {name: whole(t).detach().clone() for name, t in tensors}
            record = {"validation": result.loss, "standard_error": result.standard_error}
            self.keeper.log("validation", self.step, self.seconds, record)
            if self.team.main or self.team.sharded:  # to gather shards, all must take part
                self.keeper.picture(self, self._samples())
            if not math.isfinite(result.loss) and not self.team.sharded:
                bar.warn(f"step {self.step}: the validation is not finite: {self._name_layer()}")
        bar.say(
            f"step {self.step:,} after {duration(self.seconds)}: validation {result.loss:.4f} "
            f"± {result.standard_error:.4f} {self.unit_name}"
        )

    def _samples(self) -> Tensor:
        """Samples from latents that are the same every time."""
        flow, condition = self.flow, self.validation.condition
        n = SAMPLES[0] if flow.levels is not None else SAMPLES[1]
        if condition is not None:
            rows = torch.arange(n, device=condition.device)
            if flow.classes is not None:  # one class after the other
                condition = rows * flow.classes // n
            else:
                condition = condition[rows % len(condition)]
        generator = torch.Generator(flow.device).manual_seed(self.recipe.seed)
        return flow.sample(n, condition=condition, generator=generator)

    def _name_layer(self) -> str:
        few = self.validation.select(torch.arange(min(250, len(self.validation))))
        with self.flow.evaluating():
            return find_non_finite(self.flow, few.x, few.condition, gradients=False).where

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

    # ------------------------------------------------------------------ the state

    def _now(self) -> dict[str, Any]:
        return {
            **capture(self.flow, self.optimizer, self.ema),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
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
                self._set(state["good"])  # checked, and replaced by the next line
            self._set(state["now"])
            self.rescue.good = state["good"]
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint does not fit the settings: resume a run with the model it began "
                f"with ({str(error).splitlines()[-1].strip()})"
            ) from error

    def _set(self, state: dict[str, Any]) -> None:
        best = state["best_weights"]
        if best is not None:
            check_like(best, self.flow.state_dict(), "best_weights")
        for name in ("step", "seconds", "best", "worse"):
            check_like(state[name], 0, name)
        restore(state, self.flow, self.optimizer, self.ema)
        self.step, self.seconds = state["step"], state["seconds"]
        self.best, self.worse = state["best"], state["worse"]
        self.best_weights = best


class _Mean:
    """The mean of terms over steps, summed on the device: reading a number would wait for it."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        self.count += 1
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + term if name in self._sums else term

    def take(self, team: Team) -> dict[str, float]:
        """The means, over the processes too, and begin anew."""
        values = team.mean(torch.stack(list(self._sums.values())) / self.count).tolist()
        means = dict(zip(self._sums, values, strict=True))
        self.count, self._sums = 0, {}
        return means
