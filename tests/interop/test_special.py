"""Special functions by what ONNX has, beside PyTorch's in float64."""

from __future__ import annotations

import pytest
import torch

from realnvp.interop import special

GRID = torch.linspace(-9, 9, 2001)


@pytest.mark.parametrize(
    ("own", "exact"),
    [(special.erfc, torch.erfc), (special.log_ndtr, torch.special.log_ndtr)],
)
def test_relative_errors(own, exact):
    expected = exact(GRID.double())
    assert ((own(GRID) - expected) / expected).abs().max() < 2e-5
    near = GRID.abs() < 3
    assert ((own(GRID) - expected) / expected)[near].abs().max() < 3e-6


def test_the_quantile_of_the_normal():
    p = torch.cat([torch.logspace(-37, -0.31, 2000), 1 - torch.logspace(-6, -0.4, 200)])
    assert (special.ndtri(p) - torch.special.ndtri(p.double())).abs().max() < 3e-6


def test_the_normal_distribution_function():
    expected = torch.special.log_ndtr(GRID.double()).exp()
    assert ((special.ndtr(GRID.double()) - expected) / expected).abs().max() < 2e-6


@pytest.mark.parametrize("name", ["asinh", "sinh"])
def test_hyperbolic_functions_in_float64(name):
    x = torch.cat((-torch.logspace(2, -3, 100), torch.logspace(-3, 2, 100))).double()
    expected = getattr(torch, name)(x)
    torch.testing.assert_close(getattr(special, name)(x), expected, rtol=1e-12, atol=0.0)


def test_the_hypotenuse_of_large_and_small_sides():
    x = torch.cat((torch.zeros(1), torch.logspace(-300, 300, 50, dtype=torch.float64)))
    one = torch.ones_like(x)
    torch.testing.assert_close(special.hypot(x, one), torch.hypot(x, one))


def test_the_error_function_is_left_to_float32():
    x = GRID.double()
    assert (special.erf(x) - torch.erf(x)).abs().max() < 1e-7
    assert special.erf(GRID) is NotImplemented


@pytest.mark.parametrize("right", [False, True])
def test_places_among_boundaries(right):
    grid, values = torch.rand(3, 6).sort().values, torch.rand(3, 20)
    values[:, :6] = grid  # also on a boundary
    expected = torch.searchsorted(grid, values, right=right)
    assert torch.equal(special.searchsorted(grid, values, right=right), expected)
    with pytest.raises(NotImplementedError, match="not sorted"):
        special.searchsorted(grid, values, sorter=expected)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("unitriangular", [False, True])
def test_triangular_systems(upper, unitriangular):
    options = {"upper": upper, "unitriangular": unitriangular}
    a = 0.3 * torch.randn(3, 4, 4) + 3 * torch.eye(4)
    b = torch.randn(3, 4, 2)
    a = a.triu() if upper else a.tril()
    expected = torch.linalg.solve_triangular(a, b, **options)
    assert torch.allclose(special.solve_triangular(a, b, **options), expected, atol=1e-5)
    one = special.solve_triangular(a[0], b, **options)  # one matrix of several right sides
    assert torch.allclose(one, torch.linalg.solve_triangular(a[0], b, **options), atol=1e-5)
    with pytest.raises(NotImplementedError, match="left"):
        special.solve_triangular(a, b, upper=True, left=False)
