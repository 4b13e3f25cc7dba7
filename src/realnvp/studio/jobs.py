"""Helpers of all tabs: errors in one line, cancelling, a folder for files, a place for results."""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakSet

import gradio as gr

from realnvp.studio.stopping import STOP, Cancelled
from realnvp.utils.errors import describe, is_expected

__all__ = ["Jobs", "Notify", "Results", "guarded", "integer", "seed_box", "upload_boxes"]

Notify = Callable[[int, int], None]
"""Shows the amount of work done, and the total, and ends the work that is cancelled."""

LARGEST_SEED = 2**53
"""Largest integer below which JavaScript has all others, too."""


class Jobs:
    """Cancellable work of each visitor of the studio, and the folder for their files.

    Args:
        folder: temporary folder; nothing is written elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stops: dict[str, WeakSet[threading.Event]] = {}
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        """Return the path of a new file of this name, separate from other visitors' files."""
        return Path(tempfile.mkdtemp(dir=self.folder)) / name

    def begin(self, request: gr.Request, progress: gr.Progress, what: str) -> Notify:
        """Return a function to be called with the amount of work done, and the total.

        It shows progress, and raises :class:`~realnvp.studio.stopping.Cancelled` once the visitor
        asks for it, as the networks of models do.
        """
        stop = threading.Event()
        STOP.set(stop)  # of this call of Gradio's alone, which holds it for as long as it runs
        visitor = str(request.session_hash)
        with self._lock:
            self._stops.setdefault(visitor, WeakSet()).add(stop)

        def notify(done: int, total: int) -> None:
            if stop.is_set():
                raise Cancelled
            progress(min(done / max(total, 1), 1.0), desc=what)

        notify(0, 1)
        return notify

    def task(self, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator of cancellable work that a page calls.

        The work gets what :meth:`begin` returns, and then the values of the page.
        """

        def decorate(work: Callable[..., Any]) -> Callable[..., Any]:
            def run(
                request: gr.Request,
                progress: gr.Progress = gr.Progress(),  # noqa: B008 -- Gradio finds it by this
                *values: Any,
            ) -> Any:
                return work(self.begin(request, progress, what), *values)

            run.__name__ = work.__name__
            return guarded(run)

        return decorate

    def buttons(self, name: str, label: str) -> gr.Button:
        """Make a button that begins, ``#NAME-go``, and one that cancels; return the first."""
        with gr.Row():
            go = gr.Button(label, variant="primary", elem_id=f"{name}-go")
            stop = gr.Button("Cancel", elem_id=f"{name}-stop")
        stop.click(self.cancel, None, None, queue=False)
        return go

    def cancel(self, request: gr.Request) -> None:
        """End all of the visitor's work at its next step."""
        with self._lock:
            for stop in self._stops.get(str(request.session_hash), ()):
                stop.set()

    def forget(self, request: gr.Request) -> None:
        """End the work of a visitor who has left."""
        self.cancel(request)
        with self._lock:
            self._stops.pop(str(request.session_hash), None)


class Results:
    """Place where a tab shows its results; until then, a line describes them.

    Made inside a page, it is a line of text, and below it a column that is hidden while it has
    nothing to show: what is added inside ``with results:`` is in it.

    Args:
        name: the line is the element ``#NAME-note``.
        hint: what the tab will show, and how to get it.
    """

    def __init__(self, name: str, hint: str) -> None:
        self.hint = hint
        self.note = gr.Markdown(hint, elem_id=f"{name}-note", elem_classes="note")
        self.column = gr.Column(visible=False, elem_id=f"{name}-results")
        self.outputs = [self.note, self.column]

    def __enter__(self) -> gr.Column:
        return self.column.__enter__()

    def __exit__(self, *given: Any) -> None:
        self.column.__exit__(*given)

    def on(
        self, event: Callable[..., Any], work: Callable[..., Any], inputs: list[Any],
        outputs: list[Any],
    ) -> Any:  # fmt: skip
        """Let an event start work that returns what :meth:`shown` does, and other outputs."""
        return event(work, inputs, [*self.outputs, *outputs], show_progress_on=self.note)

    def shown(self, note: str) -> list[Any]:
        """Return the values of :attr:`outputs` that show the results, with a line about them."""
        return [note, gr.Column(visible=True)]

    def empty(self) -> list[Any]:
        """Return the values of :attr:`outputs` that hide them, as for another model."""
        return [self.hint, gr.Column(visible=False)]


def seed_box(name: str, info: str) -> gr.Number:
    """Make the field of a seed, ``#NAME-seed``."""
    return gr.Number(
        0, label="Seed", info=info, precision=0, minimum=0, maximum=LARGEST_SEED,
        elem_id=f"{name}-seed",
    )  # fmt: skip


def upload_boxes(name: str, label: str) -> tuple[gr.File, gr.Checkbox]:
    """Make the field of files, ``#NAME-files``, and a choice that images have, ``#NAME-invert``."""
    files = gr.File(
        file_count="multiple", label=label, elem_id=f"{name}-files", height=150, min_width=280,
        scale=2,
    )  # fmt: skip
    invert = gr.Checkbox(
        False, label="Exchange dark and light", elem_id=f"{name}-invert",
        info="For dark strokes on white paper, if the model was trained on the reverse.",
    )  # fmt: skip
    return files, invert


def integer(value: float | None, name: str) -> int:
    """Return the value of a field.

    Raises:
        ValueError: if the visitor has left it empty.

    >>> integer(3.0, "seed")
    3
    """
    if value is None:
        raise ValueError(f"the {name} is empty: type an integer")
    return int(value)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show errors that a visitor can fix in one line, as the command line does; raise bugs."""

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
