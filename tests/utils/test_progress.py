"""The progress bar on terminals of any width and in notebooks, and lines elsewhere."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from realnvp.utils.progress import Bar, duration, notebook_display, warn

LOSS = "0.428 nats best 0.412"
RATE = "12345 examples/s"
TERMS = "(prior 2.71 coupling -1.52 norm -0.33 preprocessing -0.44)"


def rendered(width: int, *texts: str, fraction: float = 0.45) -> str:
    """Return the line that a terminal of this width shows."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    bar = Bar("training", console=console)
    bar._start -= 100  # so that there is an ETA
    bar.update(fraction, *texts)
    with console.capture() as capture:
        console.print(bar._progress.get_renderable())
    (line,) = capture.get().splitlines()
    return line.rstrip()


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_what_matters_most_is_always_whole(width):
    line = rendered(width, LOSS, RATE, TERMS)
    assert line.startswith("training ━")
    assert "45%" in line
    assert "ETA 2:02" in line
    assert LOSS in line
    assert "…" not in line
    assert len(line) <= width


def test_terms_are_dropped_first_and_then_the_rate():
    shown = {
        width: [part in rendered(width, LOSS, RATE, TERMS) for part in (RATE, TERMS)]
        for width in (60, 80, 100, 140, 200)
    }
    assert shown == {
        60: [False, False],
        80: [False, False],
        100: [True, False],
        140: [True, False],
        200: [True, True],
    }


def test_the_bar_gets_shorter_where_the_numbers_need_the_room():
    narrow, wide = (rendered(width, LOSS, fraction=1.0).count("━") for width in (60, 100))
    assert 4 <= narrow < wide == 20


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
    line = capsys.readouterr().err
    assert line.startswith("training  50% ETA 1:40 ")
    assert LOSS in line
    assert RATE in line
    assert TERMS in line


def test_a_count_is_progress(capsys, monkeypatch):
    monkeypatch.setattr("realnvp.utils.progress.LINE_EVERY", 0.0)
    Bar("scoring").count(3, 4)
    assert capsys.readouterr().err.startswith("scoring  75% ETA")


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


class Cell:
    """A notebook's cell: what it has shown, the newest last."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, data, raw, display_id):
        assert raw
        assert display_id
        self.shown.append(data)
        return SimpleNamespace(update=lambda data, raw: self.shown.append(data))


@pytest.fixture
def cell(monkeypatch) -> Cell:
    """Let IPython be there, with a kernel."""
    cell = Cell()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    display = SimpleNamespace(display=cell.display)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return cell


def test_a_notebook_shows_a_bar_in_its_cell_and_takes_it_away(cell, monkeypatch, capsys):
    monkeypatch.setattr("realnvp.utils.progress.REDRAW_EVERY", 0.0)
    with Bar("training") as bar:
        bar._start -= 100
        bar.update(0.25, "<1 nats")
        bar.say("a line")
        bar.update(0.5, LOSS)
    first, second, last = (data["text/html"] for data in cell.shown)
    assert '<progress max="1" value="0.250"' in first
    assert "&lt;1 nats" in first
    assert "50% ETA 1:40 0.428 nats" in second
    assert last == ""
    assert capsys.readouterr() == ("a line\n", ""), "what is on stderr looks like an error"


def test_a_notebook_is_not_drowned_in_messages(cell):
    with Bar("training") as bar:
        for i in range(1000):
            bar.update(i / 1000)
    assert len(cell.shown) < 50


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch):
    shell = SimpleNamespace(get_ipython=object)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert notebook_display() is None
