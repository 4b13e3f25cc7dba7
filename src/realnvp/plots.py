"""Every picture: sample grids, densities in the plane, learning curves."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["Plane", "image_grid", "learning_curves", "planes", "save_figure", "scatter"]

mpl.use("Agg")  # pictures go to files: no display is needed, or asked for


DATA, MODEL = "tab:blue", "tab:red"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # a column's name may be in letters that the font lacks
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(path, dpi=120)


def image_grid(
    images: Tensor, path: Path, *, levels: int = 256, columns: int = 10, border: int = 1
) -> None:
    """Write images side by side as one PNG, small ones magnified without smoothing.

    This is by hand rather than by ``torchvision.utils.make_grid``, whose import takes 1.4 s and
    which is no faster.

    Args:
        images: integers ``(N, C, H, W)``; one channel is grey, three are RGB; of any other number
            only the first is shown.
        path: file to write.
        levels: number of grey levels: ``levels - 1`` is white.
        columns: images per row.
        border: pixels between images.
    """
    n, channels, height, width = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    kept = images if channels in (1, 3) else images[:, :1]
    pixels = (kept.cpu().numpy().astype(np.float64) * 255 / (levels - 1)).round().astype(np.uint8)
    cell = height + border, width + border
    canvas = np.full((rows * cell[0] + border, columns * cell[1] + border, kept.shape[1]), 128)
    for i, image in enumerate(pixels):
        top, left = border + i // columns * cell[0], border + i % columns * cell[1]
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    zoom = max(1, round(800 / canvas.shape[1]))
    canvas = canvas.astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas[:, :, 0] if canvas.shape[2] == 1 else canvas).save(path)


def scatter(
    samples: Tensor, path: Path, data: Tensor | None = None, columns: Sequence[str] = ("x1", "x2")
) -> None:
    """Draw samples in red, and data in blue if they are given; of more columns the first two.

    Args:
        samples: ``(M, D)``.
        path: file to write.
        data: ``(N, D)``; samples alone if left out.
        columns: names of the columns.
    """
    shown = [(samples, MODEL, "samples")]
    if data is not None:
        shown.insert(0, (data, DATA, "data"))
    figure = Figure(figsize=(4.5 * len(shown), 4.6), layout="constrained")
    row = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (points, color, title) in zip(row, shown, strict=True):
        xy = points[:, :2].cpu().numpy()
        _points(axes, xy, color)
        axes.set_title(title)
        axes.set_xlabel(_plain(columns[0]))
    row[0].set_ylabel(_plain(columns[1]))
    # A flow has rare far samples; the picture is of the range of the data, or of nearly all.
    low, high = np.quantile(shown[0][0][:, :2].cpu().numpy(), [0.001, 0.999], axis=0)
    margin = 0.1 * (high - low) + 1e-6
    row[0].set_xlim(low[0] - margin[0], high[0] + margin[0])
    row[0].set_ylim(low[1] - margin[1], high[1] + margin[1])
    save_figure(figure, path)


def _points(axes: Any, points: NDArray, color: str) -> None:
    """Draw points; few of them are larger, so that they are seen."""
    size = min(max(5000 / max(len(points), 1), 2.5), 16)
    axes.scatter(points[:, 0], points[:, 1], s=size, alpha=0.4, color=color, linewidths=0)


def _plain(name: str) -> str:
    """Return a column's name, at most 40 characters of it, without the meaning that $ has."""
    return (name if len(name) <= 40 else f"{name[:39]}…").replace("$", r"\$")


