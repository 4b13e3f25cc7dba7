"""Progress: a bar with an ETA on a terminal or in a notebook, and occasional lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from html import escape
from importlib import import_module
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

__all__ = ["Bar", "duration", "inform", "notebook_display", "warn"]

LINE_EVERY = 10.0
"""Seconds between lines where stderr is not a terminal."""

REDRAW_EVERY = 0.2
"""Seconds between two drawings of a notebook's bar, each of which is a message to the browser."""

NARROWEST, WIDEST = 4, 20
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
    _print(f"realnvp: warning: {text}")


def inform(text: str) -> None:
    """Print a line of information on stderr."""
    _print(text)


def _print(text: str) -> None:
    # Training continues when the terminal is closed, or the disk of a log is full.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def notebook_display() -> Callable[..., Any] | None:
    """Return the function that shows something in a notebook's cell, None outside of notebooks."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    if not hasattr(shell, "kernel"):  # IPython in a terminal has none, and its bar is a terminal's
        return None
    return import_module("IPython.display").display


class Bar:
    """A progress bar with an ETA and numbers, which disappears at the end.

    Args:
        title: name of what is going on.
        done: fraction that was done before, in a resumed run.
        visible: show the bar; False shows nothing but warnings.
        main: True in the one process that shows anything at all.
        console: terminal or file to write to; if left out the notebook's cell, or else stderr.
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
        self._display = notebook_display() if visible and console is None else None
        self._cell: Any = None
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
        if self._cell is not None:
            self._cell.update({"text/html": "", "text/plain": ""}, raw=True)
            self._cell = None

    def update(self, fraction: float, text: str = "", *details: str) -> None:
        """Show progress.

        Args:
            fraction: part that is done.
            text: numbers to show next to the bar.
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
        elif self._display is not None:
            if self._cell is None or now - self._last_line >= REDRAW_EVERY:
                self._last_line = now
                self._draw_in_cell(self._display, fraction, " ".join(parts))
        elif now - self._last_line >= LINE_EVERY:
            self._last_line = now
            _print(f"{self.title} {fraction:4.0%} {' '.join(parts)}")

    def count(self, done: int, total: int) -> None:
        """Show how many of a total are done; functions take this method as their ``progress``."""
        self.update(done / total)

    def _draw_in_cell(self, display: Callable[..., Any], fraction: float, text: str) -> None:
        line = f"{self.title} {fraction:4.0%} {text}"
        bar = f'<progress max="1" value="{fraction:.3f}" aria-label="{escape(self.title)}">'
        shown = {"text/html": f"{bar}</progress> {escape(line)}", "text/plain": line}
        if self._cell is None:
            self._cell = display(shown, raw=True, display_id=True)
        else:
            self._cell.update(shown, raw=True)

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
            self._progress.console.print(text, highlight=False, markup=False)
        elif self._display is not None:
            print(text, flush=True)  # a notebook shows stderr as an error
        elif self._visible:
            _print(text)
