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

from realnvp.config import Recipe, TrainingConfig, to_dict
from realnvp.data import Dataset
from realnvp.data.batches import Batches, to_device
from realnvp.diagnostics import find_non_finite
from realnvp.evaluation import batches, evaluate
from realnvp.flow import Flow
from realnvp.training.callbacks import Callback
from realnvp.training.checkpoint import capture, full_tensor, initialize, restore, snapshot
from realnvp.training.initialization import build, smoothing_of
from realnvp.training.launch import Team, launch
from realnvp.training.optim import EMA, learning_rate, make_optimizer
from realnvp.training.rollback import Rollback, recover, skip
from realnvp.training.runtime import compile_conditioners, compute_dtype, uncompiled
from realnvp.utils.progress import Bar, duration
from realnvp.utils.rng import Stream, normal_of, uniform
from realnvp.utils.serialization import check_like

__all__ = ["Mean", "Trainer", "check_budget", "log", "validate"]

LOG_EVERY = 1.0
"""Seconds between records of the training loss."""


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
        if team.world_size > self.batches.size:
            raise ValueError(
                f"a batch of {self.batches.size} examples cannot be shared by {team.world_size} "
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
        self.unit, self.unit_name = self.flow.unit
        self.callback: Callback = Callback()
        self.rollback = Rollback(config.lr)
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
            if self.rollback.is_due(self.step):
                self.rollback.keep({**snapshot(self._now()), "best_weights": self.best_weights})
            before = self.progress()
            lr = self.rollback.factor * learning_rate(config, self.step, before)
            if self.step in self.rollback.skipped:
                skip(self)
            else:
                terms = self.train_step(lr)
                if terms is None or self.rollback.level.is_high():
                    recover(self, bar)
                    means, logged = Mean(), self.seconds
                    continue
                means.add(terms)
            due = math.floor(self.progress() * config.num_validations)
            is_due = due > math.floor(before * config.num_validations)
            if means.count and (self.seconds - logged >= LOG_EVERY or is_due):
                rate = means.count * self.batches.size / max(self.seconds - logged, 1e-9)
                log(self, bar, means, lr, rate)
                logged = self.seconds
            if is_due:
                validate(self, bar)
            if is_due or self.seconds - saved >= config.checkpoint_every:
                self.callback.save(self, self.state_dict())
                saved = self.seconds
            if is_due:  # its time is part of the budget, but not of the training's speed
                self.all_reduce_max()
                logged = self.seconds
        if not self.stopping and self.best_weights is None:
            validate(self, bar)  # so short a budget that none was due
        state = self.state_dict()
        with self.team.sync_errors():
            self.callback.save(self, state, final=True)

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
        weight = len(x) * self.team.world_size / self.batches.size
        terms = {n: t if n == "regulariser" else t * weight for n, t in terms.items()}
        loss = torch.stack(list(terms.values())).sum() / self.flow.dim
        self.team.fabric.backward(loss)
        norm = full_tensor(torch.nn.utils.clip_grad_norm_(self.flow.parameters(), self.config.clip))
        bad, largest = self.all_reduce_max(
            not (torch.isfinite(norm) and torch.isfinite(loss)), loss.item()
        )
        if bad:
            return None
        self.optimizer.step()
        self.ema.update()
        self.rollback.succeed(self.step, largest)
        self.step += 1
        return {**{name: term.detach() for name, term in terms.items()}, "gradient": norm}

    def batch(self, step: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """This process's share of the batch of a step: examples, condition and noise."""
        x, condition = self.batches.get(step, self.team.rank, self.team.world_size)
        start = self.batches.share(self.team.rank, self.team.world_size).start
        if self.smoothing is not None:
            seed = self.recipe.seed, Stream.SMOOTHING, step
            u = uniform(seed, start, len(x), self.flow.shape, self.flow.dtype, x.device)
            x = x + normal_of(u) @ self.smoothing
        noise = self.flow.example_noise((self.recipe.seed, Stream.NOISE, step), start, len(x))
        return x, condition, noise

    def all_reduce_max(self, *values: float) -> tuple[float, ...]:
        """Have one clock and one end in all processes, and the largest of each of these values."""
        stop = self._stopped[0] if self._stopped else 0
        now = time.monotonic() - self._start
        self.seconds, stopping, *largest = self.team.all_reduce_max(now, stop, *values)
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
        good = self.rollback.good
        return {
            "now": {**self._now(), "best_weights": self.best_weights},
            "good": None if good is None or good["step"] == self.step else good,
            "rollback": self.rollback.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: if the checkpoint is of another model or training.
        """
        try:
            self.rollback.load_state_dict(state["rollback"])
            if state["good"] is not None:
                self.set_state(state["good"])  # checked, and replaced by the next line
            self.set_state(state["now"])
            self.rollback.good = state["good"]
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


SAMPLES = 100, 2000
"""How many images, or points, a picture shows."""


class Mean:
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


def log(trainer: Trainer, bar: Bar, means: Mean, lr: float, rate: float) -> None:
    """Show and write the mean loss since the last record, with its terms."""
    terms = means.take(trainer.team)
    gradient = terms.pop("gradient")
    values = {name: value * trainer.unit for name, value in terms.items()}
    loss = sum(values.values())
    record = {"loss": loss, **values, "gradient": gradient, "lr": lr, "examples_per_s": rate}
    short = " ".join(f"{name} {value:.2f}" for name, value in values.items() if value)
    best = f" best {trainer.best:.3f}" if math.isfinite(trainer.best) else ""
    if trainer.rollback.skipped:
        record["skipped"] = len(trainer.rollback.skipped)
        best += f" skipped {len(trainer.rollback.skipped)}"
    trainer.callback.log("train", trainer.step, trainer.seconds, record)
    bar.update(
        trainer.progress(),
        f"{loss:.3f} {trainer.unit_name}{best}",
        f"{rate:.0f} examples/s",
        f"({short})",
    )


def validate(trainer: Trainer, bar: Bar) -> None:
    """Evaluate the averaged weights, and keep them if they are the best."""
    with trainer.ema.applied(), uncompiled(trainer.config):
        result = evaluate(
            trainer.flow,
            trainer.validation,
            batch_size=trainer.evaluation_batch,
            seed=trainer.recipe.seed,
            shared=True,
        )
        trainer.worse += 1
        if result.loss < trainer.best:
            trainer.best, trainer.best_step, trainer.worse = result.loss, trainer.step, 0
            tensors = trainer.flow.state_dict().items()
            trainer.best_weights = {name: full_tensor(t).detach().clone() for name, t in tensors}
        record = {"validation": result.loss, "standard_error": result.standard_error}
        trainer.callback.log("validation", trainer.step, trainer.seconds, record)
        if trainer.callback.draws or trainer.team.sharded:  # to gather shards, all must take part
            trainer.callback.picture(trainer, _samples(trainer))
        if not math.isfinite(result.loss) and not trainer.team.sharded:
            bar.warn(f"step {trainer.step}: the validation is not finite: {_name_layer(trainer)}")
    bar.say(
        f"step {trainer.step:,} after {duration(trainer.seconds)}: validation {result.loss:.4f} "
        f"± {result.standard_error:.4f} {trainer.unit_name}"
    )


def _samples(trainer: Trainer) -> Tensor:
    """Samples from latents that are the same every time."""
    flow, condition = trainer.flow, trainer.validation.condition
    n = SAMPLES[0] if flow.levels is not None else SAMPLES[1]
    if condition is not None:
        rows = torch.arange(n, device=condition.device)
        if flow.classes is not None:  # one class after the other
            condition = rows * flow.classes // n
        else:
            condition = condition[rows % len(condition)]
    generator = torch.Generator(flow.device).manual_seed(trainer.recipe.seed)
    at_once = trainer.evaluation_batch if flow.levels is not None else None
    return flow.sample(n, condition=condition, generator=generator, batch_size=at_once)


def _name_layer(trainer: Trainer) -> str:
    """Where the validation, which is computed once more, stops being finite."""
    flow, size = trainer.flow, trainer.evaluation_batch
    with flow.evaluating():
        for start, x, condition, _ in batches(trainer.validation, size, flow.device):
            noise = flow.example_noise((trainer.recipe.seed, Stream.DRAWS, 0), start, len(x))
            finding = find_non_finite(flow, x, condition, noise, gradients=False)
            if finding.found:
                return finding.where
    return "nothing when it is repeated"
