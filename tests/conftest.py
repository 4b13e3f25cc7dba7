"""Fixtures of all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.bijections import BIJECTIONS, Case

# Models here are so small that a second thread costs more than it brings.
torch.set_num_threads(1)


TESTS = Path(__file__).parent
SLOW = {
    "system", "studio", "docs", "codec", "posterior", "interop/test_export.py",
    "interop/test_hub.py", "cli/test_bad_input.py", "cli/test_compress.py",
    "cli/test_decompress.py", "cli/test_eval.py", "cli/test_export.py", "cli/test_predict.py",
    "cli/test_sample.py", "cli/test_score.py", "cli/test_train.py",
    "columns/fitting/test_categories.py", "estimator/test_density.py",
    "estimator/test_outliers.py", "reports/test_report.py", "tables/test_fit.py",
    "tables/test_inference.py", "tables/test_scorer.py", "training/test_rollback.py",
    "training/test_train.py", "training/test_trainer.py", "utils/test_allocation.py",
    "test_diagnostics.py", "test_energy.py", "test_pretrained.py",
}  # fmt: skip
"""Folders and files that start processes, train to the end or take more than five seconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `make check` leaves out; the doctests of the package are among them."""
    for item in items:
        inside = item.path.is_relative_to(TESTS)
        path = item.path.relative_to(TESTS) if inside else None
        if path is None or not SLOW.isdisjoint([path.parts[0], path.as_posix()]):
            item.add_marker("slow")


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
