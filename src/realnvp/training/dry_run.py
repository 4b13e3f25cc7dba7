"""An estimate before a run: how large the model is, how fast it trains, what memory it needs."""

from __future__ import annotations

import dataclasses
import math
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from realnvp.config import Recipe
from realnvp.data import load_data
from realnvp.training.runtime import keep_freed_memory, limit_threads
from realnvp.training.trainer import Trainer, check_budget
from realnvp.utils.progress import Bar

__all__ = ["Estimate", "estimate"]

SECONDS, LEAST, MOST = 5.0, 3, 50
"""How long is measured, and at least and at most how many steps."""


@dataclass(frozen=True)
class Estimate:
    """What a training would come to.

    ``minutes`` is the time of the budget, validations and pictures aside; ``peak_memory`` is in
    bytes: of the device, where there is one, else of the process with all its libraries;
    ``flops_per_example`` counts the multiplications and additions of convolutions and matrices,
    forwards and backwards.
    """

    parameters: int
    flops_per_example: float
    examples_per_second: float
    seconds_per_step: float
    steps: int
    minutes: float
    peak_memory: int
    measured_steps: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate(recipe: Recipe, *, quiet: bool = False) -> Estimate:
    """Take a few steps of a training, and write nothing.

    Args:
        recipe: model, data and training settings; at least one budget. Of several processes, one
            is measured, with its share of the batch, and the others are taken to add no time.
        quiet: show no progress.

    Raises:
        ValueError: if settings and data do not go together.
    """
    check_budget(recipe.training)
    config = recipe.training
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError("an estimate is of one process: leave torchrun out")
    keep_freed_memory()
    processes = config.devices * config.nodes
    share = max(1, config.batch_size // processes)
    config = dataclasses.replace(config, devices=1, nodes=1, batch_size=share)
    recipe = dataclasses.replace(recipe, training=config)
    trainer = Trainer(recipe, load_data(recipe.data))
    limit_threads(trainer.flow, config.batch_size)
    cuda = trainer.flow.device.type == "cuda"

    def step() -> None:
        trainer.train_step(config.lr * 1e-3)  # nothing is learned, so nothing can blow up
        if cuda:
            torch.cuda.synchronize()

    with Bar("measuring", visible=not quiet) as bar:
        step()  # data-dependent initialization, and the first touch of the memory
        with FlopCounterMode(display=False) as counter:
            step()
        start, count, seconds = time.monotonic(), 0, 0.0
        while count < LEAST or (seconds < SECONDS and count < MOST):
            step()
            count, seconds = count + 1, time.monotonic() - start
            bar.update(min(1.0, max(seconds / SECONDS, count / MOST)))
    each = seconds / count
    budgets = [math.inf if config.steps is None else config.steps]
    if config.epochs is not None:
        budgets.append(config.epochs * trainer.batches.per_epoch / processes)
    if config.minutes is not None:
        budgets.append(60 * config.minutes / each)
    steps = max(1, round(min(budgets)))
    return Estimate(
        sum(p.numel() for p in trainer.flow.parameters()),
        counter.get_total_flops() / trainer.batches.size,
        processes * trainer.batches.size / each,
        each,
        steps,
        steps * each / 60,
        torch.cuda.max_memory_allocated() if cuda else _peak_of_process(),
        count,
    )


def _peak_of_process() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
