"""Progress: a bar with an ETA on a terminal or in a notebook, and occasional lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from math import inf

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

LINE_EVERY, REDRAW_EVERY = 10.0, 0.2
"""Seconds between lines where stderr is not a terminal, and between updates of a notebook's."""

WIDTH = 20
"""Columns of the bar."""


def duration(seconds: float) -> str:
    """Return a duration as text.

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
    inform(f"realnvp: warning: {text}")


def inform(text: str) -> None:
    """Print a line of information on stderr."""
    # Training continues when the terminal is closed, or the disk of a log is full.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def in_notebook() -> bool:
    """Return whether this process runs the cells of a notebook."""
    # IPython in a terminal has no kernel, and its bar is the terminal's.
    return "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel")


class Bar:
    """A progress bar with an ETA and numbers, which disappears at the end.

    Args:
        title: name of what is going on.
        done: fraction that was done before, in a resumed run.
        visible: show the bar; False shows nothing but warnings.
        main: True in the one process that shows anything at all.
        console: terminal to write to; stderr by default.
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
        self._main, self._visible = main, visible and main
        self._notebook = in_notebook()
        console = console or Console(stderr=True)
        self._terminal = self._visible and console.is_terminal and not self._notebook
        # What does not fit is cut off at the end, where the least important numbers are.
        self._room = console.width - len(f"{title}   100% ") - WIDTH if self._terminal else None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(WIDTH),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            transient=True,
            disable=not self._terminal,
            speed_estimate_period=inf,
            get_time=time.monotonic,
        )
        self._task = self._progress.add_task(title, total=1.0, text="")
        self._progress.update(self._task, completed=done)
        self._last_line = time.monotonic()

    def __enter__(self) -> Bar:
        if self._terminal:  # before version 14.3, rich ends one that it does not show by a line
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal:
            self._progress.stop()
        if self._visible and self._notebook:
            _overwrite("", end="\r")

    def update(self, fraction: float, *numbers: str) -> None:
        """Show progress.

        Args:
            fraction: part that is done.
            numbers: what to show next to the bar, the most important first.
        """
        if not self._visible:
            return
        self._progress.update(self._task, completed=fraction)
        left = self._progress.tasks[0].time_remaining
        eta = "" if left is None else f"ETA {duration(left)}"
        text = " ".join(filter(None, (eta, *numbers)))
        self._progress.update(self._task, text=text[: self._room])
        now = time.monotonic()
        if self._terminal or now - self._last_line < (
            REDRAW_EVERY if self._notebook else LINE_EVERY
        ):
            return
        self._last_line = now
        if self._notebook:
            bar = "━" * round(WIDTH * fraction)
            _overwrite(f"{self.title} {bar:{WIDTH}} {fraction:4.0%} {text}", end="")
        else:
            inform(f"{self.title} {fraction:4.0%} {text}")

    def count(self, done: int, total: int) -> None:
        """Show how many of a total are done; functions take this method as their ``progress``."""
        self.update(done / total)

    def adding(self, total: int) -> Callable[[int], None]:
        """Return a function that is told how many more of a total are done."""
        counts: list[int] = []

        def add(count: int) -> None:
            counts.append(count)
            self.update(min(sum(counts) / max(total, 1), 1.0))

        return add

    def warn(self, text: str) -> None:
        """Print a warning, whether progress is shown or not."""
        if self._main:
            self._line(f"realnvp: warning: {text}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._visible:
            self._line(text)

    def _line(self, text: str) -> None:
        if self._terminal:
            self._progress.console.print(text, highlight=False, markup=False)
        elif self._visible and self._notebook:
            _overwrite(text, end="\n")
        else:
            inform(text)


def _overwrite(text: str, end: str) -> None:
    """Write over the last line of a notebook's cell, which shows stderr as an error."""
    print(f"\r{text:100}", end=end, flush=True)
