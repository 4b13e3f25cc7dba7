"""The playground: its flow beside the library's, and the page in a browser."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import playground
from realnvp.bijections import (
    AffineCoupling,
    Chain,
    ChannelMask,
    LogisticMixtureCoupling,
    SplineCoupling,
)
from realnvp.data.toy import TOY
from realnvp.flow import Flow

CHECKS = Path(__file__).with_name("playground_checks.mjs")
KINDS = ("affine", "mixture", "spline")


def node(*arguments: str, given: object = None) -> Any:
    """Run one of the checks, and return what it prints."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    command = [program, str(CHECKS), *arguments]
    done = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "check", ["identity", "gradient", "inverse", "jacobian", "integral", "training", "pictures"]
)
def test_the_flow_is_right(check, kind):
    node(check, kind)


@pytest.mark.parametrize("check", ["sets", "address"])
def test_sets_and_addresses_are_right(check):
    node(check)


class Conditioner(nn.Sequential):
    """The playground's network, with random weights in all layers."""

    def __init__(self, outputs: int, hidden: int = 7) -> None:
        sizes = (1, hidden, hidden, outputs)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        super().__init__(layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2])

    def forward(self, passive: Tensor, condition: Tensor | None) -> Tensor:
        return super().forward(passive)


def couplings(kind: str, n: int) -> list[nn.Module]:
    """Return couplings of the library, of which each second one has the other mask."""
    classes = {
        "affine": (AffineCoupling, {}),
        "mixture": (LogisticMixtureCoupling, {"components": 5}),
        "spline": (SplineCoupling, {"components": 8, "bound": 5.0}),
    }
    cls, options = classes[kind]
    outputs = cls.num_params(**options)
    return [
        cls(ChannelMask(flip=bool(k % 2)), Conditioner(outputs), 1, **options) for k in range(n)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_log_densities_are_the_librarys(kind):
    torch.manual_seed(0)
    layers = [layer.double() for layer in couplings(kind, 3)]
    factors = ("scale", "mean_factor", "scale_factor")
    weights = []
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.6)
        parameters = [*layer.conditioner.parameters()]
        parameters += [getattr(layer, name) for name in factors if hasattr(layer, name)]
        weights += [value for p in parameters for value in p.detach().flatten().tolist()]
    points = 2 * torch.randn(50, 2, dtype=torch.float64)
    flow = Flow(Chain(*layers), (2,))
    given = {
        "kind": kind,
        "couplings": 3,
        "hidden": 7,
        "weights": weights,
        "points": points.flatten().tolist(),
    }
    printed = node("parity", given=given)
    found = {name: torch.tensor(x, dtype=torch.float64) for name, x in printed.items()}
    with torch.no_grad():
        z, log_det = flow.bijection(points)
        x, _ = flow.bijection.inverse(points)
        expected = {"z": z.flatten(), "logDet": log_det, "x": x.flatten()}
        expected["logProb"] = flow.log_prob(points)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-9, atol=1e-9)


def test_true_densities_are_the_librarys():
    rng = np.random.default_rng(0)
    points = {}
    for name, toy in TOY.items():
        low, high = np.array(toy.bounds).reshape(2, 2).T
        points[name] = np.concatenate([toy.sample(50, seed=1), rng.uniform(low, high, (50, 2))])
    found = node("densities", given={name: x.tolist() for name, x in points.items()})
    assert set(found) == set(TOY)
    for name, x in points.items():
        values = np.array([-np.inf if v is None else v for v in found[name]["values"]])
        inside = TOY[name].log_density(x) > -10
        assert inside.sum() >= 50
        np.testing.assert_allclose(values[inside], TOY[name].log_density(x)[inside], atol=1e-3)


def test_the_modules_become_one_script():
    script = playground.script()
    assert set(playground.modules()) == {path.stem for path in playground.FOLDER.glob("*.mjs")}
    assert "\nimport " not in script
    assert "\nexport " not in script


@pytest.fixture
def page(tmp_path):
    """Return the page in headless Chromium, opened from a folder."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("Chromium is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in ("headless", "no-sandbox", "disable-gpu", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    markdown = (playground.FOLDER / "index.md").read_text("utf-8")
    (tmp_path / "index.html").write_text(f"<!doctype html><main>{markdown}</main>", "utf-8")
    (tmp_path / "playground.js").write_text(playground.script(), "utf-8")
    shutil.copy(playground.FOLDER / "playground.css", tmp_path)
    yield driver, (tmp_path / "index.html").as_uri()
    driver.quit()


def test_the_page_trains_and_its_address_leads_back(page):
    from selenium.webdriver.support.ui import WebDriverWait

    driver, address = page
    wait = WebDriverWait(driver, 240)

    def text(name: str) -> str:
        return driver.find_element("id", name).text

    driver.get(f"{address}#set=circles&kind=spline&couplings=3&steps=20")
    wait.until(lambda _: int(text("steps")) >= 20)
    before = float(text("loss"))
    assert driver.find_element("css selector", "input[value=spline]").is_selected()
    driver.find_element("id", "train").click()
    wait.until(lambda _: int(text("steps")) >= 120)
    driver.find_element("id", "train").click()
    assert float(text("loss")) < before
    wait.until(lambda _: f"steps={text('steps')}&" in driver.current_url)
    link, steps = driver.current_url, text("steps")
    driver.get("about:blank")
    driver.get(link)
    wait.until(lambda _: text("steps") == steps)
    driver.find_element("css selector", "input[value=affine]").click()
    wait.until(lambda _: "kind=affine" in driver.current_url)
    assert [each for each in driver.get_log("browser") if each["level"] == "SEVERE"] == []
