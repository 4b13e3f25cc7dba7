"""Pictures of the studio for its page, and how long it takes: tools/screenshots.py [RUNS [TAB ...]]

Starts ``realnvp studio`` as a user does, with a folder of runs to show, draws the first pictures,
prints the seconds, and writes ``docs/pictures/studio-*.png``, of some tabs or of all. It needs
Chromium and its driver.
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


def shoot(page: Page, name: str) -> None:
    """Write a picture of the whole page, in few colors."""
    height = page.driver.execute_script("return document.querySelector('main').scrollHeight + 30")
    clip = {"x": 0, "y": 0, "width": 1000, "height": height, "scale": 1}
    options = {"captureBeyondViewport": True, "clip": clip}
    shot = page.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
    path = OUT / f"studio-{name}.png"
    path.write_bytes(base64.b64decode(shot))
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path}  {path.stat().st_size / 1e3:.0f} kB", flush=True)


def timed(what: str, start: float) -> None:
    """Print the seconds since the start."""
    print(f"{what}: {time.monotonic() - start:.1f} s", flush=True)


def sample(page: Page, folder: Path) -> None:
    """Draw MNIST's samples once more, which the page has drawn first."""
    page.type("#sample-seed", 1)
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
    page.tab("Scales")
    page.type("#scale-0", 1)
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
    page.draw("#plane-go", "#plane-whole")


def tables(page: Page, folder: Path) -> None:
    """Draw rows, and one column given the other."""
    page.choose_model("moons")
    page.tab("Tables")
    page.draw("#table-go", "#table-marginals")
    page.draw("#table-ask", "#table-answer")


def runs(page: Page, folder: Path) -> None:
    """Compare the runs."""
    page.tab("Runs")
    page.draw("#runs-go", "#runs-curves")
    page.picture("#runs-samples")


def models(page: Page, folder: Path) -> None:
    """Show the gallery."""
    page.tab("Models")
    page.until(lambda: len(page.driver.find_elements("css selector", "#models-pictures img")) > 10)


TABS: tuple[Callable[[Page, Path], None], ...] = (
    sample, walk, scales, score, plane, tables, runs, models,
)  # fmt: skip


def main() -> None:
    """Start the studio, and visit its tabs."""
    runs_folder = sys.argv[1] if len(sys.argv) > 1 else "runs"
    command = [sys.executable, "-m", "realnvp", "studio", "--no-browser", "--runs", runs_folder]
    with tempfile.TemporaryDirectory() as temporary:
        start = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            timed("served after", start)
            page = Page(address, Path(temporary), width=1000)
            timed("the page after", start)
            page.draw("#sample-go", "#sample-grid")
            timed("the first picture after", start)
            try:
                for tab in (t for t in TABS if t.__name__ in (sys.argv[2:] or t.__name__)):
                    tab(page, Path(temporary))
                    shoot(page, tab.__name__)
            finally:
                page.driver.quit()
                server.terminate()


if __name__ == "__main__":
    main()
