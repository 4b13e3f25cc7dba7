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

NARROWEST, WIDEST = 4, 20
"""Columns of the bar."""


def duration(seconds: float) -> str:
    """Return seconds as people write them.

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
    _print(f"realnvp: warning: {text}")


def _print(text: str) -> None:
    # Training goes on when the terminal is closed, or the disk under a log is full.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class Bar:
    """A progress bar with an ETA and numbers.

    Args:
        title: name of what is going on.
        done: fraction that was done before, of a resumed run.
        visible: show the bar; False shows nothing but warnings.
        main: True in the one process that shows anything at all.
        console: terminal or file to write to; stderr, if left out.
    """

    def __init__(
        self,
        title: str,
        done: float = 0.0,
        visible: bool = True,
        main: bool = True,
        console: Console | None = None,
    ) -> None:
        self.title = title
        self._main, visible = main, visible and main
        self._visible = visible
        self._console = Console(stderr=True) if console is None else console
        self._terminal = visible and self._console.is_terminal
        self._start, self._start_fraction = time.monotonic(), done
        self._last_line = time.monotonic()
        self._bar = BarColumn(bar_width=WIDEST)
        self._progress = Progress(
            TextColumn("{task.description}"),
            self._bar,
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._terminal,
        )
        self._task = self._progress.add_task(title, total=1.0, text="")
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

    def update(self, fraction: float, text: str = "", *details: str) -> None:
        """Show progress.

        Args:
            fraction: part that is done.
            text: numbers to show beside the bar.
            details: more of them, the most important first. Where a terminal is too narrow for
                all, the last ones are left out, then the bar gets shorter.
        """
        if not self._visible:
            return
        now = time.monotonic()
        made = fraction - self._start_fraction
        eta = f"ETA {duration((now - self._start) * (1 - fraction) / made)}" if made > 0 else ""
        parts = [part for part in (eta, text, *details) if part]
        if self._terminal:
            room = self._console.width - len(f"{self.title}   100%  ")
            fits = len(parts) - len(details)
            while fits < len(parts) and len(" ".join(parts[: fits + 1])) <= room - WIDEST:
                fits += 1
            shown = " ".join(parts[:fits])
            self._bar.bar_width = max(NARROWEST, min(WIDEST, room - len(shown)))
            self._progress.update(self._task, completed=fraction, text=shown)
        elif now - self._last_line >= LINE_EVERY:
            self._last_line = now
            _print(f"{self.title} {fraction:4.0%} {' '.join(parts)}")

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
            _print(text)
