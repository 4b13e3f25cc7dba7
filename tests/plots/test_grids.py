"""Images side by side, in figures."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from realnvp import plots


def test_images_are_drawn_into_given_axes():
    x = torch.randint(0, 17, (4, 1, 8, 8))
    axes = Figure().subplots()
    figure = plots.images(x, levels=17, ax=axes, title="four")
    assert figure is axes.figure
    assert axes.get_title() == "four"
    drawn = np.asarray(axes.images[0].get_array())
    assert (drawn == np.asarray(plots.tiles(x, levels=17))).all()
    assert plots.images(x.expand(4, 3, 8, 8)).axes[0].images[0].get_array().ndim == 3


def test_improbable_latents_are_dark_where_they_are():
    z = torch.zeros(2, 1, 4, 4)
    z[1, 0, 2, 3] = 3.0
    terms = {"prior": torch.tensor([-5.0, -9.5])}
    figure = plots.term_maps(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), z, terms)
    heat = figure.axes[3].images[0].get_array()
    assert heat[2, 3] == -4.5
    assert heat.sum() == -4.5
    assert figure.axes[2].get_title() == "prior -5"
