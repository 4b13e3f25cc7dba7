"""Plots. Functions return matplotlib figures; with one panel, they also take ``ax=``.

>>> import torch, realnvp
>>> figure = realnvp.plot.points(torch.randn(100, 2))
>>> figure.savefig  # doctest: +ELLIPSIS
<bound method Figure.savefig of <Picture size 460x460 with 1 Axes>>
"""

from realnvp.plots.animation import save_animation
from realnvp.plots.canvas import DATA, MODEL, Picture, as_png, data_uri, save_figure
from realnvp.plots.curves import learning_curves, run_curves
from realnvp.plots.distributions import (
    conditional,
    coverage,
    draws,
    latents,
    norms,
    pairs,
    probabilities,
    quantiles,
    range_of,
    scores,
    table_marginals,
    table_rows,
)
from realnvp.plots.grids import explained, images, term_maps
from realnvp.plots.plane import (
    Plane,
    bent_grid,
    bounds_of,
    density,
    heat_image,
    planes,
    points,
    scatter,
)
from realnvp.utils.tiles import image_grid, tiles

__all__ = [
    "DATA",
    "MODEL",
    "Picture",
    "Plane",
    "as_png",
    "bent_grid",
    "bounds_of",
    "conditional",
    "coverage",
    "data_uri",
    "density",
    "draws",
    "explained",
    "heat_image",
    "image_grid",
    "images",
    "latents",
    "learning_curves",
    "norms",
    "pairs",
    "planes",
    "points",
    "probabilities",
    "quantiles",
    "range_of",
    "run_curves",
    "save_animation",
    "save_figure",
    "scatter",
    "scores",
    "table_marginals",
    "table_rows",
    "term_maps",
    "tiles",
]
