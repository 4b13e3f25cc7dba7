"""Where a training puts what it makes: in memory here, in a run folder in :mod:`realnvp.runs`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from realnvp.models import Flow

if TYPE_CHECKING:
    from realnvp.train import Trainer

__all__ = ["Keeper"]


class Keeper:
    """Keeps the best model in memory, and nothing else: for trainings that leave no folder."""

    def __init__(self) -> None:
        self._best: dict | None = None

    def log(self, kind: str, step: int, seconds: float, values: dict[str, float]) -> None:
        """Write a record; ``kind`` is "train" or "validation"."""

    def keep(self, flow: Flow) -> None:
        """Keep the model as the best."""
        self._best = copy.deepcopy(flow.state_dict())

    def picture(self, trainer: Trainer) -> None:
        """Draw how training stands."""

    def save(self, trainer: Trainer) -> None:
        """Write a checkpoint."""

    def best(self, flow: Flow) -> Flow:
        """The best model; ``flow`` has its architecture, and may become it."""
        if self._best is not None:
            flow.load_state_dict(self._best)
        flow.set_compute_dtype(None)
        return flow.eval()

    def close(self) -> None:
        """Write what is left."""
