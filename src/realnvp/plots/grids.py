"""Images side by side, in figures; :mod:`realnvp.utils.tiles` makes plain pixel images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from realnvp.plots.canvas import Picture, panel
from realnvp.utils.tiles import tiles

__all__ = ["explained", "images", "term_maps"]


def images(
    x: Tensor, *, levels: int = 256, columns: int = 10, ax: Axes | None = None, title: str = ""
) -> Figure:
    """Draw images side by side.

    Args:
        x: integers ``(N, C, H, W)``.
        levels: number of grey levels.
        columns: images per row.
        ax: axes to draw into; new ones if left out.
        title: title above the images.

    >>> import torch
    >>> len(images(torch.zeros(4, 1, 8, 8)).axes)
    1
    """
    picture = tiles(x, levels=levels, columns=columns)
    ratio = picture.height / picture.width
    figure, axes = panel(ax, (5.0, max(5.0 * ratio, 0.8)))
    grey: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255} if picture.mode == "L" else {}
    axes.imshow(np.asarray(picture), interpolation="nearest", **grey)
    axes.set_axis_off()
    axes.set_title(title)
    return figure


def term_maps(x: Tensor, z: Tensor, terms: Mapping[str, Tensor], *, levels: int = 256) -> Figure:
    r"""Draw images, and below each the log-density of its latents where they are.

    The latents' log-density is a sum over the entries of the latents, which have the places of
    pixels: :math:`-z_d^2 / 2` (plus a constant) is dark where a latent is improbable. The other
    terms, the layers' log-determinants, are given as numbers.

    Args:
        x: images ``(N, C, H, W)``.
        z: their latents.
        terms: terms of their log-densities, as :meth:`realnvp.Flow.log_prob_terms` returns them.
        levels: number of grey levels.
    """
    n = len(x)
    figure = Picture(figsize=(max(2.2 * n, 3.2), 5.2), layout="constrained")
    panels = figure.subplots(2, n, squeeze=False)
    maps = (-0.5 * z.square()).sum(1).cpu().numpy()
    darkest = float(np.quantile(maps, 0.002))
    for i in range(n):
        images(x[i : i + 1], levels=levels, ax=panels[0, i])
        shown = panels[1, i].imshow(maps[i], cmap="magma", vmin=darkest, vmax=0)
        panels[1, i].set_axis_off()
        text = "\n".join(f"{name} {_short(float(values[i]))}" for name, values in terms.items())
        panels[1, i].set_title(text, fontsize=10)
    figure.colorbar(shown, ax=panels[1].tolist(), shrink=0.8, label="nats, up to a constant")
    return figure


def _short(value: float) -> str:
    """Return a number that fits beside its neighbors.

    >>> _short(-15681.3), _short(-816621929103360.0)
    ('-15,681', '-8.17e+14')
    """
    return f"{value:,.0f}" if abs(value) < 1e8 else f"{value:.3g}"


def explained(
    x: Tensor, maps: Tensor, nearest: Tensor | None, unusual: int, levels: int = 256
) -> Figure:
    """Draw the most unusual and the most ordinary images, heat maps, and the nearest images.

    Args:
        x: integers ``(N, C, H, W)``, the most unusual first.
        maps: ``(N, H, W)`` contributions of the pixels.
        nearest: the nearest training image of each, if known.
        unusual: number of images that are the most unusual; the others are the most ordinary.
        levels: number of grey levels.

    >>> import torch
    >>> images = torch.zeros(4, 1, 8, 8)
    >>> len(explained(images, torch.zeros(4, 8, 8), None, 2).axes)
    4
    """
    # A few extreme pixels must not make all others black.
    low, high = np.quantile(maps.numpy(), (0.02, 0.98))
    heat = ((maps - low) / max(high - low, 1e-12)).clamp(0, 1)[:, None] * 255
    rows = [("images", x, levels), ("what is unusual in them, white", heat.round(), 256)]
    if nearest is not None:
        rows.append(("nearest training images", nearest, levels))
    figure = Picture(figsize=(12, 1.6 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 2, squeeze=False)
    parts = (
        ("the most unusual", slice(None, unusual)),
        ("the most ordinary", slice(unusual, None)),
    )
    for row, (what, pictures, scale) in enumerate(rows):
        for column, (name, part) in enumerate(parts):
            title = f"{name}: {what}" if row else f"{name} {what}"
            images(pictures[part], levels=scale, columns=10, ax=axes[row, column], title=title)
    return figure
