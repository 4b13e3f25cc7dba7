"""What a training run reports, and who may listen. Those of a run folder: :mod:`.callbacks`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from realnvp.flow import Flow

if TYPE_CHECKING:
    from realnvp.data import Split


class Callback:
    """Receive what a training run reports. The methods of this base class do nothing.

    With several processes, only the main process has callbacks.

    Attributes:
        draws: True if samples are to be drawn, for :meth:`picture`.
    """

    draws = False

    def log(self, kind: str, step: int, seconds: float, values: dict[str, Any]) -> None:
        """Receive a record.

        Args:
            kind: "run" (versions, machine and date, when training begins or is resumed), "train"
                (means since the last such record), "validation", "final" (the evaluation of the
                best model), "skipped" (a batch that was not finite, or whose gradient was a spike)
                or "rise" (the loss rose, and training went back).
            step: number of optimizer steps so far.
            seconds: seconds of training so far.
            values: the numbers by name. A "loss" is small when the model is good: nats per example
                of vectors, bits/dim of images.
        """

    def rewind(self, step: int) -> None:
        """Forget the records after ``step``, from which training continues."""

    def picture(self, step: int, samples: Tensor) -> None:
        """Receive samples from the averaged weights."""

    def save(self, state: dict[str, Any], *, final: bool = False) -> None:
        """Receive the state, which changes as soon as this returns.

        Raises:
            OSError: if it cannot be written, and it is the ``final`` one.
        """

    def finish(self, flow: Flow, folder: Path | None, held_out: tuple[str, Split]) -> None:
        """Receive the model of a run that has used up its budget.

        Args:
            flow: the model with the best validation.
            folder: the run directory, None if there is none.
            held_out: name and examples of the part of the data that it was measured on.
        """
