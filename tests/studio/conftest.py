"""A studio that is served, and a browser that drives it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from helpers.browser import Page, chromium
from realnvp import recipe, train
from realnvp.studio.models import Library

pytest.importorskip("gradio", reason="the studio is an extra")

NO_BROWSER = "chromium and chromium-driver are not installed"


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Library:
    """Return the models of the package, two small runs, and one of a table of every kind."""
    folder = tmp_path_factory.mktemp("runs")
    for name, steps in (("a", 3), ("b", 4)):
        chosen = recipe(
            "moons", model={"hidden": 8, "couplings": 2}, data={"points": 300},
            training={"steps": steps},
        )  # fmt: skip
        train(chosen, folder / name, quiet=True)
    rng = np.random.default_rng(0)
    color = rng.choice(["red", "blue"], 300)
    size = np.round(rng.normal(size=300) + 4 * (color == "red"), 1)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.rint(10 * size) + 100, unit="D")
    table = pd.DataFrame({"color": color, "size": size, "day": days})
    table.loc[::10, "size"] = np.nan
    table.to_csv(folder / "t.csv", index=False)
    chosen = recipe("table", data={"source": str(folder / "t.csv")}, training={"steps": 5})
    train(chosen, folder / "mixed", quiet=True)
    return Library(folder, "digits")


@pytest.fixture(scope="session")
def address(library) -> Iterator[str]:
    """Serve the studio of these models."""
    from realnvp.studio.server import serving

    with serving(library) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> None:
    """Skip what needs a browser where there is none."""
    pytest.importorskip("selenium")
    if chromium() is None:
        if os.environ.get("REALNVP_BROWSER") == "required":
            pytest.fail(NO_BROWSER)
        pytest.skip(NO_BROWSER)


def pytest_terminal_summary(terminalreporter) -> None:
    """Say in one line what a run without a browser has left out."""
    skipped = terminalreporter.stats.get("skipped", ())
    if count := sum(NO_BROWSER in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(f"{count} tests of the studio are skipped: {NO_BROWSER}")


@pytest.fixture(scope="session")
def page(browser, address, tmp_path_factory) -> Iterator[Page]:
    """Open the studio in a browser; the tests of a session use it one after the other."""
    opened = Page(address, tmp_path_factory.mktemp("browser"))
    yield opened
    complaints, elsewhere = opened.complaints(), opened.calls_elsewhere(address.rstrip("/"))
    opened.driver.quit()
    assert (complaints, elsewhere) == ([], set()), "the browser is content, and calls nobody else"
