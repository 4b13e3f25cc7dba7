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
