"""The page as a whole: its gallery, a narrow window, the keyboard, and whom it calls."""

from __future__ import annotations

import re
import shutil

import pytest

from helpers.browser import Page

pytest.importorskip("selenium")
from selenium.webdriver.common.keys import Keys


def test_the_gallery_lists_models_and_runs(page):
    page.tab("Models")
    page.text("#models-table", "mnist", "digits", "moons", "runs/a", "runs/b")


def test_the_name_that_is_typed_in_full_is_chosen(page):
    for name, size in (("mnist", "1x28x28, 256"), ("digits", "1x8x8, 17")):
        page.choose_model(name)
        page.text("#facts", size)


def test_the_gallery_shows_pictures_that_choose_a_model(page):
    page.tab("Models")
    page.until(lambda: len(page.driver.find_elements("css selector", "#models-pictures img")) > 10)
    caption = "//*[@id='models-pictures']//button[contains(., 'pinwheel')]"
    page.driver.execute_script("arguments[0].click()", page.driver.find_element("xpath", caption))
    page.until(lambda: page.find("#model input").get_attribute("value") == "pinwheel")
    page.text("#facts", "2 columns")


def test_pictures_and_buttons_can_be_read(page):
    page.choose_model("digits")
    page.tab("Models")
    page.until(lambda: len(page.driver.find_elements("css selector", "#models-pictures img")) > 10)
    nameless = """return [...document.querySelectorAll('img')].filter(
        i => !i.alt && !i.closest('button')?.innerText.trim()).map(i => i.outerHTML)"""
    page.until(lambda: page.driver.execute_script(nameless) == [])
    label = "#models-pictures .thumbnail-item[aria-label]"
    assert page.driver.find_elements("css selector", label) == []
    page.tab("Sample")
    button = page.find("#sample-go")
    text, paper = (
        luminance(button.value_of_css_property(p)) for p in ("color", "background-color")
    )
    assert (text + 0.05) / (paper + 0.05) >= 4.5


def luminance(color: str) -> float:
    """Return the relative luminance of a color, as WCAG defines it."""
    parts = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_tabs_are_those_of_the_models_kind(page):
    def tabs() -> set[str]:
        buttons = page.driver.find_elements(
            "css selector", ".tab-container:not(.visually-hidden) button[role=tab]"
        )
        return {b.text.strip() for b in buttons if b.is_displayed() and b.is_enabled()}

    page.choose_model("moons")
    page.until(lambda: {"Plane", "Tables"} < tabs() and "Walk" not in tabs())
    page.tab("Tables")  # its list of columns, which images have none of
    page.choose_model("digits")
    page.until(lambda: {"Walk", "Scales"} < tabs() and "Plane" not in tabs())
    assert page.complaints() == []


def test_it_fits_a_window_of_400_pixels(page, address, tmp_path):
    narrow = Page(address, tmp_path, width=400)
    try:
        widest = narrow.driver.execute_script("return document.documentElement.scrollWidth")
        assert widest <= 400
        narrow.type("#sample-seed", 5)  # another picture than that of the beginning
        narrow.draw("#sample-go", "#sample-grid")
        image = narrow.find("#sample-grid img")
        assert image.size["width"] <= 400
        assert narrow.complaints() == []
    finally:
        narrow.driver.quit()


@pytest.mark.parametrize(
    ("model", "tab", "button", "picture"),
    [
        ("digits", "Sample", "sample-go", "#sample-grid"),
        ("digits", "Walk", "walk-go", "#walk-film"),
        ("digits", "Scales", "scales-go", "#scales-grid"),
        ("digits", "Score", "score-strange", "#score-heat"),
        ("moons", "Plane", "plane-go", "#plane-whole"),
        ("moons", "Tables", "table-go", "#table-marginals"),
        ("moons", "Tables", "table-ask-go", "#table-answer"),
        ("moons", "Runs", "runs-go", "#runs-curves"),
    ],
)
def test_the_keyboard_is_enough(page, model, tab, button, picture):
    page.choose_model(model)
    if tab == "Sample":  # what is drawn is another picture than the one before
        page.tab_to("e.closest('#sample-seed')")
        page.key(Keys.CONTROL, "a", Keys.NULL, "42")
    page.tab_to(f"e.role === 'tab' && e.textContent.trim() === '{tab}'")
    page.key(Keys.ENTER)
    page.find(f"#{button}")
    before = page.source(picture) if tab == "Sample" else ""
    page.tab_to(f"e.id === '{button}'")
    page.key(Keys.ENTER)
    page.picture(picture, not_=before)


def test_a_model_that_cannot_be_opened_shows_nothing_of_the_one_before(page, library):
    broken = library.runs / "broken"
    shutil.copytree(library.runs / "a", broken)
    shutil.rmtree(broken / "samples")
    (broken / "model" / "model.safetensors").write_bytes(b"cut")
    try:
        page.choose_model("digits")
        page.choose("#model", "runs/broken")
        page.text("#facts", "runs/broken cannot be opened: ", "it is cut off")
        page.text("#sample-note", "Press Sample")
        assert "it is cut off" in page.error()
        page.tab("Models")
        page.text("#models-pictures", "runs/a", "runs/b")
        assert "runs/broken" not in page.find("#models-pictures").text
    finally:
        shutil.rmtree(broken)
    page.open()  # without the row of a run that is gone


def test_the_page_is_in_the_middle_and_its_bold_letters_are_there(page):
    left, right, weights = page.driver.execute_script(
        "const box = document.querySelector('main').getBoundingClientRect();"
        "const room = document.documentElement.clientWidth;"
        "return [box.left, room - box.right, [...document.fonts].map(font => font.weight)]"
    )
    assert left == pytest.approx(right, abs=1)
    assert "600" not in weights, "Gradio's files of that weight lack most letters"


def test_arrow_keys_choose_a_model(page):
    page.choose_model("digits")
    page.tab("Models")
    page.tab_to("e.closest('#models-table') && e.role === 'gridcell'")
    page.key(Keys.ARROW_DOWN, Keys.ENTER)
    page.until(lambda: page.find("#model input").get_attribute("value") != "digits")
    page.until(lambda: not page.find("#facts").text.startswith("digits"))


def test_the_browser_has_no_complaint_and_nobody_else_is_called(page, address):
    assert page.complaints() == []
    assert page.calls_elsewhere(address.rstrip("/")) == set()
