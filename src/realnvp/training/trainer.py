"""The training loop, to be read from top to bottom.

Random numbers have no hidden state: the order of the data is a function of the seed and the epoch,
the noise of a step a function of the seed, the step and the example. Therefore a resumed run equals
an uninterrupted one, and several processes that share every batch compute what one process would
compute for the whole batch.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from realnvp.conditioners import BatchNorm2d
from realnvp.config import Recipe, TrainingConfig
from realnvp.data import Dataset, Split
from realnvp.data.batches import Batches, to_device, to_device_unless_stored
from realnvp.diagnostics import find_non_finite
from realnvp.evaluation import Likelihood, batches, evaluate, log_likelihoods
from realnvp.flow import Flow
from realnvp.outliers import calibrate
from realnvp.training.callback import Callback
from realnvp.training.checkpoint import (
    Statistics,
    capture,
    restore,
    snapshot,
)
from realnvp.training.initialization import build, resolve, smoothing_of
from realnvp.training.launch import Processes, launch
from realnvp.training.optim import EMA, learning_rate, make_optimizer
from realnvp.training.rollback import LIMIT, Rollback
from realnvp.training.runtime import compile_conditioners, compute_dtype, uncompiled
from realnvp.training.selection import Selection
from realnvp.training.validation import Plan, ValidationPlan
from realnvp.utils.progress import Bar, duration
from realnvp.utils.rng import Stream, normal_of, uniform
from realnvp.utils.serialization import check_like
from realnvp.utils.settings import resolved

IMAGES, POINTS = 100, 2000
"""Samples of a picture of images, and of points."""


def check_budget(config: TrainingConfig) -> None:
    """Raise ValueError unless there is a budget that ends training."""
    if config.minutes is None and config.epochs is None and config.steps is None:
        raise ValueError("no budget: give minutes, epochs or steps")


class Trainer:
    """Training of a flow; :meth:`fit` is the loop.

    Args:
        flow: the model, which is trained in place.
        dataset: the data.
        config: training settings, with at least one budget.
        seed: seed of the order of the data and of all noise.
        processes: processes that train; by default those that the settings ask for.
        callbacks: objects that receive records, pictures and states.

    Attributes:
        step: number of optimizer steps so far.
        seconds: seconds of training so far.
        selection: the best validation so far, and its weights.
        stopping: number of the signal that is ending the loop, 0 for none.
        evaluated: number of held-out examples of the final evaluation, 0 before it.
        is_finished: True after loading the state of a run whose budget is used up.
    """

    def __init__(
        self,
        flow: Flow,
        dataset: Dataset,
        config: TrainingConfig,
        *,
        seed: int = 0,
        processes: Processes | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        check_budget(config)
        if processes is None:
            processes = launch(config.accelerator, config.devices, config.nodes)
        config = resolve(config, dataset)
        self.flow, self.dataset, self.config = flow, dataset, config
        self.seed, self.processes, self.callbacks = seed, processes, list(callbacks)
        device = processes.device
        dtype = compute_dtype(config, flow, device)
        flow.set_compute_dtype(dtype)
        flow.memory = config.memory
        if config.compile:
            compile_conditioners(flow, device)
        self.batches = Batches(
            to_device_unless_stored(dataset.train, device),
            config.batch_size,
            seed,
            dataset.flip,
            dataset.shift,
            device,
        )
        if processes.world_size > self.batches.size:
            raise ValueError(
                f"a batch of {self.batches.size} examples cannot be shared by "
                f"{processes.world_size} processes: raise --training.batch_size, or use fewer"
            )
        self.smoothing = smoothing_of(flow, dataset, resolved(config.smoothing), device)
        # The optimizer may be Fabric's wrapper of one.
        self.wrapped, self.optimizer = processes.setup(flow, lambda it: make_optimizer(it, config))
        self._parameters = list(flow.parameters())
        self._norms = [each for each in flow.modules() if isinstance(each, BatchNorm2d)]
        self.statistics = Statistics(flow.buffers())
        self.ema = EMA(flow, resolved(config.ema))
        most = Plan(
            times=config.num_validations,
            examples=min(len(dataset.validation), config.validation_examples),
            pictures=config.num_validations,
            samples=IMAGES if flow.levels is not None else POINTS,
        )
        self.plan = ValidationPlan(most, config.validation_share, config.minutes)
        # Validations must not need more memory than training, which keeps the outputs of all
        # layers.
        images = flow.levels is not None
        self.evaluation_batch = min(250, self.batches.size) if images else 8 * self.batches.size
        self._shared: dict[str, Any] = {  # the processes share what is evaluated
            "batch_size": self.evaluation_batch, "seed": seed, "shared": True
        }  # fmt: skip
        # The final evaluation is in float32, which takes about twice the time of bfloat16.
        self.final_factor = 1.0 if dtype is None else 2.0
        per_nat, self.unit_name = flow.unit
        self.unit, self.sign = abs(per_nat), math.copysign(1.0, per_nat)
        self.rollback = Rollback(resolved(config.lr), config.clip)
        self.step, self.seconds = 0, 0.0
        patience = config.patience
        self.selection = Selection(patience if isinstance(patience, int) else None)
        self.stopping, self.evaluated, self.is_finished = 0, 0, False
        self.log_likelihoods: Tensor | None = None
        self._explained = False
        self._stopped: list[int] = []
        self._start = time.monotonic()

    @classmethod
    def from_recipe(
        cls, recipe: Recipe, dataset: Dataset, processes: Processes | None = None
    ) -> Trainer:
        """Return the trainer of a recipe's model.

        Args:
            recipe: model, data and training settings.
            dataset: the data.
            processes: processes that train; by default those that the settings ask for.

        Raises:
            ValueError: if settings and data do not match.
        """
        flow = build(recipe, dataset)
        return cls(flow, dataset, recipe.training, seed=recipe.seed, processes=processes)

    # ------------------------------------------------------------------ the loop

    def fit(
        self,
        bar: Bar | None = None,
        stopped: list[int] | None = None,
        log_every: float = 1.0,
    ) -> None:
        """Train until the budget is used up or a signal arrives.

        Args:
            bar: where progress and warnings are shown; None shows nothing.
            stopped: list that receives the number of a signal that is to end the loop.
            log_every: seconds between records of the training loss.

        Raises:
            FloatingPointError: if the loss or a gradient is repeatedly not finite.
        """
        config, means = self.config, RunningMeans()
        bar = bar or Bar("training", visible=False)
        self._stopped = [] if stopped is None else stopped
        self.evaluated, self.is_finished = 0, False
        self._start = time.monotonic() - self.seconds
        logged = saved = began = self.seconds
        first = self.step
        if config.minutes is None:
            self.plan.choose(self.planned_steps() * self.batches.size)
        elif config.patience is not None:  # nothing is measured before the first validation
            self.plan.choose(math.inf)
        begins = self.step == self.selection.worse == 0 and not self.selection.weights
        if config.patience is not None and begins and self.flow.levels is None:
            self.validate(bar)  # with few rows, the mixture that the flow starts as may be the best
        progress = self.progress()
        while progress < 1 and not self.stopping and not self.selection.is_out_of_patience:
            if self.rollback.is_due(self.step):
                self.rollback.keep(
                    {**snapshot(self._now()), "best_weights": self.selection.weights}
                )
            before = progress
            lr = self.rollback.factor * learning_rate(config, self.step, before)
            if self.step in self.rollback.skipped:
                self._skip()
            else:
                terms = self.train_step(lr)
                if terms is None or self.rollback.level.is_high():
                    self._recover(bar)
                    means, logged = RunningMeans(), self.seconds
                    progress = self.progress()
                    continue
                if terms:
                    means.add(terms)
            progress = self.progress()
            if self.plan.is_due(before, progress) and not self.plan.is_chosen:
                trained = (self.step - first) * self.batches.size
                each = (self.seconds - began) / max(trained, 1)
                self.plan.choose(60 * (config.minutes or math.inf) / max(each, 1e-9), each)
            is_due = self.plan.is_due(before, progress) and self.plan.affords_validation(progress)
            if means.count and (self.seconds - logged >= log_every or is_due):
                rate = means.count * self.batches.size / max(self.seconds - logged, 1e-9)
                self._log_training(bar, means, lr, rate)
                logged = self.seconds
            if is_due:
                self.validate(bar, picture=self.plan.affords_picture(before, progress))
            if is_due or self.seconds - saved >= config.checkpoint_every:
                self._save()
                saved = self.seconds
            if is_due:  # its time counts for the budget, but not for the training speed
                self.synchronize()
                logged = self.seconds
                progress = max(progress, self.progress())
        if not self.stopping and self.selection.weights is None:
            self.validate(bar)  # the budget was so short that none was due

    def finish(self) -> None:
        """Save the last state.

        Raises:
            OSError: if it cannot be written.
        """
        self._save(final=True)

    def train_step(self, lr: float) -> dict[str, Tensor] | None:
        """Take one optimizer step, unless something is not finite: then nothing is updated.

        Args:
            lr: learning rate.

        Returns:
            the terms of the loss in nats per example, whose mean over the processes is that of the
            batch, and the norm of the gradient; an empty dictionary if the gradient was so long
            that the step was skipped; None if something is not finite.
        """
        x, condition, noise, smoothing = self.batch(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self._freeze_norm()
        if not self.flow.training:
            self.wrapped.train()
        self.optimizer.zero_grad()
        self.statistics.keep()
        terms = self.wrapped.loss_terms(x, condition, noise, smoothing)
        # The regularizer belongs to the model, all other terms to examples. Gradients are averaged
        # over the processes, each of which counts by the number of its examples.
        weight = len(x) * self.processes.world_size / self.batches.size
        terms = {n: t if n == "regularizer" else t * weight for n, t in terms.items()}
        loss = torch.stack(list(terms.values())).sum() / self.flow.dim
        self.processes.backward(loss)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # The only values that are read from the device: every read waits for it.
        values = torch.stack((loss.detach(), norm.to(loss))).tolist()
        bad, *largest = self.synchronize(not all(map(math.isfinite, values)), *values)
        if bad:
            return None
        self.rollback.succeed(self.step, largest[0])
        usual = self.rollback.gradients.add(largest[1])
        if usual is not None:
            self.rollback.skipped[self.step] = {"gradient": largest[1], "usual": usual}
            self.statistics.restore()
            self._skip()
            return {}
        if largest[1] > 0.99 * self.config.clip:  # otherwise they would be multiplied by one
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip, norm)
        self.optimizer.step()
        self.ema.update()
        self.step += 1
        return {**{name: term.detach() for name, term in terms.items()}, "gradient": norm}

    def _freeze_norm(self) -> None:
        """Freeze the conditioners' batch norm in the last part of the budget."""
        frozen = self.progress() >= 1 - self.config.frozen_norm
        for layer in self._norms:
            if layer.frozen != frozen:
                layer.frozen = frozen
                layer.train(self.flow.training)

    def batch(self, step: int) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Return this process's share of the batch of a step.

        Returns:
            examples, condition, and the noise of dequantization and of smoothing.
        """
        x, condition = self.batches.get(step, self.processes.rank, self.processes.world_size)
        start = self.batches.share(self.processes.rank, self.processes.world_size).start
        smoothing = None
        if self.smoothing is not None:
            seed = self.seed, Stream.SMOOTHING, step
            u = uniform(seed, start, len(x), self.flow.shape, self.flow.dtype, x.device)
            smoothing = normal_of(u) @ self.smoothing
        noise = self.flow.example_noise((self.seed, Stream.NOISE, step), start, len(x))
        return x, condition, noise, smoothing

    def synchronize(self, *values: float) -> tuple[float, ...]:
        """Set the clock, and whether to stop, alike in all processes.

        Args:
            values: further numbers to compare, which costs no other message.

        Returns:
            the largest of each of them.
        """
        stop = self._stopped[0] if self._stopped else 0
        now = time.monotonic() - self._start
        self.seconds, stopping, *largest = self.processes.all_reduce_max(now, stop, *values)
        self.stopping = int(stopping)
        return tuple(largest)

    # ------------------------------------------------------------------ the budget

    def progress(self) -> float:
        """Return the fraction of the budget that is used up, in [0, 1]."""
        config, used = self.config, [0.0]
        if config.steps:
            used.append(self.step / config.steps)
        if config.epochs:
            used.append(self.step / (config.epochs * self.batches.per_epoch))
        if config.minutes:
            ends_with = len(self.dataset.reporting[1]) + config.calibration
            reserve = self.plan.reserve(ends_with, self.final_factor)
            used.append(self.seconds / (60 * config.minutes - reserve))
        return min(1.0, max(used))

    def _budget(self) -> list[Any]:
        config = self.config
        return [config.minutes, config.epochs, config.steps, config.patience]

    def planned_steps(self) -> float:
        """Return the number of steps that steps and epochs allow, whatever the clock says."""
        steps, epochs = self.config.steps, self.config.epochs
        most = math.inf if steps is None else steps
        return most if epochs is None else min(most, epochs * self.batches.per_epoch)

    # ------------------------------------------------------------------ records and validations

    def log(self, kind: str, values: dict[str, Any]) -> None:
        """Send a record to the callbacks."""
        for callback in self.callbacks:
            callback.log(kind, self.step, self.seconds, values)

    def _save(self, final: bool = False) -> None:
        """Hand the state to the callbacks."""
        state = self.state_dict()
        with self.processes.sync_errors() if final else contextlib.nullcontext():
            for callback in self.callbacks:
                callback.save(state, final=final)

    def _log_training(self, bar: Bar, means: RunningMeans, lr: float, rate: float) -> None:
        """Show and write the mean loss since the last record, with its terms."""
        terms = means.take(self.processes)
        gradient = terms.pop("gradient")
        values = {name: value * self.unit for name, value in terms.items()}
        loss = sum(values.values())
        record = {"loss": loss, **values, "gradient": gradient, "lr": lr, "examples_per_s": rate}
        shown = {name: self.sign * value for name, value in values.items() if value}
        short = " ".join(f"{name} {value:.2f}" for name, value in shown.items())
        best = self.selection.loss
        shown_best = f" best {self.sign * best:.3f}" if math.isfinite(best) else ""
        if self.rollback.skipped:
            record["skipped"] = len(self.rollback.skipped)
            shown_best += f" skipped {len(self.rollback.skipped)}"
        self.log("train", record)
        bar.update(
            self.progress(),
            f"{self.sign * loss:.3f} {self.unit_name.partition(' (')[0]}{shown_best}",
            f"{rate:.0f} examples/s",
            f"({short})",
        )

    def validate(self, bar: Bar, picture: bool = True) -> None:
        """Evaluate the averaged weights, and keep them if they are the best.

        Args:
            bar: where the result is shown.
            picture: draw samples for a picture, if a callback needs them.
        """
        start = time.monotonic()
        held_out = self.validation_examples(self.plan.now.examples)
        with self.ema.applied(), uncompiled(self.config):
            result = self.evaluate(held_out)
            self.selection.add(result, self.step, self._weights)
            evaluated = time.monotonic()
            record = {"loss": result.loss, "standard_error": result.standard_error}
            self.log("validation", {**record, "examples": result.examples})
            if picture and any(callback.draws for callback in self.callbacks):
                samples = self.draw(self.plan.now.samples, held_out.condition)
                for callback in self.callbacks:
                    callback.picture(self.step, samples)
            if not math.isfinite(result.loss):
                where = self._first_non_finite(held_out)
                bar.warn(f"step {self.step}: the validation is not finite: {where}")
        is_finite = math.isfinite(result.standard_error)  # not with one example
        error = f" ± {result.standard_error:.4f}" if is_finite else ""
        bar.say(
            f"step {self.step:,} after {duration(self.seconds)}: validation "
            f"{self.sign * result.loss:.4f}{error} {self.unit_name}"
        )
        message = self.selection.message(result, self.unit_name.partition(" (")[0], self.sign)
        if message is not None:
            (bar.say if self.selection.is_out_of_patience else bar.warn)(message)
        if not self._explained:
            noise = "" if self.smoothing is None else ", on data with noise"
            bar.say(f"(training loss: current weights{noise}; validation: their running average)")
            self._explained = True
        took = evaluated - start, time.monotonic() - evaluated if picture else 0.0
        self.plan.add(*self.synchronize(*took))

    def _weights(self) -> dict[str, Tensor]:
        """Return copies of the weights."""
        return {name: tensor.clone() for name, tensor in self.flow.state_dict().items()}

    def validation_examples(self, count: int) -> Split:
        """Return examples of the validation part on the device, always the same ones."""
        return to_device(self.some_of(self.dataset.validation, count), self.processes.device)

    def some_of(self, split: Split, count: int) -> Split:
        """Return random examples: the first ones of a sorted file would all be of one kind."""
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(self.seed))
        return split.select(order[:count].sort().values)

    def evaluate(self, held_out: Split) -> Likelihood:
        """Evaluate the current weights on held-out examples, shared by the processes."""
        return evaluate(self.flow, held_out, **self._shared)

    def draw(self, n: int, condition: Tensor | None) -> Tensor:
        """Draw ``n`` samples, from latents that are the same every time.

        Args:
            n: number of samples.
            condition: conditions of some examples, which numeric conditions are taken from.
        """
        flow = self.flow
        if condition is not None:
            rows = torch.arange(n, device=condition.device)
            if flow.classes is not None:  # one class after the other
                condition = rows * flow.classes // n
            else:
                condition = condition[rows % len(condition)]
        generator = torch.Generator(flow.device).manual_seed(self.seed)
        at_once = self.evaluation_batch if flow.levels is not None else None
        return flow.sample(n, condition=condition, generator=generator, batch_size=at_once)

    def _first_non_finite(self, held_out: Split) -> str:
        """Repeat a validation, and return the layer whose output is the first not to be finite."""
        flow = self.flow
        with flow.evaluating():
            for start, x, condition, _ in batches(held_out, self.evaluation_batch, flow.device):
                noise = flow.example_noise((self.seed, Stream.DRAWS, 0), start, len(x))
                finding = find_non_finite(flow, x, condition, noise, gradients=False)
                if finding.found:
                    return finding.where
        return "nothing when it is repeated"

    # ------------------------------------------------------------------ failures

    def _skip(self) -> None:
        """Skip a step that failed, now or before a rollback."""
        record = {"batch": self.step, **self.rollback.skipped[self.step]}
        self.step += 1
        self.synchronize()
        self.log("skipped", record)

    def _recover(self, bar: Bar) -> None:
        """Warn about what went wrong, and return to the last good state.

        Raises:
            FloatingPointError: if there have been too many failures; the good state is saved.
        """
        step, level = self.step, self.rollback.level
        if level.is_high():
            per_nat = self.flow.dim * self.unit
            now, before = per_nat * median(level.losses), per_nat * level.lowest
            verb = "the loss rose" if self.sign > 0 else "the log-density fell"
            levels = f"{self.sign * before:.3f} to {self.sign * now:.3f}"
            what = f"{verb} from {levels} {self.unit_name}"
            record = {"before": before, "now": now}
        else:
            layer, examples = self._locate()
            shown = ", ".join(map(str, examples[:8])) + (", ..." if len(examples) > 8 else "")
            what = f"not finite: {layer}; training examples {shown}; their batch is skipped"
            record = {}
            self.rollback.skipped[step] = {"layer": layer, "examples": examples}
        message = self.rollback.fail(step, what)
        assert self.rollback.good is not None  # fit() keeps one before its first step
        seconds = self.seconds
        self.set_state(self.rollback.good)
        self.seconds = seconds
        for callback in self.callbacks:
            callback.rewind(self.step)
        if record:
            self.log("rise", {"at": step, **record})
        if self.rollback.failures < LIMIT:
            bar.warn(message)
            return
        self.rollback.failures = 0  # a resumed run has the same number of attempts
        self._save(final=True)
        if not self.processes.main:
            raise self.processes.remote_rank_error()
        raise FloatingPointError(
            f"{message}; this is the {LIMIT}rd time in a row, each time with half the learning "
            f"rate, so training ends here; the state of step {self.step} is saved: resume it with "
            f"a lower --training.lr" + (", or look at these examples" if not record else "")
        )

    def _locate(self) -> tuple[str, list[int]]:
        """Return the layer in which a value was not finite, and the training examples."""
        processes = self.processes
        finding = find_non_finite(
            self.flow,
            *self.batch(self.step)[:3],
            anywhere=lambda flag: bool(processes.all_reduce_max(flag)[0]),
        )
        findings = processes.gather(finding)
        first = min(findings, key=lambda finding: finding.order)
        rows = [
            self.batches.share(rank, processes.world_size)[row]
            for rank, finding in enumerate(findings)
            if finding.order == first.order
            for row in finding.rows
        ]
        batch = self.batches.indices(self.step)
        return first.where, (batch[rows] if rows else batch).tolist()

    # ------------------------------------------------------------------ the result, and the state

    def best_flow(self) -> Flow:
        """Return the model with the best validation, in evaluation mode and full precision.

        Raises:
            FloatingPointError: if no validation was finite.
        """
        if self.selection.weights is None:
            raise FloatingPointError(
                "no validation was finite, so there is no best model: lower --training.lr, and "
                "look for extreme values in the data"
            )
        self.flow.load_state_dict(self.selection.weights)
        self.flow.set_compute_dtype(None)
        return self.flow.eval()

    def evaluate_best(self) -> Likelihood:
        """Evaluate the best model on the part that is reported, all of it if there is time.

        A budget of minutes may be too short for all; :attr:`Likelihood.examples` is the number
        evaluated.

        Raises:
            FloatingPointError: if no validation was finite.
        """
        held_out = self.dataset.reporting[1]
        if self.evaluated == 0:
            self.synchronize()
            count = self.plan.affordable(self.seconds, len(held_out), self.final_factor)
        else:  # a finished run
            count = min(self.evaluated, len(held_out))
        part, likelihood = self.dataset.reporting[0], self.selection.result
        is_same_part = part == "validation" and self.dataset.toy is None
        is_final = is_same_part and self.final_factor == 1  # as the validation would be again
        if likelihood is None or not is_final or likelihood.examples != count:
            likelihood = self._evaluate_final(held_out, count)
        if self.evaluated == 0:
            self.synchronize()
        self.evaluated = likelihood.examples
        self.log("final", {"loss": likelihood.loss, **likelihood.as_dict(), "part": part})
        return likelihood

    def _evaluate_final(self, held_out: Split, count: int) -> Likelihood:
        toy = self.dataset.toy
        examples = held_out if count == len(held_out) else self.some_of(held_out, count)
        with self._best() as flow:
            log_p = log_likelihoods(flow, examples, **self._shared)
            if count == len(held_out) and held_out.weight is None:
                self.log_likelihoods = log_p
            true_log_density = toy.log_density if toy is not None else None
            return evaluate(flow, examples, true_log_density=true_log_density, log_p=log_p)

    def calibrate(self) -> dict[str, Tensor] | None:
        """Return the tensors of the best model's calibration; None if the settings ask for none.

        Images are calibrated by their validation part, so that official test parts stay unseen;
        vectors, of which there may be few, by the part on which nothing was chosen, if there is
        one.
        """
        held_out = self.dataset.validation
        if self.flow.levels is None:
            held_out = self.dataset.reporting[1]
        most = min(self.config.calibration, len(held_out))
        if not most:
            return None
        self.synchronize()
        most = self.plan.affordable(self.seconds, most, self.final_factor)
        with self._best() as flow:
            calibration = calibrate(flow, held_out, self.dataset.train, most=most, **self._shared)
        return calibration.as_tensors()

    @contextlib.contextmanager
    def _best(self) -> Iterator[Flow]:
        """Yield :meth:`best_flow`, and restore the weights of the flow in training afterwards."""
        current = self._weights()
        dtype = compute_dtype(self.config, self.flow, self.processes.device)
        with uncompiled(self.config):
            yield self.best_flow()
        self.flow.load_state_dict(current)
        self.flow.set_compute_dtype(dtype)

    def _now(self) -> dict[str, Any]:
        return {
            **capture(self.flow, self.optimizer, self.ema),
            "step": self.step,
            "seconds": self.seconds,
            **self.selection.state_dict(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to continue: nothing else has a state."""
        good = self.rollback.good
        settings = None if self.flow.config is None else json.dumps(self.flow.settings())
        return {
            "model": settings,
            "now": {**self._now(), "best_weights": self.selection.weights},
            "good": None if good is None or good["step"] == self.step else good,
            "rollback": self.rollback.state_dict(),
            "validation": self.plan.state_dict(),
            "evaluated": self.evaluated,
            "budget": self._budget(),
            "data": self.dataset.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: if the checkpoint belongs to another model or run.
        """
        try:
            self.rollback.load_state_dict(state["rollback"])
            self.plan.load_state_dict(state["validation"])
            if state["good"] is not None:
                self.set_state(state["good"])  # checked, and replaced by the next line
            self.set_state(state["now"])
            self.rollback.good = state["good"]
            check_like(state["evaluated"], 0, "evaluated")
            self.evaluated = state["evaluated"]
            self.is_finished = self.evaluated > 0 and (
                state["budget"] == self._budget()
                or self.progress() == 1
                or self.selection.is_out_of_patience
            )
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint does not fit the settings: resume a run with the model it began "
                f"with ({str(error).splitlines()[-1].strip()})"
            ) from error

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`_now` returned, with the best weights.

        Raises:
            ValueError: if it belongs to another model.
        """
        best = state["best_weights"]
        if best is not None:
            check_like(best, self.flow.state_dict(), "best_weights")
        for name in ("step", "seconds", *self.selection.state_dict()):
            check_like(state[name], 0, name)
        restore(state, self.flow, self.optimizer, self.ema)
        self.step, self.seconds = state["step"], state["seconds"]
        self.selection.load_state_dict(state)


class RunningMeans:
    """Means of terms over steps, summed on the device: reading a value would wait for it."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add the terms of a step."""
        self.count += 1
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + term if name in self._sums else term

    def take(self, processes: Processes) -> dict[str, float]:
        """Return the means, over the processes too, and start again from zero."""
        values = processes.mean(torch.stack(list(self._sums.values())) / self.count).tolist()
        means = dict(zip(self._sums, values, strict=True))
        self.count, self._sums = 0, {}
        return means
