"""Figures that notebooks display, and helpers of all plots."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from realnvp.utils.files import write_atomically

__all__ = ["Picture", "as_png", "data_uri", "limits", "panel", "save_figure"]

DATA, MODEL = "tab:blue", "tab:red"
"""Colors of observed data, and of samples or densities of a model."""

CYCLE = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:cyan")
"""Colors of several runs in one plot."""


class Picture(Figure):
    """A matplotlib figure that a notebook shows when it is the value of a cell.

    It is not registered with ``pyplot``, so nothing has to be closed, no backend is chosen, and
    several threads may draw at the same time.

    >>> Picture()._repr_png_()[1:4]
    b'PNG'
    """

    def _repr_png_(self) -> bytes:
        return as_png(self)


def panel(ax: Axes | None, size: tuple[float, float] = (5.0, 4.0)) -> tuple[Any, Axes]:
    """Return the figure and axes to draw into: those that are given, or new ones.

    Args:
        ax: axes to draw into, or None.
        size: width and height of a new figure, in inches.
    """
    if ax is not None:
        return ax.figure, ax
    figure = Picture(figsize=size, layout="constrained")
    return figure, figure.subplots()


def limits(x: NDArray, outside: float = 0.001, margin: float = 0.1) -> tuple[NDArray, NDArray]:
    """Return the range of nearly all values of each column, missing ones aside, with a margin.

    Args:
        x: ``(N, D)``, NaN where a value is missing.
        outside: fraction of the values that is left out on each side.
        margin: fraction of the range that is added on each side.

    >>> [a.round(3).tolist() for a in limits(np.array([[0.0, np.nan], [1.0, np.nan]]), 0.0)]
    [[-0.1, 0.0], [1.1, 1.0]]
    """
    low, high = np.zeros(x.shape[1]), np.ones(x.shape[1])
    for i, column in enumerate(x.T):
        present = column[np.isfinite(column)]
        if len(present):
            low[i], high[i] = np.quantile(present, [outside, 1 - outside])
            room = margin * (high[i] - low[i]) + 1e-6
            low[i], high[i] = low[i] - room, high[i] + room
    return low, high


def as_png(picture: Figure | Image.Image, dpi: int = 120) -> bytes:
    """Return the content of a PNG file.

    Args:
        picture: a matplotlib figure or a PIL image.
        dpi: pixels per inch of a figure.
    """
    buffer = io.BytesIO()
    if isinstance(picture, Image.Image):
        picture.save(buffer, format="png", optimize=True)
    else:
        with warnings.catch_warnings():
            # A column's name may have letters that the font lacks, and a machine may be busy.
            warnings.filterwarnings("ignore", "Glyph")
            warnings.filterwarnings("ignore", "Creating legend")
            picture.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def data_uri(picture: Figure | Image.Image, dpi: int = 96) -> str:
    """Return a picture as the ``src`` of an HTML image that needs no other file."""
    return "data:image/png;base64," + base64.b64encode(as_png(picture, dpi)).decode()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, making its folder."""
    write_atomically(path, as_png(figure))


def plain(name: str) -> str:
    """Return a column's name for matplotlib: at most 40 characters, with $ escaped."""
    return (name if len(name) <= 40 else f"{name[:39]}…").replace("$", r"\$")
