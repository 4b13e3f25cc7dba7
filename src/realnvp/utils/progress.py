"""Progress on stderr: a bar with numbers and ETA on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

__all__ = ["Bar", "duration", "warn"]

LINE_EVERY = 10.0
"""Seconds between lines where stderr is not a terminal."""


def duration(seconds: float) -> str:
    """Seconds as people write them.

    >>> duration(75), duration(7325), duration(3.24)
    ('1:15', '2:02:05', '3 s')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def warn(text: str) -> None:
    """Print a warning on stderr."""
    _tell(f"realnvp: warning: {text}")


def _tell(text: str) -> None:
    # A training outlives whoever reads of it, and a full disk under a log.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class Bar:
    """A progress bar over a fraction, with a text that says how things stand.

    Args:
        title: what is going on.
        done: fraction that was done before, of a resumed run.
        visible: False shows nothing but warnings.
        main: False shows not even these: another process does.
    """

    def __init__(
        self, title: str, done: float = 0.0, visible: bool = True, main: bool = True
    ) -> None:
        self.title = title
        self._main, visible = main, visible and main
        self._visible = visible
        self._console = Console(stderr=True)
        self._terminal = visible and self._console.is_terminal
        self._start, self._start_fraction = time.monotonic(), done
        self._last_line = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[eta]}"),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            transient=True,
            disable=not self._terminal,
        )
        self._task = self._progress.add_task(title, total=1.0, eta="", text="")
        self._progress.update(self._task, completed=done)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, fraction: float, text: str = "") -> None:
        """Show that ``fraction`` is done, and the text."""
        if not self._visible:
            return
        now = time.monotonic()
        made = fraction - self._start_fraction
        left = (now - self._start) * (1 - fraction) / made if made > 0 else None
        eta = f"ETA {duration(left)}" if left is not None else ""
        if self._terminal:
            self._progress.update(self._task, completed=fraction, eta=eta, text=text)
        elif now - self._last_line >= LINE_EVERY:
            self._last_line = now
            _tell(f"{self.title} {fraction:4.0%} {eta}  {text}")

    def warn(self, text: str) -> None:
        """Print a warning, whether progress is shown or not."""
        if not self._main:
            return
        if self._terminal:
            self._progress.console.print(f"realnvp: warning: {text}", highlight=False, markup=False)
        else:
            warn(text)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._terminal:
            self._progress.console.print(text, highlight=False)
        elif self._visible:
            _tell(text)
