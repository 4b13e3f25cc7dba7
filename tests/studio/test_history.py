"""The tab of runs, driven in a browser."""

from __future__ import annotations


def test_runs_are_compared(page):
    page.tab("Runs")
    first = page.draw("#runs-go", "#runs-curves")
    page.text("#runs-table", "training.steps", "KL(true || model)")
    page.picture("#runs-samples")
    page.click("#runs-by label:nth-of-type(2) input")
    page.picture("#runs-curves", not_=first)


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
