"""The progress bar on terminals of any width and in notebooks, and lines elsewhere."""

from __future__ import annotations

import io
import sys
import time
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import ProgressSample

from realnvp.utils.progress import Bar, duration, in_notebook, warn

LOSS = "0.428 nats best 0.412"
RATE = "12345 examples/s"
TERMS = "(prior 2.71 coupling -1.52 norm -0.33 preprocessing -0.44)"


def rendered(width: int, *texts: str, fraction: float = 0.45) -> str:
    """Return the line that a terminal of this width shows."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    bar = Bar("training", console=console)
    bar._progress.tasks[0]._progress.append(ProgressSample(time.monotonic() - 100, 0.0))
    bar.update(fraction, *texts)
    with console.capture() as capture:
        console.print(bar._progress.get_renderable())
    (line,) = capture.get().splitlines()
    return line.rstrip()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_what_matters_most_is_whole_and_the_rest_is_cut(width):
    line = rendered(width, LOSS, RATE, TERMS)
    assert line.startswith("training ━")
    assert "45% ETA 2:0" in line
    assert (LOSS in line) == (width > 60)
    assert (RATE in line) == (width > 80)
    assert len(line) <= width


def test_names_in_brackets_are_text():
    assert "[red]" in rendered(100, "column [red]")
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    Bar("training", console=console).say("age [years] of [/tmp]")
    assert "age [years] of [/tmp]" in console.file.getvalue()


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("realnvp.utils.progress.time.monotonic", lambda: now)
    monkeypatch.setattr("realnvp.utils.progress.LINE_EVERY", 10.0)
    bar = Bar("training")
    now += 9
    bar.update(0.1, LOSS, RATE, TERMS)
    assert capsys.readouterr().err == "", "not more often than every ten seconds"
    now += 91
    bar.update(0.5, LOSS, RATE, TERMS)
    assert capsys.readouterr().err == f"training  50% ETA 1:54 {LOSS} {RATE} {TERMS}\n"


def test_a_count_is_progress(capsys, monkeypatch):
    monkeypatch.setattr("realnvp.utils.progress.LINE_EVERY", 0.0)
    Bar("scoring").count(3, 4)
    assert capsys.readouterr().err.startswith("scoring  75%")


def test_an_invisible_bar_shows_warnings_only(capsys):
    bar = Bar("training", visible=False)
    bar.update(0.5, LOSS)
    bar.say("a line")
    bar.warn("disk full")
    assert capsys.readouterr().err == "realnvp: warning: disk full\n"
    Bar("training", main=False).warn("disk full")
    assert capsys.readouterr().err == ""


def test_warnings_go_to_stderr(capsys):
    warn("disk full")
    assert capsys.readouterr() == ("", "realnvp: warning: disk full\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.24, "3 s"), (59.6, "1:00"), (75, "1:15"), (7325, "2:02:05")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def notebook(monkeypatch):
    """Let IPython be there, with a kernel."""
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def test_a_notebook_shows_a_bar_in_its_cell_and_takes_it_away(notebook, monkeypatch, capsys):
    monkeypatch.setattr("realnvp.utils.progress.REDRAW_EVERY", 0.0)
    with Bar("training") as bar:
        bar.update(0.25, LOSS)
        bar.say("a line")
        bar.update(0.5, LOSS)
    out, err = capsys.readouterr()
    assert err == "", "what is on stderr looks like an error"
    first, line, second, last = (part.rstrip(" ") for part in out.split("\r")[1:-1])
    assert first.startswith("training ━━━━━                 25% ")
    assert first.endswith(LOSS)
    assert line == "a line" + " " * 94 + "\n"
    assert " 50% ETA" in second
    assert last == ""


def test_a_notebook_is_not_drowned_in_messages(notebook, capsys):
    with Bar("training") as bar:
        for i in range(1000):
            bar.update(i / 1000)
    assert capsys.readouterr().out.count("\r") < 50


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))
    assert not in_notebook()