def learning_curves(
    records: Sequence[dict[str, Any]],
    path: Path,
    unit: str,
    *,
    sign: float = 1.0,
    training: str = "training, as the weights change",
    validation: str = "validation, of the averaged weights",
) -> None:
    """Draw the curves of training and validation over minutes, from a run's metrics.

    Args:
        records: lines of ``metrics.jsonl``.
        path: file to write.
        unit: name of the unit, see :attr:`realnvp.Flow.unit`.
        sign: factor of the losses: -1 shows log-densities.
        training: legend of the training curve.
        validation: legend of the validations.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    trained, validated = (
        [(r["seconds"] / 60, sign * r["loss"]) for r in records if r["kind"] == kind]
        for kind in ("train", "validation")
    )
    axes.plot(*_columns(trained), color=DATA, alpha=0.5, label=training)
    axes.plot(*_columns(validated), color=MODEL, marker="o", ms=3, label=validation)
    # The first losses are far worse than all that follow: show from a little beyond the rest.
    finite = sign * np.array([value for _, value in trained + validated if np.isfinite(value)])
    if len(finite) > 10:
        low, high = finite.min(), np.quantile(finite, 0.9)
        best, worst = low - 0.05 * (high - low) - 1e-3, high + 0.3 * (high - low) + 1e-3
        axes.set_ylim(*sorted((sign * best, sign * worst)))
    axes.set_xlabel("minutes of training")
    axes.set_ylabel(f"{unit}: {'lower' if sign > 0 else 'higher'} is better")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


@dataclass(frozen=True, eq=False)
class Plane:
    """A density in the plane, and what it is compared with.

    Args:
        name: name at the left of the row.
        data: ``(N, 2)``.
        samples: ``(M, 2)``.
        bounds: ``(xmin, xmax, ymin, ymax)`` of the pictures.
        log_density: log-density of the model, ``(N, 2) -> (N,)``.
        true_log_density: log-density of the data, if it is known.
        decode: map from latents to data, ``(N, 2) -> (N, 2)``.
        columns: names of the two columns, if they have any.
    """

    name: str
    data: NDArray
    samples: NDArray
    bounds: tuple[float, float, float, float]
    log_density: Callable[[NDArray], NDArray]
    true_log_density: Callable[[NDArray], NDArray] | None
    decode: Callable[[NDArray], NDArray]
    columns: tuple[str, str] | None = None


def planes(rows: Sequence[Plane], path: Path) -> None:
    """Draw densities in the plane, one in each row.

    Data are blue and samples red; the true density, where it is known, and the model's are heat
    maps of the same colors; the last panel is the grid of the latent space as the flow bends it.

    Args:
        rows: densities to draw.
        path: file to write.
    """
    known = any(row.true_log_density is not None for row in rows)
    titles = ["data", "samples", *(["true density"] if known else []), "model's density",
              "grid of the latents"]  # fmt: skip
    figure = Figure(figsize=(2.6 * len(titles), 2.6 * len(rows) + 0.3), layout="constrained")
    panels = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, axes in zip(rows, panels, strict=True):
        for one in axes:
            one.set(xlim=row.bounds[:2], ylim=row.bounds[2:], aspect="auto")
            if row.columns is None:
                one.set(xticks=[], yticks=[])
            else:
                one.set_xlabel(_plain(row.columns[0]), fontsize=9)
                one.tick_params(labelsize=7, labelleft=one is axes[0])
        name = [row.name] if row.columns is None else [row.name, row.columns[1]]
        axes[0].set_ylabel("\n".join(map(_plain, name)))
        for one, points, color in ((axes[0], row.data, DATA), (axes[1], row.samples, MODEL)):
            _points(one, points, color)
        _heat(row, axes[2:-1])
        _grid(row, axes[-1])
    for one, title in zip(panels[0], titles, strict=True):
        one.set_title(title, fontsize=10)
    save_figure(figure, path)


def _heat(row: Plane, axes: Sequence[Any]) -> None:
    """Draw the model's density in the last of the axes, the true one before it, in one scale."""
    left, right, bottom, top = row.bounds
    size = 200
    x, y = ((np.arange(size) + 0.5) / size for _ in range(2))
    grid = np.stack(np.meshgrid(left + (right - left) * x, bottom + (top - bottom) * y), axis=-1)
    points = grid.reshape(-1, 2)
    functions = [row.true_log_density, row.log_density][-len(axes) :]
    maps = [f and np.exp(f(points)).reshape(size, size) for f in functions]
    # The model's peaks may be higher than the true ones, which set the colors.
    brightest = np.quantile(next(m for m in maps if m is not None), 0.999)
    for one, values in zip(axes, maps, strict=True):
        if values is None:
            one.set_axis_off()
            continue
        one.imshow(
            values, origin="lower", extent=row.bounds, vmin=0, vmax=brightest, cmap="magma",
            aspect="auto", interpolation="nearest",
        )  # fmt: skip


def _grid(row: Plane, axes: Any) -> None:
    """Draw lines of equal latent coordinates: of the first one in red, of the second in blue."""
    places, along = np.linspace(-2.5, 2.5, 21), np.linspace(-3, 3, 400)
    for axis, color in ((0, MODEL), (1, DATA)):
        for place in places:
            line = np.full((len(along), 2), place)
            line[:, 1 - axis] = along
            bent = row.decode(line)
            axes.plot(bent[:, 0], bent[:, 1], color=color, linewidth=0.5)
