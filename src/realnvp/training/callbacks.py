"""What a training puts into its run folder: metrics, pictures, checkpoints and the model."""

from __future__ import annotations

import io
import json
import math
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor

from realnvp import plots
from realnvp.training.run_directory import RunDirectory
from realnvp.utils.files import Appender, replacing, standard_json, write_atomically

if TYPE_CHECKING:
    from realnvp.training.trainer import Trainer

__all__ = ["Callback", "RunLogger", "TensorBoardWriter"]


class Callback:
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


class TensorBoardWriter:
    """One file of TensorBoard events in a folder; it is made by the first record.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        # TensorBoard reads the files in the order of their names
        name = f"events.out.tfevents.{time.time():.3f}.{socket.gethostname()}.{os.getpid()}"
        self._file = Appender(folder / name)
        self._waiting = [Event(wall_time=time.time(), file_version="brain.Event:2")]

    def purge(self, step: int) -> None:
        """TensorBoard is to forget what it knows of this step and later ones."""
        session = SessionLog(status=SessionLog.START)
        self._waiting.append(Event(wall_time=time.time(), step=step, session_log=session))

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write some scalars.

        Raises:
            OSError: if they cannot be written; the next call tries again.
        """
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=scalars))
        self._waiting.append(event)
        buffer = io.BytesIO()
        writer = RecordWriter(buffer)
        for item in self._waiting:
            writer.write(item.SerializeToString())
        self._file.append(buffer.getvalue())
        self._waiting = []


POINTS = 5_000
"""Records of the training loss that are kept in memory for the curves; the file has all."""


class RunLogger(Callback):
    """Writes into a run folder; what fails is told by a warning, once, and tried again.

    Args:
        run: the folder.
        step: where training begins; records after it are dropped.
        warn: tells a warning.
    """

    draws = True

    def __init__(self, run: RunDirectory, step: int, warn: Callable[[str], None]) -> None:
        self.run = run
        self._warn = warn
        self._warned = False
        self._metrics = Appender(run.folder / "metrics.jsonl")
        self._records: list[dict[str, Any]] = []
        self._waiting: list[str] = []
        self._begin: bytes | None = None  # of the file, if it is to be written anew
        self._model: dict[str, Tensor] | None = None
        self._saved: tuple[int, float, int, float] | None = None
        self._tensorboard = TensorBoardWriter(run.folder)
        if self._metrics.path.exists():
            self.rewind(step)

    def _try(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except OSError as error:
            if not self._warned:
                self._warn(
                    f"cannot write to {self.run.folder} ({error.strerror or error}): training goes "
                    f"on, and this is tried again at the next checkpoint"
                )
            self._warned = True
            return False
        return True

    # ------------------------------------------------------------------ metrics

    def log(self, kind: str, step: int, seconds: float, values: dict[str, Any]) -> None:
        record = {"kind": kind, "step": step, "seconds": round(seconds, 3), **values}
        self._remember(record)
        self._waiting.append(standard_json(record) + "\n")
        self._try(self._write_waiting)
        numbers = {f"{kind}/{key}": v for key, v in values.items() if isinstance(v, int | float)}
        if numbers:
            self._try(lambda: self._tensorboard.log(step, numbers))

    def _write_waiting(self) -> None:
        text = "".join(self._waiting).encode()
        if self._begin is None:
            self._metrics.append(text)
        else:
            write_atomically(self._metrics.path, self._begin + text)
        self._waiting, self._begin = [], None

    def _remember(self, record: dict[str, Any]) -> None:
        self._records.append(record)
        train = [r for r in self._records if r["kind"] == "train"]
        if len(train) > POINTS:  # thin out: a training of weeks must not fill the memory
            dropped = {id(r) for r in train[1::2]}
            self._records = [r for r in self._records if id(r) not in dropped]

    def rewind(self, step: int) -> None:
        text = self._begin
        if text is None:
            text = self._metrics.path.read_bytes() if self._metrics.path.exists() else b""
        self._records, kept = [], []
        for line in [*text.decode(errors="replace").splitlines(), *self._waiting]:
            try:
                record = {k: math.nan if v is None else v for k, v in json.loads(line).items()}
                early = record["step"] <= step
            except (ValueError, KeyError, TypeError, AttributeError):  # a line cut short by a crash
                continue
            if early:
                self._remember(record)
                kept.append(line.rstrip("\n") + "\n")
        self._waiting, self._begin = [], "".join(kept).encode()
        self._try(self._write_waiting)
        self._tensorboard.purge(step + 1)
        for path in (self.run.folder / "samples").glob("step-*.png"):
            number = path.stem.partition("-")[2]
            if number.isdecimal() and int(number) > step:
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ pictures and states

    def picture(self, trainer: Trainer, samples: Tensor) -> None:
        def draw() -> None:
            path = self.run.folder / "samples" / f"step-{trainer.step:07d}.png"
            with replacing(path) as temporary:
                if trainer.flow.levels is not None:
                    plots.image_grid(samples, temporary, levels=trainer.flow.levels)
                else:
                    data = trainer.validation.x[: len(samples)]
                    columns = trainer.dataset.columns or ("x1", "x2")
                    plots.scatter(samples, temporary, data, columns)
            curves = [r for r in self._records if math.isfinite(r.get("loss", 0.0))]
            with replacing(self.run.folder / "curves.png") as temporary:
                plots.learning_curves(curves, temporary, trainer.unit_name)

        self._try(draw)

    def save(self, trainer: Trainer, state: dict[str, Any], *, final: bool = False) -> None:
        # Writing the same once more would only drop the older of the two checkpoints.
        now = (trainer.step, trainer.best, trainer.worse, trainer.rollback.factor)
        if final and now == self._saved:
            return

        def write() -> None:
            self._saved = None
            if self._waiting or self._begin is not None:
                self._write_waiting()
            if trainer.best_weights is not None and trainer.best_weights is not self._model:
                trainer.flow.save_pretrained(self.run.model_folder, trainer.best_weights)
                self._model = trainer.best_weights
            self.run.save(state)
            self._saved, self._warned = now, False

        if not final:
            self._try(write)
            return
        try:
            write()
        except OSError as error:
            raise OSError(
                f"cannot save step {trainer.step} in {self.run.folder} "
                f"({error.strerror or error}): the checkpoint before it is intact; make room, and "
                f"go on with --resume"
            ) from error
