"""The page as a whole: its gallery, a narrow window, the keyboard, and whom it calls."""

from __future__ import annotations

from helpers.browser import Page


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


def test_tabs_are_those_of_the_models_kind(page):
    def tabs() -> set[str]:
        buttons = page.driver.find_elements(
            "css selector", ".tab-container:not(.visually-hidden) button[role=tab]"
        )
        return {b.text.strip() for b in buttons if b.is_displayed() and b.is_enabled()}

    page.choose_model("moons")
    page.until(lambda: {"Plane", "Tables"} < tabs() and "Walk" not in tabs())
    page.choose_model("digits")
    page.until(lambda: {"Walk", "Scales"} < tabs() and "Plane" not in tabs())


def test_it_fits_a_window_of_400_pixels(page, address, tmp_path):
    narrow = Page(address, tmp_path, width=400)
    try:
        widest = narrow.driver.execute_script("return document.documentElement.scrollWidth")
        assert widest <= 400
        narrow.draw("#sample-go", "#sample-grid")
        image = narrow.find("#sample-grid img")
        assert image.size["width"] <= 400
        assert narrow.complaints() == []
    finally:
        narrow.driver.quit()


def test_the_keyboard_is_enough_to_sample(page):
    from selenium.webdriver.common.keys import Keys

    page.tab("Sample")
    before = page.source("#sample-grid")
    field = page.find("#sample-seed input")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("42")
    for _ in range(20):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        if page.driver.switch_to.active_element.get_attribute("id") == "sample-go":
            break
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.picture("#sample-grid", not_=before)


def test_the_browser_has_no_complaint_and_nobody_else_is_called(page, address):
    assert page.complaints() == []
    assert page.calls_elsewhere(address.rstrip("/")) == set()
