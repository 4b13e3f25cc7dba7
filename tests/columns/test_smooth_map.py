"""Smooth maps of columns of numbers."""

from __future__ import annotations

import pytest
import torch

from realnvp.columns.smooth_map import SHAPES, SmoothMap


def bent(*shapes: str) -> SmoothMap:
    """Return maps of columns with a spline that is not straight."""
    rows = torch.ones(len(shapes), 1, dtype=torch.float64)
    spline = ([-1.0, 0.2, 1.0], [-1.5, 0.0, 2.0], [0.7, 2, 1.3])
    return SmoothMap(
        shapes, -0.5 * rows[:, 0], 2.5 * rows[:, 0], *(rows * torch.tensor(r) for r in spline)
    )


def test_columns_of_all_shapes_are_what_they_are_alone():
    x = torch.linspace(-0.49, 1.9, 40, dtype=torch.float64)[:, None].expand(-1, len(SHAPES))
    v, slope = bent(*SHAPES)(x)
    back, again = bent(*SHAPES).inverse(v)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(again, slope)
    for i, shape in enumerate(SHAPES):
        alone = bent(shape)(x[:, :1])
        torch.testing.assert_close(alone, (v[:, i : i + 1], slope[:, i : i + 1]))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_slope_is_the_derivative_and_tails_are_straight(shape: str):
    at = bent(shape)
    x = torch.linspace(-0.49, 1.9, 40, dtype=torch.float64, requires_grad=True)
    v, slope = at(x[:, None])
    (derivative,) = torch.autograd.grad(v.sum(), x)
    torch.testing.assert_close(slope[:, 0], derivative.log())
    assert (v[:, 0].diff() > 0).all()
    scores = torch.tensor([[-9.0], [-8.0], [-7.0], [7.0], [8.0], [9.0]], dtype=torch.float64)
    numbers, _ = bent("linear").inverse(scores)
    torch.testing.assert_close(numbers.diff(dim=0)[:2, 0], numbers.diff(dim=0)[[1, 0], 0])
    torch.testing.assert_close(bent("linear")(numbers)[0], scores)


def test_bounds_are_known_without_a_look_at_the_device():
    assert bent("linear", "log").is_bounded
    assert not bent("linear", "asinh").is_bounded
    assert bent("linear", "log", "logit").has("logit", "log").tolist() == [False, True, True]
