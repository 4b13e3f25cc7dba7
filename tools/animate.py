"""Animations of the documentation: python tools/animate.py

``docs/pictures/moons-layers.gif``: draws from the standard normal, which the layers of the shipped
model of moons bend one after the other into its samples.
"""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

from realnvp import load, plots

OUT = Path(__file__).parents[1] / "docs" / "pictures"

BETWEEN = 8
"""Frames from one layer to the next."""


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
            with Image.open(io.BytesIO(plots.as_png(figure, dpi=80))) as image:
                frames.append(image.convert("RGB").quantize(64).convert("RGB"))
    return frames


def main() -> None:
    """Write the animation."""
    path = OUT / "moons-layers.gif"
    plots.save_animation(layers(), path, milliseconds=60, there_and_back=False)
    print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
