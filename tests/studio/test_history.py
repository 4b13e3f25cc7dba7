"""The tab of runs, driven in a browser."""

from __future__ import annotations

import pytest

pytest.importorskip("selenium")
from selenium.webdriver.common.keys import Keys


def test_runs_are_compared(page):
    page.tab("Runs")
    page.picture("#runs-curves")  # of the newest run, and of others of its data, which has none
    page.text("#runs-note", "realnvp report")
    for name in "ab":
        box = f"//*[@id='runs-chosen']//label[normalize-space()='{name}']//input"
        page.driver.execute_script("arguments[0].click()", page.driver.find_element("xpath", box))
    first = page.draw("#runs-go", "#runs-curves")
    page.text("#runs-table", "KL(true || model)")
    page.text("#runs-settings", "training.steps", "data.source")
    page.text("#runs-note", "realnvp compare")
    page.picture("#runs-samples")
    page.click("#runs-by label:nth-of-type(2) input")
    page.picture("#runs-curves", not_=first)


def test_arrow_keys_move_through_time(page):
    page.tab("Runs")
    page.text("#runs-samples", "mixed, step 5")
    page.tab_to("e.closest('#runs-at') && e.type === 'range'")
    page.key(Keys.HOME)
    page.text("#runs-samples", "mixed, step 0")


def test_no_run_gets_one_line(page):
    page.tab("Runs")
    boxes = "#runs-chosen input[type=checkbox]"
    chosen = [b for b in page.driver.find_elements("css selector", boxes) if b.is_selected()]
    for box in chosen:
        page.driver.execute_script("arguments[0].click()", box)
    page.click("#runs-go")
    assert "choose a run" in page.error()
    for box in chosen:
        page.driver.execute_script("arguments[0].click()", box)
