"""Fixtures of all tests."""

from __future__ import annotations

import pytest
import torch

from helpers.bijections import BIJECTIONS, Case

# Models here are so small that a second thread costs more than it brings.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """A test's random weights must not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(params=BIJECTIONS)
def case(request: pytest.FixtureRequest) -> Case:
    return BIJECTIONS[request.param]


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the lines that a busy machine would print: there is one every ten seconds."""
    monkeypatch.setattr("realnvp.utils.progress.LINE_EVERY", float("inf"))
