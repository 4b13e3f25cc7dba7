"""Every picture. Functions return matplotlib figures; those of one panel also take ``ax=``.

>>> import torch, realnvp
>>> figure = realnvp.plot.points(torch.randn(100, 2))
>>> figure.savefig  # doctest: +ELLIPSIS
<bound method Figure.savefig of <Picture size 460x460 with 1 Axes>>
"""

from realnvp.plots.canvas import DATA, MODEL, Picture, as_png, data_uri, save_figure
from realnvp.plots.curves import learning_curves, run_curves
from realnvp.plots.distributions import (
    coverage,
    latents,
    marginals,
    norms,
    pairs,
    quantiles,
    scores,
)
from realnvp.plots.grids import image_grid, images, tiles
from realnvp.plots.plane import Plane, bent_grid, bounds_of, density, planes, points, scatter

__all__ = [
    "DATA",
    "MODEL",
    "Picture",
    "Plane",
    "as_png",
    "bent_grid",
    "bounds_of",
    "coverage",
    "data_uri",
    "density",
    "image_grid",
    "images",
    "latents",
    "learning_curves",
    "marginals",
    "norms",
    "pairs",
    "planes",
    "points",
    "quantiles",
    "run_curves",
    "save_figure",
    "scatter",
    "scores",
    "tiles",
]
