"""The toy sets: is the stated log-density the density of what the sampler draws?"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, stats

from realnvp.data.toy import TOY

NAMES = [
    "moons",
    "circles",
    "blobs",
    "uniform",
    "spirals",
    "pinwheel",
    "checkerboard",
    "eight-gaussians",
]
BOUNDED = ["uniform", "checkerboard"]
UNBOUNDED = [name for name in NAMES if name not in BOUNDED]
CELLS = 20  # per side; divides the bounds so that the jumps of the bounded sets are cell borders
DRAWS = 200_000

Array = npt.NDArray[np.float64]


def edges(name: str) -> tuple[Array, Array]:
    xmin, xmax, ymin, ymax = TOY[name].bounds
    return np.linspace(xmin, xmax, CELLS + 1), np.linspace(ymin, ymax, CELLS + 1)


@cache
def cell_integrals(name: str) -> tuple[Array, float, float]:
    """Probability of each cell, entropy, and variance of log p: 14 x 14 Gauss nodes per cell."""
    nodes, weights = np.polynomial.legendre.leggauss(14)
    axes, axis_weights = [], []
    for edge in edges(name):
        width = np.diff(edge)[:, None]
        axes.append((edge[:-1, None] + width * (nodes + 1) / 2).ravel())
        axis_weights.append((width * weights / 2).ravel())
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    log_p = TOY[name].log_density(points)
    mass = np.exp(log_p) * np.outer(*axis_weights).ravel()
    log_p = np.where(mass > 0, log_p, 0.0)  # 0 log 0 = 0
    mean = float(mass @ log_p)
    cells = mass.reshape(CELLS, 14, CELLS, 14).sum(axis=(1, 3))
    return cells, -mean, float(mass @ (log_p - mean) ** 2)


@cache
def draws(name: str) -> npt.NDArray[np.float32]:
    return TOY[name].sample(DRAWS, seed=1)


def chi_square_p_value(name: str, x: npt.NDArray[np.float32]) -> float:
    """Goodness of fit of a sample to the cell probabilities; rare cells are pooled into one."""
    counts = np.histogram2d(x[:, 0], x[:, 1], bins=edges(name))[0].ravel()
    expected = len(x) * cell_integrals(name)[0].ravel()
    common = expected >= 10
    # What falls outside the bounds belongs to the pooled cell too.
    counts = np.append(counts[common], len(x) - counts[common].sum())
    expected = np.append(expected[common], max(len(x) - expected[common].sum(), 0.0))
    if expected[-1] < 1:  # a bounded support, or nothing rare: no point may be there
        if counts[-1] > 5:
            return 0.0
        counts, expected = counts[:-1], expected[:-1]
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(stats.chi2.sf(statistic, len(counts) - 1))


def test_names_and_order() -> None:
    assert list(TOY) == NAMES
    assert [toy.name for toy in TOY.values()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_density_integrates_to_one(name: str) -> None:
    # The bounds hold all but 1e-6 of the mass, so this tests them too.
    assert cell_integrals(name)[0].sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_bounds_hold_the_samples(name: str) -> None:
    xmin, xmax, ymin, ymax = TOY[name].bounds
    x = draws(name)
    assert xmin < x[:, 0].min() < x[:, 0].max() < xmax
    assert ymin < x[:, 1].min() < x[:, 1].max() < ymax


@pytest.mark.parametrize("name", NAMES)
def test_samples_fit_the_density(name: str) -> None:
    assert chi_square_p_value(name, draws(name)) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_the_fit_notices_a_sample_that_is_two_percent_too_wide(name: str) -> None:
    assert chi_square_p_value(name, draws(name) * np.float32(1.02)) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_mean_log_density_of_samples_is_the_entropy(name: str) -> None:
    _, entropy, variance = cell_integrals(name)
    x = draws(name)[:50_000]
    standard_error = np.sqrt(variance / len(x))
    assert abs(-TOY[name].log_density(x).mean() - entropy) < 4 * standard_error + 1e-9


@pytest.mark.parametrize("name", ["blobs", "eight-gaussians", "uniform", "checkerboard"])
def test_entropy_of_separate_pieces_is_known(name: str) -> None:
    gauss = np.log(2 * np.pi * np.e)
    known = {
        "uniform": np.log(4),
        "checkerboard": np.log(8),
        # Overlap only lowers the entropy below that of separate Gaussians.
        "blobs": np.log(3) + gauss + 2 * np.log(0.5),
        "eight-gaussians": np.log(8) + gauss + 2 * np.log(0.2),
    }[name]
    entropy = cell_integrals(name)[1]
    assert known - 0.02 < entropy < known + 1e-9


def curves(name: str) -> list[tuple[Array, Array]]:
    """Points densely along each curve, ``(n, 2)``, and the density of the parameter there."""
    t = np.linspace(0, 1, 60_001)
    half, full = np.pi * t, 2 * np.pi * t
    angle = 3 * np.pi * t
    one = np.ones_like(t)
    return {
        "moons": [
            (np.stack([np.cos(half), np.sin(half)], 1), one),
            (np.stack([1 - np.cos(half), 0.5 - np.sin(half)], 1), one),
        ],
        "circles": [
            (np.stack([np.cos(full), np.sin(full)], 1), one),
            (0.5 * np.stack([np.cos(full), np.sin(full)], 1), one),
        ],
        "spirals": [
            (np.stack([-np.cos(angle), np.sin(angle)], 1) * angle[:, None] / 3, 2 * t),
            (np.stack([np.cos(angle), -np.sin(angle)], 1) * angle[:, None] / 3, 2 * t),
        ],
    }[name]


@pytest.mark.parametrize(("name", "std"), [("moons", 0.05), ("circles", 0.05), ("spirals", 0.1)])
@pytest.mark.parametrize("rule", [integrate.trapezoid, integrate.simpson])
def test_noisy_curves_agree_with_brute_force(
    name: str, std: float, rule: Callable[..., float]
) -> None:
    xmin, xmax, ymin, ymax = TOY[name].bounds
    anywhere = np.random.default_rng(2).uniform((xmin, ymin), (xmax, ymax), (60, 2))
    x = np.concatenate([anywhere, draws(name)[:40]])
    # The points nearest the ends of the curves are where a quadrature would fail first.
    x = np.concatenate([x, curves(name)[0][0][[0, 1, -2, -1]], curves(name)[1][0][[0, -1]]])
    truth = np.zeros(len(x))
    for points, density in curves(name):
        for i, point in enumerate(x):
            squared = ((points - point) ** 2).sum(axis=1)
            kernel = np.exp(-squared / (2 * std**2)) / (2 * np.pi * std**2)
            truth[i] += 0.5 * rule(density * kernel, dx=1 / (len(points) - 1))
    ours = np.exp(TOY[name].log_density(x))
    counted = truth > 1e-12 * truth.max()
    assert counted.sum() > 60
    # At the ends of the curves the reference itself is off by a power of its step: the second
    # for the trapezoid rule, the fourth for Simpson's.
    tolerance = 2e-4 if rule is integrate.trapezoid else 1e-8
    np.testing.assert_allclose(ours[counted], truth[counted], rtol=tolerance)


@pytest.mark.parametrize("name", ["moons", "circles"])
def test_scikit_learn_draws_from_the_same_density(name: str) -> None:
    from sklearn import datasets

    if name == "moons":
        x, _ = datasets.make_moons(20_000, noise=0.05, random_state=0)
    else:
        x, _ = datasets.make_circles(20_000, noise=0.05, factor=0.5, random_state=0)
    _, entropy, variance = cell_integrals(name)
    # It spaces the angles evenly, so the error is at most that of independent draws.
    assert abs(-TOY[name].log_density(x).mean() - entropy) < 4 * np.sqrt(variance / len(x))


@pytest.mark.parametrize("name", NAMES)
def test_sampling_is_reproducible(name: str) -> None:
    x = TOY[name].sample(50, seed=3)
    np.testing.assert_array_equal(x, TOY[name].sample(50, seed=3))
    assert not np.isin(x, TOY[name].sample(50, seed=4)).any()


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_dtypes(name: str) -> None:
    x = TOY[name].sample(7, seed=0)
    assert x.shape == (7, 2)
    assert x.dtype == np.float32
    log_p = TOY[name].log_density(x)
    assert log_p.shape == (7,)
    assert log_p.dtype == np.float64
    assert np.isfinite(log_p).all()
    assert TOY[name].log_density(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_batching_changes_nothing(name: str) -> None:
    # More points than fit in one block of the mixture's work array.
    x = draws(name)[:3000]
    one_by_one = np.concatenate([TOY[name].log_density(x[i : i + 1]) for i in range(0, 3000, 300)])
    np.testing.assert_allclose(TOY[name].log_density(x)[::300], one_by_one, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", UNBOUNDED)
def test_log_density_is_finite_and_falls_far_away(name: str) -> None:
    rays = np.random.default_rng(5).standard_normal((20, 2))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    radii = [6.0, 30.0, 1e3, 1e6, 1e38, 1e150]
    values = np.stack([TOY[name].log_density(rays * radius) for radius in radii])
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=0) < 0).all()


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_sets_are_minus_infinity_outside(name: str) -> None:
    edge = {"uniform": 1.0, "checkerboard": 2.0}[name]
    outside = [[edge + 1e-9, 0.5], [0.5, -edge - 1e-9], [1e150, 0.0]]
    assert (TOY[name].log_density(outside) == -np.inf).all()
    assert np.isfinite(TOY[name].log_density([[edge, edge], [0.5, 0.5], [-0.5, -0.5]])).all()


def test_checkerboard_cells_alternate_and_edges_are_inside() -> None:
    centres = np.arange(-2, 2) + 0.5
    x, y = np.meshgrid(centres, centres, indexing="ij")
    log_p = TOY["checkerboard"].log_density(np.stack([x.ravel(), y.ravel()], 1)).reshape(4, 4)
    dark = np.indices((4, 4)).sum(axis=0) % 2 == 0
    np.testing.assert_array_equal(log_p, np.where(dark, -np.log(8), -np.inf))
    # In float32 a draw just below 1 may be rounded up to 1, the edge of a light cell.
    assert TOY["checkerboard"].log_density([[1.0, 0.5]])[0] == pytest.approx(-np.log(8))


def test_pinwheel_has_five_fold_symmetry_and_keeps_the_radius_distribution() -> None:
    x = draws("pinwheel")[:200].astype(np.float64)
    c, s = np.cos(2 * np.pi / 5), np.sin(2 * np.pi / 5)
    turned = x @ np.array([[c, s], [-s, c]])
    log_p = TOY["pinwheel"].log_density
    np.testing.assert_allclose(log_p(turned), log_p(x), atol=1e-11)
    # The twist moves along circles, so the mean squared radius is that of a straight arm.
    squared = (draws("pinwheel").astype(np.float64) ** 2).sum(axis=1)
    error = squared.std() / np.sqrt(DRAWS)
    assert abs(squared.mean() - (1 + 0.3**2 + 0.1**2)) < 4 * error


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(2), "shape"),
        (np.zeros((4, 3)), "shape"),
        ([[np.nan, 0.0]], "finite"),
        ([[0.0, np.inf]], "finite"),
    ],
)
def test_bad_points_are_refused(x: npt.ArrayLike, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TOY["moons"].log_density(x)


def test_bad_sizes_and_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="number of points"):
        TOY["moons"].sample(0, seed=0)
    with pytest.raises(ValueError, match="non-negative"):
        TOY["moons"].sample(5, seed=-1)
    with pytest.raises(TypeError):
        TOY["moons"].sample(2.5, seed=0)  # type: ignore[arg-type]
