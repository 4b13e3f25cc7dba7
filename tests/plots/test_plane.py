"""Points, densities in the plane, and the grid of the latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import realnvp
from realnvp import plots


def test_axes_have_the_columns_names():
    x = torch.randn(50, 3)
    figure = plots.scatter(x, x + 1, columns=["height [m]", "cost $", "age"])
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("data", "samples")
    assert left.get_xlabel() == right.get_xlabel() == "height [m]"
    assert left.get_ylabel() == r"cost \$", "no mathematics"


def test_points_have_names_without_a_table():
    figure = plots.scatter(torch.randn(50, 2))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x1", "x2")


def test_names_in_letters_that_the_font_lacks_warn_nobody(tmp_path):
    figure = plots.scatter(torch.randn(9, 2), columns=["温度", "x" * 200])
    plots.save_figure(figure, tmp_path / "s.png")
    assert (tmp_path / "s.png").is_file()


def test_gaps_are_left_out_of_the_picture():
    x = torch.tensor([[0.0, 1.0], [torch.nan, 2.0], [torch.nan, 3.0]])
    figure = plots.scatter(x, x)
    assert np.isfinite([figure.axes[0].get_xlim(), figure.axes[0].get_ylim()]).all()


def test_far_samples_do_not_shrink_the_picture():
    data, samples = torch.rand(1000, 2), torch.rand(1000, 2)
    samples[0] = 1e6
    figure = plots.scatter(samples, data)
    low, high = figure.axes[0].get_xlim()
    assert -0.5 < low < 0 < 1 < high < 1.5


def plane(**changes) -> plots.Plane:
    points = np.random.default_rng(0).normal(size=(100, 2))
    arguments = {
        "name": "normal",
        "data": points,
        "samples": points,
        "bounds": (-3.0, 3.0, -3.0, 3.0),
        "log_density": lambda x: -0.5 * (x**2).sum(1) - np.log(2 * np.pi),
        "true_log_density": None,
        "decode": lambda z: 2 * z,
    }
    return plots.Plane(**{**arguments, **changes})


def test_a_true_density_has_a_panel_where_one_is_known():
    known = plane(true_log_density=plane().log_density)
    figures = plots.planes([known, plane()]), plots.planes([plane()])
    titles = [axes.get_title() for axes in figures[0].axes[:5]]
    assert titles == ["data", "samples", "true density", "model's density", "grid of the latents"]
    assert len(figures[1].axes) == 4


def test_planes_of_a_table_name_their_columns():
    first = plots.planes([plane(name="table", columns=("width", "depth"))]).axes[0]
    assert first.get_xlabel() == "width"
    assert first.get_ylabel().splitlines() == ["table", "depth"]
    assert len(first.get_xticks()) > 1


def test_both_densities_have_one_scale_of_colors():
    peaked = plane(
        true_log_density=plane().log_density, log_density=lambda x: -50 * (x**2).sum(1) + 5
    )
    true, model = (axes.images[0] for axes in plots.planes([peaked]).axes[2:4])
    assert true.get_clim() == model.get_clim()
    assert true.get_clim()[1] == pytest.approx(1 / (2 * np.pi), rel=0.02)


def test_the_plane_of_a_flow_has_its_density_and_its_bent_grid():
    flow = realnvp.load("moons")
    x = torch.from_numpy(realnvp.load_data(realnvp.recipe("moons").data).test.x[:500].numpy())
    found = plots.Plane.of(flow, x, seed=3)
    expected = flow.sample(500, generator=torch.Generator().manual_seed(3))
    assert (found.samples == expected.numpy()).all()
    assert found.log_density(found.data) == pytest.approx(flow.log_prob(x).detach().numpy())
    assert found.decode(np.zeros((1, 2))).shape == (1, 2)
    assert found.bounds[0] < x[:, 0].min() < x[:, 0].max() < found.bounds[1]
    with pytest.raises(ValueError, match="two columns, and the model is of images"):
        plots.Plane.of(realnvp.load("digits"), x)


def test_panels_are_drawn_into_given_axes():
    first, second, third = Figure().subplots(1, 3)
    plots.points(np.zeros((5, 2)), ax=first)
    plots.density(plane(), size=20, ax=second)
    plots.bent_grid(plane(), ax=third)
    assert len(first.collections) == 1
    assert second.images[0].get_array().max() == pytest.approx(1 / (2 * np.pi), rel=0.05)
    ends = third.lines[0].get_xydata()
    assert ends[0] == pytest.approx([-5, -6]), "the latent (-2.5, -3), decoded by doubling"


def test_a_picture_of_a_density_has_its_peak_where_it_is():
    row = plane()
    left, right, bottom, top = row.bounds
    pixels = np.asarray(plots.heat_image(row.log_density, row.bounds, size=41)).sum(2)
    down, across = np.unravel_index(pixels.argmax(), pixels.shape)
    peak = left + (right - left) * (across + 0.5) / 41, top - (top - bottom) * (down + 0.5) / 41
    grid = np.stack(np.meshgrid(np.linspace(left, right, 41), np.linspace(bottom, top, 41)), -1)
    values = row.log_density(grid.reshape(-1, 2))
    best = grid.reshape(-1, 2)[values.argmax()]
    assert np.abs(np.subtract(peak, best)).max() < 0.06 * (right - left)
