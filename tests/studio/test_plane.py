"""The tab of models of two columns, driven in a browser."""

from __future__ import annotations

import re

import pytest
import torch

from realnvp import load
from realnvp.data.toy import TOY


@pytest.fixture
def moons(page):
    page.choose_model("moons")
    page.tab("Plane")
    page.picture("#plane-whole")  # it is drawn when the tab is opened
    return page


def numbers(page) -> list[float]:
    """Return the point, its latent and its log-density, as they are shown."""
    text = page.find("#plane-where").text
    return [float(v) for v in re.findall(r"-?\d+\.\d+", text)[:5]]


def dots(page) -> dict[str, list[float]]:
    """Return where the dots are: in the data, and in the latents."""
    found = {}
    for pad, bounds in (("data", TOY["moons"].bounds), ("latent", (-4.0, 4.0, -4.0, 4.0))):
        left, right, bottom, top = bounds
        dot = page.find(f"#plane-{pad} .dot")
        across, up = (float(dot.get_attribute(name)) / 100 for name in ("cx", "cy"))
        found[pad] = [left + (right - left) * across, top - (top - bottom) * up]
    return found


def wait_for_the_others(page) -> list[float]:
    """Return the numbers once both dots are where they say, however many moves were on the way."""

    def arrived() -> list[float] | None:
        shown, at = numbers(page), dots(page)
        both = [*at["data"], *at["latent"]]
        return shown if both == pytest.approx(shown[:4], abs=2e-3) else None

    return page.until(arrived, "the point does not arrive")


@pytest.mark.parametrize("pad", ["data", "latent"])
def test_a_point_is_dragged_and_the_other_follows(moons, pad):
    from selenium.webdriver import ActionChains

    target = moons.find(f"#plane-{pad} svg")
    moons.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", target)
    before = wait_for_the_others(moons)
    ActionChains(moons.driver).click_and_hold(target).move_by_offset(20, 30).release().perform()
    x1, x2, z1, z2, log_p = wait_for_the_others(moons)
    assert before != [x1, x2, z1, z2, log_p]
    flow, x = load("moons"), torch.tensor([[x1, x2]])
    assert flow.encode(x)[0].tolist() == pytest.approx([z1, z2], abs=0.05)
    assert flow.log_prob(x).item() == pytest.approx(log_p, abs=0.1)


def test_arrow_keys_move_the_point(moons):
    from selenium.webdriver.common.keys import Keys

    before = wait_for_the_others(moons)
    pad = moons.driver.execute_script(
        "return document.querySelector('#plane-data svg').closest('[tabindex]')"
    )
    pad.send_keys(Keys.ARROW_RIGHT)
    after = wait_for_the_others(moons)
    assert after[0] > before[0]
    assert after[1] == pytest.approx(before[1], abs=2e-3)
