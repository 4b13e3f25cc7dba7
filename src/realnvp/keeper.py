"""Where a training puts what it makes: nowhere here, in a run folder in :mod:`realnvp.runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from realnvp.train import Trainer

__all__ = ["Keeper"]


class Keeper:
    """Keeps nothing: for trainings that leave no folder, and all processes but the main one.

    Attributes:
        draws: whether it wants pictures, for which samples have to be drawn.
    """

    draws = False

    def log(self, kind: str, step: int, seconds: float, values: dict[str, Any]) -> None:
        """Write a record; ``kind`` is "train", "validation", "skipped" or "rise"."""

    def rewind(self, step: int) -> None:
        """Forget the records after a step, from which training goes on."""

    def picture(self, trainer: Trainer, samples: Tensor) -> None:
        """Draw how training stands, with some samples."""

    def save(self, trainer: Trainer, state: dict[str, Any], *, final: bool = False) -> None:
        """Write a checkpoint, and the best model if it is new.

        Raises:
            OSError: if it cannot be written, and it is the ``final`` one.
        """
