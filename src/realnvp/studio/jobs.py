"""What every event of the page needs: errors in one line, cancelling, a folder for files."""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from realnvp.utils.errors import describe, is_expected

__all__ = ["Cancelled", "Desk", "guarded"]


class Cancelled(Exception):
    """A visitor does not want to wait any longer."""


class Desk:
    """One studio's folder for files, and the work of each visitor that can be cancelled.

    Args:
        folder: temporary folder; nothing is written elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stops: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        """Return the path of a new file of this name, which no other visitor's replaces."""
        return Path(tempfile.mkdtemp(dir=self.folder)) / name

    def begin(
        self, request: gr.Request, progress: gr.Progress, what: str
    ) -> Callable[[int, int], None]:
        """Return a function to be called with what is done and all there is to do.

        It shows progress, and raises :class:`Cancelled` once the visitor asks for it.
        """
        stop = threading.Event()
        with self._lock:
            self._stops[str(request.session_hash)] = stop

        def tell(done: int, total: int) -> None:
            if stop.is_set():
                raise Cancelled
            progress(min(done / max(total, 1), 1.0), desc=what)

        tell(0, 1)
        return tell

    def cancel(self, request: gr.Request) -> None:
        """End the visitor's work at its next step."""
        with self._lock:
            stop = self._stops.get(str(request.session_hash))
        if stop is not None:
            stop.set()


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show what a visitor can mend in one line, as the command line does; a bug is raised."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Cancelled:
            raise gr.Error("cancelled", print_exception=False, duration=3) from None
        except Exception as error:
            if not is_expected(error):
                raise
            raise gr.Error(describe(error), print_exception=False) from error

    return run
