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

from realnvp import plots
from realnvp.builders import image_flow, vector_flow
from realnvp.config import ImageRecipe, Recipe, TrainingConfig, VectorRecipe, to_dict
from realnvp.data import Dataset, load_data
from realnvp.data.batches import Batches, step_seed, to_device
from realnvp.ema import EMA
from realnvp.evaluate import Likelihood, evaluate
from realnvp.models import Flow
from realnvp.optim import learning_rate, make_optimizer
from realnvp.progress import Bar, duration
from realnvp.runs import Metrics, Run
from realnvp.safety import Interrupted, first_bad_layer, stop_signals

__all__ = ["Outcome", "build", "train"]

LOG_EVERY = 1.0
"""Seconds between records of the training loss."""

GRID = 100
"""Images in a sample grid."""


@dataclass
class Outcome:
    """What a training came to."""

    run: Run
    likelihood: Likelihood
    steps: int
    seconds: float
    parameters: int


def build(recipe: Recipe, dataset: Dataset) -> Flow:
    """The recipe's untrained model for a data set.

    Raises:
        ValueError: if the recipe is for the other kind of data.
    """
    condition: dict[str, Any] = {
        "condition_dim": dataset.condition_dim,
        "classes": dataset.condition_classes or None,
    }
    options = to_dict(recipe.model)
    if isinstance(recipe, ImageRecipe) and dataset.kind == "image":
        assert dataset.levels is not None  # images always have levels
        channels, height, width = dataset.shape
        return image_flow((channels, height, width), levels=dataset.levels, **condition, **options)
    if isinstance(recipe, VectorRecipe) and dataset.kind == "vector":
        x = dataset.train.x
        std = x.std(0, correction=0).clamp(min=1e-6)
        return vector_flow(x.shape[1], mean=x.mean(0), std=std, **condition, **options)
    raise ValueError(
        f"the recipe models {'images' if isinstance(recipe, ImageRecipe) else 'vectors'}, but "
        f"{dataset.name} holds {dataset.kind}s: choose another recipe (realnvp recipes lists them)"
    )


def compute_dtype(config: TrainingConfig, flow: Flow, device: torch.device) -> torch.dtype | None:
    """The type in which the conditioners compute: bfloat16 where it is native, if "auto"."""
    if config.precision == "auto":
        if len(flow.shape) == 1:  # tiny matrices gain nothing
            return None
        native = {
            "cpu": getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False),
            "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
        }
        return torch.bfloat16 if native.get(device.type, lambda: False)() else None
    return torch.bfloat16 if config.precision == "bfloat16" else None


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
    config = recipe.training
    if config.minutes is None and config.epochs is None and config.steps is None:
        raise ValueError("no budget: give --minutes, --epochs or --steps")
    run = Run(folder, resume=resume)
    trainer = Trainer(recipe, run, load_data(recipe.data), quiet=quiet)
    if resume:
        trainer.restore()
    else:
        run.create(to_dict(recipe))
    with stop_signals() as stopped:
        trainer.fit(stopped)
    return trainer.finish()


