"""Pictures: what is in them, by their pixels and their labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from realnvp import plots


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """Collect the figures that are saved."""
    found: list[Figure] = []
    save = plots.save_figure

    def keep(figure, path):
        found.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "save_figure", keep)
    return found


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


# ---------------------------------------------------------------------- grids of images


def test_every_image_is_in_its_place(tmp_path):
    images = torch.arange(7, dtype=torch.uint8)[:, None, None, None].expand(7, 1, 20, 30) * 10
    plots.image_grid(images, tmp_path / "g.png", columns=3)
    pixels = read(tmp_path / "g.png")
    zoom = pixels.shape[1] // (3 * 31 + 1)
    assert pixels.shape == (zoom * (3 * 21 + 1), zoom * (3 * 31 + 1))
    small = pixels[::zoom, ::zoom]
    for i in range(7):
        top, left = 1 + i // 3 * 21, 1 + i % 3 * 31
        assert (small[top : top + 20, left : left + 30] == 10 * i).all()
    assert (small[-20:, -30:] == 128).all(), "cells without an image are grey"


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "L")])
def test_one_channel_is_grey_and_three_are_colors(tmp_path, channels, mode):
    plots.image_grid(torch.zeros(2, channels, 4, 4, dtype=torch.uint8), tmp_path / "g.png")
    with Image.open(tmp_path / "g.png") as image:
        assert image.mode == mode


def test_the_highest_level_is_white(tmp_path):
    plots.image_grid(torch.full((1, 1, 8, 8), 16), tmp_path / "g.png", levels=17, border=0)
    assert (read(tmp_path / "g.png") == 255).all()


def test_folders_are_made(tmp_path):
    plots.image_grid(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), tmp_path / "a/b/g.png")
    assert (tmp_path / "a/b/g.png").is_file()


# ---------------------------------------------------------------------- points


def test_axes_have_the_columns_names(tmp_path, figures):
    x = torch.randn(50, 3)
    plots.scatter(x, tmp_path / "s.png", x + 1, columns=["height [m]", "cost $", "age"])
    left, right = figures[0].axes
    assert (left.get_title(), right.get_title()) == ("data", "samples")
    assert left.get_xlabel() == right.get_xlabel() == "height [m]"
    assert left.get_ylabel() == r"cost \$", "no mathematics"


def test_points_have_names_without_a_table(tmp_path, figures):
    plots.scatter(torch.randn(50, 2), tmp_path / "s.png")
    (axes,) = figures[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x1", "x2")


def test_names_in_letters_that_the_font_lacks_warn_nobody(tmp_path):
    plots.scatter(torch.randn(9, 2), tmp_path / "s.png", columns=["温度", "x" * 200])
    assert (tmp_path / "s.png").is_file()


def test_far_samples_do_not_shrink_the_picture(tmp_path, figures):
    data, samples = torch.rand(1000, 2), torch.rand(1000, 2)
    samples[0] = 1e6
    plots.scatter(samples, tmp_path / "s.png", data)
    low, high = figures[0].axes[0].get_xlim()
    assert -0.5 < low < 0 < 1 < high < 1.5


# ---------------------------------------------------------------------- densities in the plane


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


def test_a_true_density_has_a_panel_where_one_is_known(tmp_path, figures):
    known = plane(true_log_density=plane().log_density)
    plots.planes([known, plane()], tmp_path / "p.png")
    plots.planes([plane()], tmp_path / "q.png")
    titles = [axes.get_title() for axes in figures[0].axes[:5]]
    assert titles == ["data", "samples", "true density", "model's density", "grid of the latents"]
    assert len(figures[1].axes) == 4


def test_planes_of_a_table_name_their_columns(tmp_path, figures):
    plots.planes([plane(name="table", columns=("width", "depth"))], tmp_path / "p.png")
    first = figures[0].axes[0]
    assert first.get_xlabel() == "width"
    assert first.get_ylabel().splitlines() == ["table", "depth"]
    assert len(first.get_xticks()) > 1


def test_both_densities_have_one_scale_of_colors(tmp_path, figures):
    peaked = plane(
        true_log_density=plane().log_density, log_density=lambda x: -50 * (x**2).sum(1) + 5
    )
    plots.planes([peaked], tmp_path / "p.png")
    true, model = (axes.images[0] for axes in figures[0].axes[2:4])
    assert true.get_clim() == model.get_clim()
    assert true.get_clim()[1] == pytest.approx(1 / (2 * np.pi), rel=0.02)


# ---------------------------------------------------------------------- learning curves


def records(n: int) -> list[dict]:
    train = [{"kind": "train", "seconds": i, "loss": 100 / (i + 1) + 3} for i in range(n)]
    return [*train, {"kind": "validation", "seconds": n, "loss": 3.5}]


def test_curves_show_loss_and_validation_over_minutes(tmp_path, figures):
    plots.learning_curves(records(120), tmp_path / "c.png", "bits/dim")
    (axes,) = figures[0].axes
    assert axes.get_ylabel() == "bits/dim: lower is better"
    assert axes.get_xlabel() == "minutes of training"
    assert [str(line.get_label()).split(",")[0] for line in axes.lines] == [
        "training", "validation"
    ]  # fmt: skip
    assert axes.lines[0].get_xdata()[-1] == pytest.approx(119 / 60)
    assert axes.get_ylim()[1] < 30, "the first losses are above the picture"


def test_curves_of_vectors_are_log_densities(tmp_path, figures):
    unit = "nats (log-density)"
    plots.learning_curves(records(120), tmp_path / "c.png", unit, sign=-1.0)
    (axes,) = figures[0].axes
    assert axes.get_ylabel() == "nats (log-density): higher is better"
    assert axes.lines[1].get_ydata()[0] == -3.5
    assert -30 < axes.get_ylim()[0] < axes.get_ylim()[1] < 0


def test_curves_of_a_run_that_has_just_begun(tmp_path):
    plots.learning_curves([], tmp_path / "c.png", "nats")
    assert (tmp_path / "c.png").is_file()
