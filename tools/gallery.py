"""Pictures of the landing page: python tools/gallery.py [NAME ...]

The Python of docs/index.md is run, block by block, and what it made is drawn into
``docs/pictures/gallery-NAME.png``: a posterior, outliers, a table, points in the plane.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from realnvp.plots import Plane, density, points
from realnvp.plots.canvas import DATA, MODEL, Picture, limits

DOCS = Path(__file__).parents[1] / "docs"

OUTLYING = [[0.0, 1.0], [0.5, 0.25], [1.8, 1.0]]
"""Points whose p-values the page asks for."""


def blocks() -> dict[str, str]:
    """Return the Python of the landing page by the name of the picture above it."""
    text = (DOCS / "index.md").read_text("utf-8").partition("## What people do")[2]
    cards = re.findall(r"pictures/([\w.-]+)\).*?```(\w+)\n(.*?)```", text, flags=re.S)
    return {
        Path(picture).stem.removeprefix("gallery-"): textwrap.dedent(code)
        for picture, language, code in cards
        if language == "python"
    }


def run(name: str) -> dict[str, Any]:
    """Return the variables of a block, after it was run."""
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(compile(blocks()[name], name, "exec"), names)
    return names


def posterior(axes: list[Axes]) -> None:
    """Draw the prior's draws, and those of the posterior."""
    names = run("posterior")
    theta, draws = names["theta"][:1500], names["draws"]
    axes[0].scatter(*theta.T, s=3, c=names["x"][:1500, 0], cmap="viridis", linewidths=0)
    axes[1].scatter(*draws.T, s=3, color=MODEL, alpha=0.6, linewidths=0)
    for ax, title in zip(
        axes, ("simulations, colored by x", "parameters given x = 0.5"), strict=True
    ):
        ax.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", title=title)


def outliers(axes: list[Axes]) -> None:
    """Draw p-values around two moons."""
    names = run("outliers")
    side = np.linspace(-1.9, 2.9, 90), np.linspace(-1.5, 2.0, 90)
    grid = np.stack(np.meshgrid(*side), axis=-1)
    p = names["detector"].p_values(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    (ax,) = axes
    levels = [0, 0.01, 0.05, 0.2, 1]
    shades = ["#f4f6f8", "#d9e4f0", "#b3cde3", "#8cb3d9"]
    ax.contourf(*side, p, levels=levels, colors=shades)
    ax.scatter(*names["X"].T, s=3, color=DATA, linewidths=0)
    for (x, y), value in zip(OUTLYING, names["p"], strict=True):
        ax.scatter(x, y, s=50, color=MODEL, marker="x", linewidths=2, zorder=3)
        ax.annotate(f"p = {value:.3f}", (x, y), (6, 6), textcoords="offset points", color=MODEL)


def table(axes: list[Axes]) -> None:
    """Draw two columns of real and synthetic rows."""
    names = run("table")
    colors = (DATA, "tab:orange", "tab:green")
    kinds = dict(zip(sorted(set(names["table"]["kind"])), colors, strict=True))
    sides = {"real": names["table"], "synthetic": names["synthetic"]}
    for ax, (title, rows) in zip(axes, sides.items(), strict=True):
        for kind, color in kinds.items():
            chosen = rows[rows["kind"] == kind]
            style = {"s": 9, "color": color, "linewidths": 0}
            ax.scatter(chosen["flavanoids"], chosen["color_intensity"], **style)
        ax.set(xlabel="flavanoids", xlim=(0, 5.4), ylim=(0, 14), title=title)
    axes[0].set_ylabel("color intensity")


def plane(axes: list[Axes]) -> None:
    """Draw a model's samples and its density."""
    names = run("plane")
    view = Plane.of(names["flow"], names["x"])
    points(names["x"], ax=axes[0])
    density(view, ax=axes[1])
    for ax, title in zip(axes, ("samples", "density"), strict=True):
        low, high = limits(names["x"].numpy())
        ax.set(title=title, xlabel="", ylabel="", aspect="equal")
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


DRAWINGS: dict[str, tuple[Callable[[list[Axes]], None], int]] = {
    "posterior": (posterior, 2),
    "outliers": (outliers, 1),
    "table": (table, 2),
    "plane": (plane, 2),
}
"""How each picture is drawn, and into how many axes."""


def main() -> None:
    """Draw the pictures that are named, or all."""
    for name in sys.argv[1:] or DRAWINGS:
        draw, count = DRAWINGS[name]
        figure = Picture(figsize=(5.4, 2.9), layout="constrained")
        axes = list(np.atleast_1d(figure.subplots(1, count)))
        draw(axes)
        for ax in axes:
            ax.spines[["top", "right"]].set_visible(False)
            ax.set(xticks=[], yticks=[])
            ax.title.set_fontsize(10)
        path = DOCS / "pictures" / f"gallery-{name}.png"
        figure.savefig(path, dpi=110, facecolor="white")
        print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
