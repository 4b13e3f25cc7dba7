"""Callbacks of a training run, which receive its records, pictures and states.

A callback receives values, never the trainer. :class:`History` keeps the records in memory, and
:class:`RunLogger` also writes them into a run directory, with pictures, checkpoints and the model.
"""

from __future__ import annotations

import io
import math
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor

from realnvp import plots
from realnvp.flow import Flow
from realnvp.reports.report import write_report
from realnvp.reports.run import Run, parse_record
from realnvp.reports.samples import picture_of_rows
from realnvp.training.callback import Callback
from realnvp.training.run_directory import RunDirectory
from realnvp.utils.errors import describe, is_expected
from realnvp.utils.files import append, replacing, standard_json, write_atomically
from realnvp.utils.progress import Bar, warn

if TYPE_CHECKING:
    from realnvp.columns.schema import TableSchema
    from realnvp.data import Split


class ReportWriter(Callback):
    """Write ``report.html`` into the run directory at the end, which takes seconds.

    An error in it does not fail the run; see :mod:`realnvp.reports.report`.

    Args:
        quiet: do not show progress.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet

    def finish(self, flow: Flow, folder: Path | None, held_out: tuple[str, Split]) -> None:
        if folder is None:
            return
        run = Run.open(folder)
        run.flow = flow  # which may not be one that can be saved
        try:
            with Bar("report", visible=not self._quiet) as bar:
                write_report([run], folder / "report.html", held_out=held_out, bar=bar)
        except Exception as error:
            if not is_expected(error):
                raise
            warn(f"no report was written: {describe(error)}")


POINTS = 5_000
"""Number of records of the training loss that are kept in memory; a file of metrics has all."""


class History(Callback):
    """Keep the records in memory; of many thousand training losses, every other one is dropped.

    Attributes:
        records: the records in order, each with its "kind", "step" and "seconds".

    >>> history = History()
    >>> history.log("validation", 10, 1.5, {"loss": 2.0})
    >>> history.records
    [{'kind': 'validation', 'step': 10, 'seconds': 1.5, 'loss': 2.0}]
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def log(self, kind: str, step: int, seconds: float, values: dict[str, Any]) -> None:
        self._remember({"kind": kind, "step": step, "seconds": round(seconds, 3), **values})

    def rewind(self, step: int) -> None:
        self.records = [record for record in self.records if not _is_undone(record, step)]

    def _remember(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        train = [r for r in self.records if r["kind"] == "train"]
        if len(train) > POINTS:  # a run of several weeks must not fill the memory
            dropped = {id(r) for r in train[1::2]}
            self.records = [r for r in self.records if id(r) not in dropped]


def _is_undone(record: dict[str, Any], step: int) -> bool:
    """Return True if a record is obsolete in a run that continues from a step."""
    return record["step"] > step or record["kind"] == "final"


class TensorBoardWriter:
    """Append to one file of TensorBoard events, which the first record creates.

    ``torch.utils.tensorboard.SummaryWriter`` is not used because it writes in a thread of its own,
    whose records are lost if the process is killed, and which a full disk ends with a traceback.

    Args:
        folder: folder of the file.
    """

    def __init__(self, folder: Path) -> None:
        # TensorBoard reads the files in the order of their names
        name = f"events.out.tfevents.{time.time():.3f}.{socket.gethostname()}.{os.getpid()}"
        self._file = folder / name
        self._waiting = [Event(wall_time=time.time(), file_version="brain.Event:2")]

    def purge(self, step: int) -> None:
        """Let TensorBoard forget this step and later ones."""
        session = SessionLog(status=SessionLog.START)
        self._waiting.append(Event(wall_time=time.time(), step=step, session_log=session))

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write scalars by name.

        Raises:
            OSError: if they cannot be written; the next call tries again.
        """
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step, Summary(value=scalars))

    def picture(self, step: int, png: bytes) -> None:
        """Write a picture of samples.

        Raises:
            OSError: as :meth:`log`.
        """
        with Image.open(io.BytesIO(png)) as image:
            width, height = image.size
        shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._write(step, Summary(value=[Summary.Value(tag="samples", image=shown)]))

    def _write(self, step: int, summary: Any) -> None:
        self._waiting.append(Event(wall_time=time.time(), step=step, summary=summary))
        buffer = io.BytesIO()
        writer = RecordWriter(buffer)
        for item in self._waiting:
            writer.write(item.SerializeToString())
        append(self._file, buffer.getvalue())
        self._waiting = []


class RunLogger(History):
    """Write into a run directory. The first failure causes a warning; writing is retried later.

    Args:
        run: the run directory.
        flow: the model that is trained.
        step: step at which training begins; records after it are dropped.
        warn: function that shows a warning.
        data: examples that pictures of points show next to the samples.
        schema: columns of the table that these are the features of.
        smoothing: True if training adds noise to the data, which is noted in the curves.
        tensorboard: whether events are written for TensorBoard.
    """

    draws = True

    def __init__(
        self,
        run: RunDirectory,
        flow: Flow,
        step: int,
        warn: Callable[[str], None],
        *,
        data: Tensor | None = None,
        schema: TableSchema | None = None,
        smoothing: bool = False,
        tensorboard: bool = True,
    ) -> None:
        super().__init__()
        self.run, self.flow = run, flow
        self._data, self._warn = data, warn
        self._picture = partial(picture_of_rows, schema=schema)
        self._noisy = smoothing
        self._warned = False
        self._metrics = run.folder / "metrics.jsonl"
        self._waiting: list[str] = []
        self._begin: bytes | None = None  # content of the file, if it has to be rewritten
        self._model: dict[str, Tensor] | None = None
        self._saved: tuple[Any, ...] | None = None
        self._tensorboard = TensorBoardWriter(run.folder) if tensorboard else None
        self._saves_model = True
        try:
            flow.settings()
        except ValueError as error:
            self._saves_model = False
            warn(f"{error}; the checkpoints hold its weights")
        if self._metrics.exists():
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
        super().log(kind, step, seconds, values)
        self._waiting.append(standard_json(self.records[-1]) + "\n")
        self._try(self._write_waiting)
        numbers = {f"{kind}/{key}": v for key, v in values.items() if isinstance(v, int | float)}
        board = self._tensorboard
        if board is not None and numbers:
            self._try(lambda: board.log(step, numbers))

    def _write_waiting(self) -> None:
        text = "".join(self._waiting).encode()
        if self._begin is None:
            append(self._metrics, text)
        else:
            write_atomically(self._metrics, self._begin + text)
        self._waiting, self._begin = [], None

    def rewind(self, step: int) -> None:
        text = self._begin
        if text is None:
            text = self._metrics.read_bytes() if self._metrics.exists() else b""
        self.records, kept = [], []
        for line in [*text.decode(errors="replace").splitlines(), *self._waiting]:
            record = parse_record(line)
            if record is not None and not _is_undone(record, step):
                self._remember(record)
                kept.append(line.rstrip("\n") + "\n")
        self._waiting, self._begin = [], "".join(kept).encode()
        self._try(self._write_waiting)
        if self._tensorboard is not None:
            self._tensorboard.purge(step + 1)
        for path in (self.run.folder / "samples").glob("step-*.png"):
            number = path.stem.partition("-")[2]
            if number.isdecimal() and int(number) > step:
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ pictures and states

    def picture(self, step: int, samples: Tensor) -> None:
        def draw() -> None:
            path = self.run.folder / "samples" / f"step-{step:07d}.png"
            with replacing(path) as temporary:
                if self.flow.levels is not None:
                    plots.image_grid(samples, temporary, levels=self.flow.levels)
                else:
                    data = None if self._data is None else self._data[: len(samples)]
                    plots.save_figure(self._picture(samples, data), temporary)
            if self._tensorboard is not None:
                self._tensorboard.picture(step, path.read_bytes())
            self._draw_curves()

        self._try(draw)

    def _draw_curves(self) -> None:
        per_nat, unit = self.flow.unit
        figure = plots.learning_curves(
            self.records,
            unit,
            sign=math.copysign(1.0, per_nat),
            training="training, as the weights change"
            + (", of data with noise" if self._noisy else ""),
        )
        with replacing(self.run.folder / "curves.png") as temporary:
            plots.save_figure(figure, temporary)

    def save(self, state: dict[str, Any], *, final: bool = False) -> None:
        now = state["now"]
        factor = state["rollback"]["factor"]
        saved = (now["step"], now["best"], now["worse"], factor, state["evaluated"])
        # Writing the same state again would only drop the older of the two checkpoints.
        if final and saved == self._saved:
            return

        def write() -> None:
            self._saved = None
            if self._waiting or self._begin is not None:
                self._write_waiting()
            best = now["best_weights"]
            if self._saves_model and best is not None and best is not self._model:
                self.flow.save_pretrained(self.run.model_folder, best)
                self._model = best
            self.run.save(state)
            self._saved, self._warned = saved, False

        if not final:
            self._try(write)
            return
        try:
            write()
        except OSError as error:
            raise OSError(
                f"cannot save step {now['step']} in {self.run.folder} "
                f"({error.strerror or error}): the checkpoint before it is intact; make room, and "
                f"continue with --resume"
            ) from error
        self._try(self._draw_curves)
