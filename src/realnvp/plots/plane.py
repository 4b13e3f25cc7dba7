"""Densities in the plane: points, heat maps, and the grid of the latents as a flow bends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from realnvp.flow import Flow
from realnvp.plots.canvas import DATA, MODEL, Picture, limits, panel, plain

__all__ = [
    "Plane",
    "bent_grid",
    "bounds_of",
    "density",
    "heat_image",
    "planes",
    "points",
    "scatter",
]

Bounds = tuple[float, float, float, float]

SHADES = "magma"
"""Colors of densities."""


def points(
    x: ArrayLike | Tensor, *, color: str = MODEL, label: str = "", ax: Axes | None = None
) -> Figure:
    """Draw points; if there are few, they are larger.

    Args:
        x: ``(N, D)``, of which the first two columns are drawn.
        color: color of the points.
        label: their name in a legend.
        ax: axes to draw into; new ones if left out.
    """
    figure, axes = panel(ax, (4.6, 4.6))
    xy = np.asarray(x)
    size = min(max(5000 / max(len(xy), 1), 2.5), 16)
    axes.scatter(xy[:, 0], xy[:, 1], s=size, alpha=0.4, color=color, linewidths=0, label=label)
    return figure


def scatter(
    samples: Tensor, data: Tensor | None = None, columns: Sequence[str] = ("x1", "x2")
) -> Figure:
    """Draw samples in red, and data in blue if they are given.

    Args:
        samples: ``(M, D)``, of which the first two columns are drawn.
        data: ``(N, D)``; samples alone if left out.
        columns: names of the columns.
    """
    sets = [(samples, MODEL, "samples")]
    if data is not None:
        sets.insert(0, (data, DATA, "data"))
    figure = Picture(figsize=(4.5 * len(sets), 4.6), layout="constrained")
    row = figure.subplots(1, len(sets), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (x, color, title) in zip(row, sets, strict=True):
        points(x[:, :2].cpu(), color=color, ax=axes)
        axes.set_title(title)
        axes.set_xlabel(plain(columns[0]))
    row[0].set_ylabel(plain(columns[1]))
    # A flow has rare distant samples: show the range of the data, or of nearly all samples.
    low, high = limits(sets[0][0][:, :2].cpu().numpy())
    row[0].set_xlim(low[0], high[0])
    row[0].set_ylim(low[1], high[1])
    return figure


@dataclass(frozen=True, eq=False)
class Plane:
    """A density in the plane, with the data and the true density that it is compared with.

    Args:
        name: name on the left of the row.
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
    bounds: Bounds
    log_density: Callable[[NDArray], NDArray]
    true_log_density: Callable[[NDArray], NDArray] | None
    decode: Callable[[NDArray], NDArray]
    columns: tuple[str, str] | None = None

    @classmethod
    def of(
        cls,
        flow: Flow,
        data: Tensor,
        *,
        name: str = "",
        condition: Tensor | None = None,
        bounds: Bounds | None = None,
        true_log_density: Callable[[NDArray], NDArray] | None = None,
        columns: tuple[str, str] | None = None,
        seed: int = 0,
    ) -> Plane:
        """Return the plane of a flow of two columns, with as many samples as there are data.

        Args:
            flow: flow of shape ``(2,)``.
            data: ``(N, 2)``.
            name: name on the left of the row.
            condition: ``(1,)`` or ``(1, K)``: the condition of all points, if the flow has one.
            bounds: of the pictures; nearly all of the data if left out.
            true_log_density: log-density of the data, if it is known.
            columns: names of the columns.
            seed: seed of the samples.

        Raises:
            ValueError: if the flow is not of two columns.
        """
        if flow.shape != (2,):
            what = "images" if flow.levels is not None else f"{flow.dim} columns"
            raise ValueError(
                f"this figure is for models of two columns, and the model is of {what}"
            )

        def repeated(n: int) -> Tensor | None:
            if condition is None:
                return None
            return condition.expand(n, *condition.shape[1:]).to(flow.device)

        def log_density(at: NDArray) -> NDArray:
            x = torch.as_tensor(at, dtype=flow.dtype, device=flow.device)
            with torch.no_grad():
                # Integers have the density at the middle of their bin.
                middle = torch.full_like(x, 0.5) if flow.noisy else None
                x = x if flow.columns is None else flow.columns.snap(x)
                return flow.log_prob(x, repeated(len(x)), middle).cpu().numpy()

        def decode(latents: NDArray) -> NDArray:
            z = torch.as_tensor(latents, dtype=flow.dtype, device=flow.device)
            with torch.no_grad():
                return flow.decode(z, repeated(len(z))).cpu().numpy()

        generator = torch.Generator(flow.device).manual_seed(seed)
        n = len(data)
        samples = flow.sample(n, condition=repeated(n), generator=generator).cpu().numpy()
        x = data.cpu().numpy()
        limits = bounds_of(x) if bounds is None else bounds
        return cls(name, x, samples, limits, log_density, true_log_density, decode, columns)


