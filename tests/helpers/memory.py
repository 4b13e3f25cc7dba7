"""How much memory a process takes."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from realnvp.config import VectorRecipe
from realnvp.training.train import train
from realnvp.training.trainer import Trainer


def memory_growth(small: VectorRecipe, folder: Path) -> float:
    """Return the MiB by which the process grows from a training's second third to its end."""
    used: list[int] = []
    step = Trainer.train_step

    def measured(self: Trainer, lr: float) -> Any:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used.append(pages * resource.getpagesize())
        return step(self, lr)

    Trainer.train_step = measured  # type: ignore[method-assign]
    try:
        train(small, folder, quiet=True)
    finally:
        Trainer.train_step = step  # type: ignore[method-assign]
    third = len(used) // 3
    return (max(used[2 * third :]) - max(used[third : 2 * third])) / 2**20
