"""Animations of the documentation: python tools/animate.py [layers|training]

``docs/pictures/moons-layers.gif``: draws from the standard normal, which the layers of the shipped
model of moons bend one after the other into its samples.

``docs/pictures/digits-training.gif``: samples of the recipe ``digits`` while it is trained, of the
same latents each time.
"""

from __future__ import annotations

import io
import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor

from realnvp import load, plots, recipe, train
from realnvp.training.callback import Callback

OUT = Path(__file__).parents[1] / "docs" / "pictures"

BETWEEN = 8
"""Frames from one layer to the next."""

STEPS = 30
"""Frames of a training."""


@torch.no_grad()
def layers(model: str = "moons", n: int = 1500) -> list[Image.Image]:
    """Return points on their way through a model's layers, from the latents to the data."""
    flow = load(model)
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    stops = [z]
    for layer in reversed(list(flow.bijection.layers)):
        moved, _ = layer.inverse(stops[-1])
        if (moved - stops[-1]).abs().max() > 1e-4:  # others, such as dequantization, move nothing
            stops.append(moved)
    # The hue says in which direction from the middle a point began.
    angle = np.arctan2(z[:, 1].numpy(), z[:, 0].numpy()) / (2 * np.pi) % 1
    colors = colormaps["hsv"](angle)
    frames = []
    for i, (old, new) in enumerate(itertools.pairwise(stops), 1):
        for share in np.linspace(0, 1, BETWEEN, endpoint=i == len(stops) - 1):
            x = (1 - share) * old + share * new
            figure = plots.Picture(figsize=(3.6, 3.6), layout="constrained")
            axes = figure.subplots()
            axes.scatter(*x.numpy().T, s=4, c=colors, linewidths=0)
            axes.set(xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), xticks=[], yticks=[], aspect="equal")
            axes.set_title(f"layer {i} of {len(stops) - 1}", fontsize=9)
            with Image.open(io.BytesIO(plots.as_png(figure, dpi=120))) as image:
                frames.append(image.convert("RGB").quantize(64).convert("RGB"))
    return frames


class Film(Callback):
    """Make a frame of the samples at each validation.

    Args:
        levels: number of grey levels of the images.
        n: number of samples that are shown.
    """

    draws = True

    def __init__(self, levels: int, n: int = 60) -> None:
        self.frames: list[Image.Image] = []
        self._levels, self._n = levels, n

    def picture(self, step: int, samples: Tensor) -> None:
        grid = plots.tiles(samples[: self._n], levels=self._levels, columns=10, width=360)
        frame = Image.new("RGB", (grid.width, grid.height + 22), "white")
        frame.paste(grid)
        place = (frame.width / 2, grid.height + 11)
        ImageDraw.Draw(frame).text(place, f"step {step}", "black", anchor="mm", font_size=13)
        self.frames.append(frame)


def training(name: str = "digits") -> list[Image.Image]:
    """Return samples of a recipe's model through its training."""
    chosen = recipe(name, training={"num_validations": STEPS, "validation_share": 1.0})
    film = Film(levels=17)
    train(chosen, callbacks=[film])
    return film.frames


FILMS = {"moons-layers": (layers, 60), "digits-training": (training, 150)}
"""How each animation is made, and the milliseconds of its frames."""


def main() -> None:
    """Write the animations whose names hold the argument, or all."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, (make, milliseconds) in FILMS.items():
        if wanted in name:
            path = OUT / f"{name}.gif"
            plots.save_animation(make(), path, milliseconds=milliseconds, there_and_back=False)
            print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
