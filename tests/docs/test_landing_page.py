"""What a visitor sees first: the landing page's code and numbers, README's code, the results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import gallery
import results_page
from realnvp import RealNVPDensity

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
LANDING = (ROOT / "docs" / "index.md").read_text("utf-8")


def numbers(page: str, row: str) -> list[str]:
    """Return the cells of the row of a page's first table that begins with a word."""
    return next(cells for cells in results_page.tables(page)[0] if cells[0] == row)


def test_the_page_of_results_is_current():
    text = results_page.PAGE.read_text("utf-8")
    assert results_page.page(text) == text, "run make results"
    assert len(re.findall("<!-- table", text)) == len(results_page._TABLE.findall(text)) >= 10


def test_the_three_numbers_are_measured():
    shown = re.findall(r"^\*\*(.+?)\*\*$", LANDING, flags=re.M)
    cifar = numbers("shipped", "CIFAR-10")
    assert shown[0] == f"{float(re.findall(r'[0-9.]+', cifar[3])[0]):.2f} bits/dim"
    assert f"The paper, on the test set: {cifar[2]}" in LANDING
    kl, _, seconds = re.findall(r"[0-9.]+", numbers("toy", "moons")[1])
    assert shown[1] == f"{float(kl):.3f} nats"
    assert f"after {seconds} seconds" in LANDING
    _, *detectors = results_page.tables("outliers")[0]
    best = max(detectors, key=lambda row: float(row[1]))
    assert (shown[2], best[0]) == (f"1st of {len(detectors)}", "RealNVPOutlierDetector")
    assert f"{float(best[1]):.3f}, over 28 tables" in LANDING
    assert cifar[3].strip("*") in README


@pytest.fixture
def briefly(monkeypatch):
    """Train densities for a few steps."""
    fit = RealNVPDensity.fit
    brief = {"max_steps": 10, "components": 2}
    monkeypatch.setattr(
        RealNVPDensity, "fit", lambda self, X, **given: fit(self.set_params(**brief), X, **given)
    )


@pytest.mark.filterwarnings("ignore:.*dequantized:UserWarning")
@pytest.mark.parametrize("name", sorted(gallery.blocks()))
def test_the_code_of_the_gallery_runs(name, briefly):
    names = gallery.run(name)
    assert {"mnist": "threes", "outliers": "p", "posterior": "draws", "table": "synthetic"}.get(
        name, "x"
    ) in names


@pytest.mark.filterwarnings("ignore:.*dequantized:UserWarning")
def test_the_code_of_the_readme_runs(briefly):
    names: dict = {}
    for code in re.findall(r"^```python\n(.*?)^```$", README, flags=re.M | re.S):
        exec(compile(code, "README.md", "exec"), names)
    assert torch.equal(names["flow"].decode(names["z"]), names["images"])


def test_the_readme_is_short_and_names_the_first_commands():
    assert len(README.splitlines()) <= 150
    for command in (
        "pip install .",
        "make demo",
        "make test",
        "realnvp sample mnist",
        "realnvp train moons",
    ):
        assert command in README
