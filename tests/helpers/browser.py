"""A page in headless Chromium, and what a visitor does there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

WAIT = 240
"""Seconds that a page may take on a machine that does much else."""


class Page:
    """A page in headless Chromium: what a visitor does, by the ids of the page's elements.

    Args:
        address: address of the page.
        folder: folder of downloads and of Chromium's own files.
        width: width of the window.
    """

    def __init__(self, address: str, folder: Path, width: int = 1200) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = chromium()
        for flag in (
            "headless", "no-sandbox", "disable-gpu", "disable-background-networking",
            "disable-component-update", "disable-sync", "no-first-run",
            f"user-data-dir={folder / 'profile'}", f"window-size={width},1000",
        ):  # fmt: skip
            options.add_argument(f"--{flag}")
        self.downloads = folder / "downloads"
        preferences = {
            "download.default_directory": str(self.downloads),
            # More than one download without a question.
            "profile.default_content_setting_values.automatic_downloads": 1,
        }
        options.add_experimental_option("prefs", preferences)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = shutil.which("chromedriver") or ""
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        if width < 500:  # a window is never so narrow, an emulated phone is
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.set_page_load_timeout(WAIT)
        self.address = address
        self.open()

    def open(self) -> None:
        """Open the page again, and wait until it has drawn samples of its first model."""
        self.driver.get(self.address)
        self.find("#sample-go")
        self.until(lambda: ": " in self.find("#facts").text)
        self.text("#sample-note", "realnvp sample")

    def find(self, selector: str, visible: bool = True) -> Any:
        """Return the element once it is there."""
        from selenium.webdriver.support.ui import WebDriverWait

        def found(driver: Any) -> Any:
            elements = driver.find_elements("css selector", selector)
            shown = [e for e in elements if e.is_displayed() or not visible]
            return shown[0] if shown else None

        return WebDriverWait(self.driver, WAIT).until(found, f"there is no {selector}")

    def click(self, selector: str) -> None:
        """Click an element."""
        element = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        self.driver.execute_script("arguments[0].click()", element)

    def tab(self, name: str) -> None:
        """Open a tab, which may be in the menu of those that do not fit."""

        def labels(driver: Any) -> Any:
            buttons = driver.find_elements("css selector", "button[role=tab]")
            return [b for b in buttons if b.get_attribute("textContent").strip() == name]

        from selenium.webdriver.support.ui import WebDriverWait

        (button, *_) = WebDriverWait(self.driver, WAIT).until(labels, f"there is no tab {name}")
        self.driver.execute_script("arguments[0].click()", button)

    def choose_model(self, name: str) -> None:
        """Choose a model with the keyboard, and wait until samples of it are drawn."""
        self.tab("Sample")
        if self.find("#model input").get_attribute("value") != name:
            self.choose("#model", name)
        self.until(lambda: self.find("#facts").text.startswith(f"{name}: "))
        self.text("#sample-note", f"realnvp sample {name.replace('runs/', '')}"[:15])

    def choose(self, selector: str, name: str) -> None:
        """Type a choice of a list, and press Enter."""
        from selenium.webdriver.common.keys import Keys

        field = self.find(f"{selector} input")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", field)
        field.click()
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(name)
        # Enter takes the choice that is active, which follows the typing a little later.
        self.find(f"{selector} li.active[aria-label='{name}']")
        field.send_keys(Keys.ENTER)
        self.until(lambda: self.find(f"{selector} input").get_attribute("value") == name)

    def type(self, selector: str, value: object) -> None:
        """Replace the text of a field."""
        from selenium.webdriver.common.keys import Keys

        field = self.find(f"{selector} input")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(str(value), Keys.TAB)

    def key(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, script: str) -> None:
        """Press the tabulator, from the top of the page, until this is true of the element ``e``.

        Args:
            script: expression in JavaScript.
        """
        from selenium.webdriver.common.keys import Keys

        self.driver.execute_script("document.querySelector('#model input').focus()")
        for _ in range(60):
            self.key(Keys.TAB)
            if self.driver.execute_script(f"const e = document.activeElement; return {script}"):
                return
        raise AssertionError(f"the keyboard does not reach {script}")

    def upload(self, selector: str, *paths: Path) -> None:
        """Upload files, and wait until their names are there."""
        field = self.find(f"{selector} input[type=file]", visible=False)
        field.send_keys("\n".join(map(str, paths)))
        stem = paths[0].stem
        self.until(lambda: stem in self.find(selector).get_attribute("textContent"))

    def source(self, selector: str) -> str:
        """Return the address of the picture that is shown now, "" if there is none."""
        shown = self.driver.find_elements("css selector", f"{selector} img")
        return shown[0].get_attribute("src") if shown else ""

    def draw(self, button: str, selector: str) -> str:
        """Click a button, and return the address of the picture that it draws.

        It has to be another picture than the one before, whose address would be the same.
        """
        before = self.source(selector)
        self.click(button)
        return self.picture(selector, not_=before)

    def text(self, selector: str, *parts: str) -> str:
        """Return the text of an element once all of these are in it."""

        def whole() -> str | None:
            text = self.find(selector).get_attribute("textContent")
            return text if all(part in text for part in parts) else None

        return self.until(whole, f"{selector} does not say {parts}")

    def picture(self, selector: str, not_: str = "") -> str:
        """Return the address of a picture once it is loaded and another one than before."""

        def ready() -> str | None:
            images = self.driver.find_elements("css selector", f"{selector} img")
            for image in images:
                source = image.get_attribute("src")
                if source != not_ and image.get_property("naturalWidth"):
                    return source
            return None

        return self.until(ready, f"no new picture in {selector}")

    def until(self, condition: Any, otherwise: str = "") -> Any:
        """Return what the condition returns once it is true."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        ignored = [StaleElementReferenceException]
        return WebDriverWait(self.driver, WAIT, ignored_exceptions=ignored).until(
            lambda _: condition(), otherwise
        )

    def error(self) -> str:
        """Return the message that is shown, which is below its title, and close it."""
        toast = self.until(
            lambda: next(iter(self.driver.find_elements("css selector", ".toast-body")), None)
        )
        text = self.until(lambda: toast.text).splitlines()[-1]
        self.driver.execute_script(
            "document.querySelectorAll('.toast-close').forEach(b => b.click())"
        )
        return text

    def download(self, selector: str) -> Path:
        """Click a button that downloads, and return the file."""
        before = set(self.downloads.glob("*"))
        self.click(selector)

        def arrived() -> Path | None:
            new = set(self.downloads.glob("*")) - before
            # Chromium renames what it has begun, which would then pass for the next file, too.
            if any(p.suffix in (".crdownload", ".tmp") or p.name.startswith(".") for p in new):
                return None
            return next((p for p in new if p.stat().st_size), None)  # begun, and written

        return self.until(arrived)

    def complaints(self) -> list[str]:
        """Return what the browser's console says is wrong."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]

    def calls_elsewhere(self, address: str) -> set[str]:
        """Return the addresses outside that the page has asked for."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.add(message["params"]["request"]["url"])
        return {u for u in found if not u.startswith((address, "data:", "blob:", "chrome"))}


def chromium() -> str | None:
    """Return Chromium, if it is installed with its driver."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    return found if shutil.which("chromedriver") else None
