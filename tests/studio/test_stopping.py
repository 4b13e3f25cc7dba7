"""Work that ends in the middle of a pass, and a page where it does so in every tab."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

import pytest
import torch

from helpers.browser import WAIT
from realnvp import Flow, vector_flow
from realnvp.conditioners import Conditioner
from realnvp.studio.models import Library
from realnvp.studio.stopping import STOP, Cancelled, stoppable

X = torch.zeros(3, 2)


@pytest.mark.parametrize("work", [lambda f: f.log_prob(X), lambda f: f.sample(3)])
def test_a_pass_ends_at_its_next_network_and_others_go_on(work):
    flow = stoppable(vector_flow(2, couplings=4, hidden=8).eval())
    stop, asked = threading.Event(), []
    networks = [m for m in flow.modules() if isinstance(m, Conditioner)]

    def run() -> None:
        STOP.set(stop)
        work(flow)

    def count(*_: object) -> None:
        asked.append(1)
        if STOP.get() is stop and len(asked) == 2:
            stop.set()

    for network in networks:
        network.register_forward_hook(count)
    with pytest.raises(Cancelled):
        copy_context().run(run)
    assert len(asked) == 2
    work(flow)  # another context is not stopped
    assert len(asked) == 2 + len(networks)


def test_models_of_a_library_can_be_stopped(library):
    stop = threading.Event()
    stop.set()

    def score(name: str) -> None:
        flow = library.get(name)
        STOP.set(stop)
        x = torch.zeros(1, *flow.shape, dtype=torch.uint8 if flow.levels else flow.dtype)
        flow.log_prob(x)

    for name in ("digits", "mnist", "moons", "runs/mixed"):
        with pytest.raises(Cancelled):
            copy_context().run(score, name)


@contextmanager
def waiting(flow: Flow) -> Iterator[threading.Event]:
    """Let the first network of a flow wait until it is cancelled; yield what says that it does."""
    reached = threading.Event()
    first = next(m for m in flow.modules() if isinstance(m, Conditioner))

    def wait(*_: object) -> None:
        if (stop := STOP.get()) is not None:
            reached.set()
            stop.wait(WAIT)

    hook = first.register_forward_hook(wait)
    try:
        yield reached
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("model", "tab", "button"),
    [
        ("digits", "Sample", "sample"),
        ("digits", "Walk", "walk"),
        ("digits", "Scales", "scales"),
        ("digits", "Score", "score"),
        ("runs/a", "Plane", "plane"),
        ("moons", "Tables", "table"),
        ("moons", "Tables", "table-ask"),
    ],
)
def test_cancel_ends_what_a_tab_does(page, library: Library, model, tab, button):
    page.choose_model(model)
    begin = {"score": "#score-samples"}.get(button, f"#{button}-go")
    with waiting(library.get(model)) as reached:
        page.tab(tab)
        if tab != "Plane":  # which is drawn when it is opened
            page.click(begin)
        assert reached.wait(WAIT)
        page.click(f"#{button}-stop")
        assert page.error() == "cancelled"


def test_comparing_runs_ends_between_its_parts(page, monkeypatch):
    page.tab("Runs")
    page.picture("#runs-curves")  # of the newest run, by itself
    reached = threading.Event()

    def wait(*_: object, **__: object) -> None:
        reached.set()
        assert STOP.get().wait(WAIT)

    monkeypatch.setattr("realnvp.studio.history.plots.learning_curves", wait)
    page.click("#runs-go")
    assert reached.wait(WAIT)
    page.click("#runs-stop")
    assert page.error() == "cancelled"
