"""Pictures of the studio for its page, and how long it takes: tools/screenshots.py [RUNS [TAB ...]]

Starts ``realnvp studio`` as a user does, with a folder of runs to show, draws the first pictures,
prints the seconds, and writes ``docs/pictures/studio-*.png``, of some tabs or of all. A run of the
folder that is called ``table`` is shown in the tab of tables. It needs Chromium and its driver.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.browser import Page
from realnvp import load_data, recipe

OUT = Path(__file__).parents[1] / "docs" / "pictures"

MOST = 150_000
"""Bytes of a picture."""


def shoot(page: Page, name: str) -> None:
    """Write a picture of the whole page, in few colors."""
    height = page.driver.execute_script("return document.querySelector('main').scrollHeight + 30")
    clip = {"x": 0, "y": 0, "width": 1000, "height": height, "scale": 1}
    options = {"captureBeyondViewport": True, "clip": clip}
    shot = page.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
    path = OUT / f"studio-{name}.png"
    path.write_bytes(base64.b64decode(shot))
    with Image.open(path) as image:
        whole = image.convert("RGB")
    for colors in (128, 64, 32):
        whole.quantize(colors, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < MOST:
            break
    print(f"{path}  {path.stat().st_size / 1e3:.0f} kB", flush=True)


def timed(what: str, start: float) -> None:
    """Print the seconds since the start."""
    print(f"{what}: {time.monotonic() - start:.1f} s", flush=True)


def dark(page: Page, on: bool) -> None:
    """Show the page as somebody sees it who prefers dark colors, or does not."""
    value = "dark" if on else "light"
    features = {"features": [{"name": "prefers-color-scheme", "value": value}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    page.open()


def sample(page: Page, folder: Path) -> None:
    """Draw 64 digits, after those that the page has drawn first."""
    page.type("#sample-seed", 1)
    page.type("#sample-n", 64)  # last: what comes after the seed opens when it is reached
    start = time.monotonic()
    page.draw("#sample-go", "#sample-grid")
    timed("64 samples of mnist", start)


def walk(page: Page, folder: Path) -> None:
    """Walk between two digits."""
    page.choose_model("mnist")
    page.tab("Walk")
    page.draw("#walk-go", "#walk-film")
    page.type("#walk-at", 12)
    page.picture("#walk-frame")


def scales(page: Page, folder: Path) -> None:
    """Draw the fine scale of a digit again."""
    page.choose_model("mnist")
    page.tab("Scales")
    page.type("#scale-1", 1)
    page.draw("#scales-go", "#scales-grid")


def score(page: Page, folder: Path) -> None:
    """Score noise and two held-out digits."""
    page.choose_model("digits")
    page.tab("Score")
    files = [folder / name for name in ("noise.png", "digit-0.png", "digit-1.png")]
    Image.effect_noise((8, 8), 120).save(files[0])
    images = load_data(recipe("digits").data).test.x
    for image, path in zip(images, files[1:], strict=False):
        Image.fromarray((image[0] * 15.9375).byte().numpy()).save(path)
    page.upload("#score-files", *files)
    page.draw("#score-go", "#score-heat")


def plane(page: Page, folder: Path) -> None:
    """Draw the moons."""
    page.choose_model("moons")
    page.tab("Plane")
    page.picture("#plane-whole")


def plane_dark(page: Page, folder: Path) -> None:
    """Draw the moons at night."""
    dark(page, True)
    plane(page, folder)


def score_dark(page: Page, folder: Path) -> None:
    """Score noise at night."""
    dark(page, True)
    page.choose_model("mnist")
    page.tab("Score")
    page.draw("#score-strange", "#score-heat")


def tables(page: Page, folder: Path) -> None:
    """Draw rows, and one column given the other."""
    page.choose_model("runs/table" if (runs_folder() / "table").is_dir() else "moons")
    page.tab("Tables")
    page.draw("#table-go", "#table-marginals")
    page.draw("#table-ask-go", "#table-answer")


def runs(page: Page, folder: Path) -> None:
    """Compare the newest runs of one unit."""
    page.tab("Runs")
    page.picture("#runs-curves")
    page.picture("#runs-samples")


def models(page: Page, folder: Path) -> None:
    """Show the gallery."""
    page.tab("Models")

    def all_of_them() -> bool:
        pictures = page.driver.find_elements("css selector", "#models-pictures img")
        return len(pictures) > 10 and all(p.get_property("naturalWidth") for p in pictures)

    page.until(all_of_them)


TABS: tuple[Callable[[Page, Path], None], ...] = (
    sample, walk, scales, score, plane, tables, runs, models, plane_dark, score_dark,
)  # fmt: skip


def runs_folder() -> Path:
    """Return the folder of runs to show."""
    return Path(sys.argv[1] if len(sys.argv) > 1 else "runs")


def main() -> None:
    """Start the studio, and visit its tabs."""
    studio = ["studio", "--no-browser", "--runs", str(runs_folder())]
    command = [sys.executable, "-m", "realnvp", *studio]
    with tempfile.TemporaryDirectory() as temporary:
        start = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            timed("served after", start)
            page = Page(address, Path(temporary), width=1000)
            page.picture("#sample-grid")
            timed("the first picture after", start)
            try:
                for tab in (t for t in TABS if t.__name__ in (sys.argv[2:] or t.__name__)):
                    tab(page, Path(temporary))
                    shoot(page, tab.__name__.replace("_", "-"))
            finally:
                page.driver.quit()
                server.terminate()


if __name__ == "__main__":
    main()
