"""Estimates before a run: size of the model, speed, duration and memory."""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from realnvp.config import Recipe
from realnvp.data import load_data
from realnvp.training.runtime import limited_threads
from realnvp.training.trainer import Trainer, check_budget
from realnvp.utils.allocation import keep_all_freed_memory
from realnvp.utils.progress import Bar
from realnvp.utils.settings import resolved


@dataclass(frozen=True)
class Estimate:
    """Estimates for a training run.

    Attributes:
        parameters: number of the model's parameters.
        flops_per_example: multiplications and additions of convolutions and matrices, forwards and
            backwards.
        examples_per_second: training speed.
        seconds_per_step: duration of an optimizer step.
        steps: number of optimizer steps.
        minutes: duration of the run, in minutes, where validations take their whole share.
        peak_memory: largest memory in bytes, of the GPU if there is one, else of the process with
            all its libraries; 0 where the system does not report it.
        measured_steps: number of steps that were measured.
    """

    parameters: int
    flops_per_example: float
    examples_per_second: float
    seconds_per_step: float
    steps: int
    minutes: float
    peak_memory: int
    measured_steps: int


def estimate(recipe: Recipe, *, quiet: bool = False) -> Estimate:
    """Take a few training steps, and write nothing.

    Args:
        recipe: model, data and training settings, with at least one budget.
        quiet: show no progress.

    Raises:
        ValueError: if settings and data do not match, or several processes are asked for.
    """
    config = recipe.training
    check_budget(config)
    if config.devices * config.nodes > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError(
            "an estimate runs in one process: leave torchrun, --devices and --nodes out"
        )
    keep_all_freed_memory()
    trainer = Trainer.from_recipe(recipe, load_data(recipe.data))
    with limited_threads(trainer.flow, config.batch_size):
        bar = Bar("measuring", visible=not quiet)
        each, count, flops = _measure_steps(trainer, bar)
    cuda = trainer.flow.device.type == "cuda"
    # At 1, validations have no limit, and are not counted.
    training = 1 - config.validation_share if config.validation_share < 1 else 1.0
    most = math.inf if config.minutes is None else 60 * config.minutes * training / each
    steps = max(1, round(min(trainer.planned_steps(), most)))
    return Estimate(
        parameters=sum(p.numel() for p in trainer.flow.parameters()),
        flops_per_example=flops / trainer.batches.size,
        examples_per_second=trainer.batches.size / each,
        seconds_per_step=each,
        steps=steps,
        minutes=steps * each / training / 60,
        peak_memory=torch.cuda.max_memory_allocated() if cuda else _peak_of_process(),
        measured_steps=count,
    )


def _measure_steps(
    trainer: Trainer, bar: Bar, seconds: float = 5.0, least: int = 3, most: int = 50
) -> tuple[float, int, float]:
    """Return the seconds of a step, how many were measured, and a step's operations.

    Args:
        trainer: trainer whose steps are measured.
        bar: where progress is shown.
        seconds: seconds after which the measurement ends.
        least: smallest number of steps.
        most: largest number of steps.
    """
    device, lr = trainer.flow.device, 1e-3 * resolved(trainer.config.lr)  # changes no model
    with bar:
        trainer.train_step(lr)  # data-dependent initialization, and the first use of the memory
        with FlopCounterMode(display=False) as counter:
            trainer.train_step(lr)
        count, taken = 0, 0.0
        while count < least or (taken < seconds and count < most):
            start = time.monotonic()
            trainer.train_step(lr)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken += time.monotonic() - start
            count += 1
            bar.update(min(1.0, max(taken / seconds, count / most)))
    return taken / count, count, counter.get_total_flops()


def _peak_of_process() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
