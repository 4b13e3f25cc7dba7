"""The tab of models of two columns, driven in a browser."""

from __future__ import annotations

import re

import pytest
import torch

from realnvp import load


@pytest.fixture
def moons(page):
    page.choose_model("moons")
    page.tab("Plane")
    if "log-density" not in page.find("body").text:  # drawn by an earlier test
        page.click("#plane-go")
        page.picture("#plane-whole")
        page.until(lambda: "log-density" in page.find("#plane-where").text)
    return page


def numbers(page) -> list[float]:
    """Return the point, its latent and its log-density, as they are shown."""
    text = page.find("#plane-where").text
    return [float(v) for v in re.findall(r"-?\d+\.\d+", text)[:5]]


def dots(page, pad: str) -> tuple[str, str]:
    dot = page.find(f"#plane-{pad} .dot")
    return dot.get_attribute("cx"), dot.get_attribute("cy")


@pytest.mark.parametrize(("pad", "other"), [("data", "latent"), ("latent", "data")])
def test_a_point_is_dragged_and_the_other_follows(moons, pad, other):
    from selenium.webdriver import ActionChains

    target = moons.find(f"#plane-{pad} svg")
    moons.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", target)
    before, there = numbers(moons), dots(moons, other)
    ActionChains(moons.driver).click_and_hold(target).move_by_offset(20, 30).release().perform()
    moons.until(lambda: numbers(moons) != before and dots(moons, other) != there)
    x1, x2, z1, z2, log_p = numbers(moons)
    flow, x = load("moons"), torch.tensor([[x1, x2]])
    assert flow.encode(x)[0].tolist() == pytest.approx([z1, z2], abs=0.05)
    assert flow.log_prob(x).item() == pytest.approx(log_p, abs=0.1)


def test_arrow_keys_move_the_point(moons):
    from selenium.webdriver.common.keys import Keys

    before = numbers(moons)
    pad = moons.driver.execute_script(
        "return document.querySelector('#plane-data svg').closest('[tabindex]')"
    )
    pad.send_keys(Keys.ARROW_RIGHT)
    moons.until(lambda: numbers(moons)[0] > before[0])
    assert numbers(moons)[1] == pytest.approx(before[1], abs=2e-3)