class Trainer:
    """Everything that a training needs, set up; :meth:`fit` is the loop."""

    def __init__(self, recipe: Recipe, run: Run, dataset: Dataset, *, quiet: bool = False) -> None:
        self.recipe, self.run, self.dataset, self.quiet = recipe, run, dataset, quiet
        self.config = config = recipe.training
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
        self.step, self.seconds, self.best = 0, 0.0, math.inf

    # ------------------------------------------------------------------ the loop

    def fit(self, stopped: list[int]) -> None:
        """Train until the budget is used up, or a signal number appears in ``stopped``."""
        config, log_terms, logged = self.config, _Mean(), time.monotonic()
        self.metrics = Metrics(self.run, self.step)
        start = time.monotonic() - self.seconds
        validated = self.seconds
        with Bar("training", self.progress(), visible=not self.quiet) as bar:
            while self.progress() < 1 and not stopped:
                lr = learning_rate(config, self.step, self.progress())
                terms = self.train_step(lr)
                log_terms.add(terms)
                self.seconds = time.monotonic() - start
                if time.monotonic() - logged >= LOG_EVERY:
                    rate = log_terms.count * self.batches.size / (time.monotonic() - logged)
                    self.log(bar, log_terms.take(), lr, rate)
                    logged = time.monotonic()
                if self.seconds - validated >= config.validate_every and self.progress() < 1:
                    self.validate(bar)
                    self.seconds = validated = time.monotonic() - start
                    logged = time.monotonic()
            if log_terms.count:
                rate = log_terms.count * self.batches.size / (time.monotonic() - logged)
                self.log(bar, log_terms.take(), lr, rate)
            self.validate(bar)
        self.metrics.close()
        if stopped:
            raise Interrupted(
                f"stopped at step {self.step} after {duration(self.seconds)}; everything is saved "
                f"in {self.run.folder}: go on with the same command and --resume"
            )

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
                f"the last checkpoint in {self.run.folder} is intact: resume it with a lower "
                f"--training.lr"
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

    # ------------------------------------------------------------------ what it leaves

    def log(self, bar: Bar, terms: dict[str, float], lr: float, rate: float) -> None:
        """Show and write the mean loss since the last record, with its terms."""
        gradient = terms.pop("gradient")
        values = {name: value * self.unit for name, value in terms.items()}
        loss = sum(values.values())
        record = {"loss": loss, **values, "gradient": gradient, "lr": lr, "examples_per_s": rate}
        self.metrics.log("train", self.step, self.seconds, record)
        short = " ".join(f"{name} {value:.2f}" for name, value in values.items() if value)
        best = f" best {self.best:.3f}" if math.isfinite(self.best) else ""
        bar.update(
            self.progress(),
            f"{loss:.3f} {self.unit_name}{best} [dim]({short})[/dim] {rate:.0f} examples/s",
        )

    def validate(self, bar: Bar) -> None:
        """Evaluate the averaged weights, keep them if they are the best, and save everything."""
        with self.ema.applied():
            result = evaluate(self.flow, self.validation, seed=self.recipe.seed)
            value = result.loss
            if value < self.best:
                self.best = value
                self.flow.save_pretrained(self.run.model_folder)
            self.picture(self.run.folder / "samples" / f"step-{self.step:07d}.png")
        record = {"validation": value, "standard_error": result.standard_error}
        self.metrics.log("validation", self.step, self.seconds, record)
        plots.learning_curves(self.metrics.records, self.run.folder / "curves.png", self.unit_name)
        self.run.save(
            self.fabric,
            {
                "model": self.flow,
                "optimizer": self.optimizer,
                "ema": self.ema.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best,
                "rng": torch.get_rng_state(),
            },
        )
        bar.say(
            f"step {self.step:,} after {duration(self.seconds)}: validation {value:.4f} "
            f"± {result.standard_error:.4f} {self.unit_name}"
        )

    def restore(self) -> None:
        """Go on from the newest checkpoint."""
        rest = self.run.load(self.fabric, {"model": self.flow, "optimizer": self.optimizer})
        self.ema.load_state_dict(rest["ema"])
        torch.set_rng_state(rest["rng"])
        self.step, self.seconds, self.best = rest["step"], rest["seconds"], rest["best"]

    def picture(self, path: Path) -> None:
        """Samples from latents that are the same at every validation."""
        generator = torch.Generator(self.flow.device).manual_seed(self.recipe.seed)
        n = GRID if self.flow.levels is not None else 2000
        condition = self.validation.condition
        if condition is not None:
            index = torch.arange(n, device=condition.device) % len(condition)
            if self.flow.classes is not None:  # as many rows as classes, one class a row
                condition = torch.arange(n, device=condition.device) * self.flow.classes // n
            else:
                condition = condition[index]
        samples = self.flow.sample(n, condition=condition, generator=generator)
        if self.flow.levels is not None:
            plots.image_grid(samples, path, levels=self.flow.levels)
        else:
            plots.scatter(self.validation.x[:n], samples, path)

    def finish(self) -> Outcome:
        """Evaluate the best model on the whole validation split, in full precision."""
        flow = Flow.from_pretrained(self.run.model_folder).to(self.fabric.device)
        toy = self.dataset.toy
        likelihood = evaluate(
            flow,
            self.dataset.validation,
            seed=self.recipe.seed,
            true_log_density=toy.log_density if toy is not None else None,
        )
        parameters = sum(p.numel() for p in flow.parameters())
        return Outcome(self.run, likelihood, self.step, self.seconds, parameters)


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
