"""TensorBoard events, written at once and by this thread.

PyTorch's writer has a thread of its own: what it holds back is lost in a crash, and a full disk
becomes a traceback in that thread. The records here are on disk when the call returns, and errors
are raised where they can be answered.
"""

from __future__ import annotations

import io
import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from realnvp.files import Appender

__all__ = ["Board"]


class Board:
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