def bounds_of(data: NDArray) -> Bounds:
    """Return the range of nearly all of the data, with a margin.

    >>> bounds_of(np.zeros((5, 2)))
    (-1e-06, 1e-06, -1e-06, 1e-06)
    """
    low, high = np.quantile(data, [0.002, 0.998], axis=0)
    margin = 0.15 * (high - low) + 1e-6
    (left, bottom), (right, top) = low - margin, high + margin
    return float(left), float(right), float(bottom), float(top)


def planes(rows: Sequence[Plane]) -> Figure:
    """Draw densities in the plane, one in each row.

    Data are blue and samples red; the true density, where it is known, and the model's are heat
    maps of the same colors; the last panel is the grid of the latent space as the flow bends it.

    Args:
        rows: densities to draw.
    """
    has_truth = any(row.true_log_density is not None for row in rows)
    titles = ["data", "samples", *(["true density"] if has_truth else []), "model's density",
              "grid of the latents"]  # fmt: skip
    figure = Picture(figsize=(2.6 * len(titles), 2.6 * len(rows) + 0.3), layout="constrained")
    panels = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, axes in zip(rows, panels, strict=True):
        for one in axes:
            one.set(xlim=row.bounds[:2], ylim=row.bounds[2:], aspect="auto")
            if row.columns is None:
                one.set(xticks=[], yticks=[])
            else:
                one.set_xlabel(plain(row.columns[0]), fontsize=9)
                one.tick_params(labelsize=7, labelleft=one is axes[0])
        name = [row.name] if row.columns is None else [row.name, row.columns[1]]
        axes[0].set_ylabel("\n".join(map(plain, name)))
        points(row.data, color=DATA, ax=axes[0])
        points(row.samples, color=MODEL, ax=axes[1])
        _heat(row, axes[2:-1])
        bent_grid(row, ax=axes[-1])
    for one, title in zip(panels[0], titles, strict=True):
        one.set_title(title, fontsize=10)
    return figure


def density(plane: Plane, *, size: int = 200, ax: Axes | None = None) -> Figure:
    """Draw the model's density as a heat map.

    Args:
        plane: density to draw.
        size: number of bins along each side.
        ax: axes to draw into; new ones if left out.
    """
    figure, axes = panel(ax, (4.6, 4.6))
    values = _on_grid(plane.log_density, plane.bounds, size)
    _show(plane, axes, values, float(np.quantile(values, 0.999)))
    return figure


def bent_grid(plane: Plane, *, ax: Axes | None = None) -> Figure:
    """Draw lines of equal latents: the first one in red, the second in blue."""
    figure, axes = panel(ax, (4.6, 4.6))
    places, along = np.linspace(-2.5, 2.5, 21), np.linspace(-3, 3, 400)
    for axis, color in ((0, MODEL), (1, DATA)):
        lines = np.empty((len(places), len(along), 2))
        lines[:, :, axis], lines[:, :, 1 - axis] = places[:, None], along
        for bent in plane.decode(lines.reshape(-1, 2)).reshape(lines.shape):
            axes.plot(bent[:, 0], bent[:, 1], color=color, linewidth=0.5)
    return figure


def heat_image(
    log_density: Callable[[NDArray], NDArray], bounds: Bounds, size: int = 200
) -> Image.Image:
    """Return a density in the plane as a picture of ``size`` pixels each way.

    Args:
        log_density: ``(N, 2) -> (N,)``.
        bounds: ``(xmin, xmax, ymin, ymax)`` of the picture.
        size: number of pixels along each side.

    >>> heat_image(lambda z: -0.5 * (z**2).sum(1), (-4, 4, -4, 4), size=50).size
    (50, 50)
    """
    values = _on_grid(log_density, bounds, size)[::-1]
    brightest = max(float(np.quantile(values, 0.999)), 1e-300)
    shades = colormaps[SHADES](np.clip(values / brightest, 0, 1), bytes=True)
    return Image.fromarray(shades[:, :, :3])


def _on_grid(log_density: Callable[[NDArray], NDArray], bounds: Bounds, size: int) -> NDArray:
    left, right, bottom, top = bounds
    middles = (np.arange(size) + 0.5) / size
    x, y = left + (right - left) * middles, bottom + (top - bottom) * middles
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    return np.exp(log_density(grid.reshape(-1, 2))).reshape(size, size)


def _show(row: Plane, axes: Any, values: NDArray, brightest: float) -> None:
    axes.imshow(
        values, origin="lower", extent=row.bounds, vmin=0, vmax=brightest, cmap=SHADES,
        aspect="auto", interpolation="nearest",
    )  # fmt: skip


def _heat(row: Plane, axes: Sequence[Any]) -> None:
    """Draw the model's density in the last of the axes, the true one before it, in one scale."""
    functions = [row.true_log_density, row.log_density][-len(axes) :]
    maps = [f and _on_grid(f, row.bounds, 200) for f in functions]
    # The model's peaks may be higher than the true ones, which determine the colors.
    brightest = float(np.quantile(next(m for m in maps if m is not None), 0.999))
    for one, values in zip(axes, maps, strict=True):
        if values is None:
            one.set_axis_off()
            continue
        _show(row, one, values, brightest)
