"""The search for roots: exact in hard cases, in a bounded number of evaluations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from realnvp.bijections.root_finding import MAX_ITERATIONS, find_root, implicit_inverse


class Counted:
    """A map that counts its evaluations, and those of all elements."""

    def __init__(self, function):
        self.function, self.calls, self.elements = function, 0, 0

    def __call__(self, x: Tensor, *parameters: Tensor):
        self.calls += 1
        self.elements += len(x)
        return self.function(x, *parameters)


def bisect(function, target: Tensor, low: Tensor, high: Tensor) -> Tensor:
    for _ in range(120):
        middle = low + 0.5 * (high - low)
        below = function(middle)[0] < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low + 0.5 * (high - low)


def cube(x):
    return x**3, 3 * x**2, 2 / x


def flat_then_steep(x):
    """Nearly constant around zero."""
    return x**9, 9 * x**8, 8 / x


def exponential(x):
    return x.exp(), x.exp(), torch.ones_like(x)


def saturated(x):
    """Constant to rounding on most of its range."""
    y = torch.tanh(x)
    return y, 1 - y**2, -2 * y


def broken_derivatives(x):
    return x**3, torch.full_like(x, math.nan), torch.full_like(x, math.inf)


MAPS = {
    "cube": (cube, -8.0, 27.0),
    "flat then steep": (flat_then_steep, -1.0, 10.0),
    "exponential": (exponential, 1e-3, 1e30),
    "saturated": (saturated, -0.999, 0.999),
    "broken derivatives": (broken_derivatives, -8.0, 27.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MAPS)
def test_it_finds_what_bisection_finds(name, dtype):
    function, first, last = MAPS[name]
    target = torch.linspace(first, last, 1000, dtype=dtype)
    low, high = torch.full_like(target, -100.0), torch.full_like(target, 80.0)
    counted = Counted(function)
    x = find_root(counted, target, low, high, start=torch.full_like(target, 60.0))
    expected = bisect(function, target, low, high)
    eps = torch.finfo(dtype).eps
    close = (x - expected).abs() <= 8 * eps * (1 + expected.abs())
    reached = (function(x)[0] - target).abs() <= 8 * eps * (1 + target.abs())
    assert (close | reached).all()
    assert counted.calls < MAX_ITERATIONS / 2


def test_elements_that_are_done_leave_the_batch():
    """Pay for one element that takes many evaluations as if it were alone."""
    target = torch.full((10_000,), 2.0, dtype=torch.float64)
    target[0] = 1e-30
    counted = Counted(flat_then_steep)
    find_root(counted, target, 0 * target - 1, 0 * target + 2, start=0 * target + 1)
    assert counted.calls > 8
    assert counted.elements < 6 * len(target)


def test_no_value_is_an_endless_loop():
    bad = torch.tensor([math.nan, math.inf, -math.inf, 1.0, 1.0, 1.0, 1.0])
    low = torch.tensor([0.0, 0.0, 0.0, math.nan, 2.0, -math.inf, math.inf])
    high = torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0, math.inf, math.inf])
    counted = Counted(cube)
    x = find_root(counted, bad, low, high, start=torch.ones(7))
    assert counted.calls <= MAX_ITERATIONS
    assert torch.isnan(x[3])
    assert x[4] == 2.0
    # all brackets are empty, or nothing is to be solved
    assert find_root(counted, bad[:0], low[:0], high[:0], start=bad[:0]).shape == (0,)


def test_far_targets_have_a_map_of_their_own():
    def near(x):
        assert (x.abs() <= 10).all()
        return cube(x)

    target = torch.tensor([8.0, 1e6, -8.0, -1e6], dtype=torch.float64)
    low, high = target.abs().pow(1 / 3) * target.sign() - 1, target.abs().pow(1 / 3) + 1
    x = find_root(near, target, low.clamp(max=9), high.clamp(max=200), low, far=cube, limit=1e3)
    torch.testing.assert_close(x**3, target)


def test_an_implicit_inverse_has_derivatives_of_any_order():
    def forward(x, a):
        return a * x**3 + x, (3 * a * x**2 + 1).log()

    def solve(y, a):
        def evaluate(x, a):
            return a * x**3 + x, 3 * a * x**2 + 1, 6 * a * x / (3 * a * x**2 + 1)

        return find_root(evaluate, y, -y.abs(), y.abs(), 0 * y, (a,))

    y = torch.randn(5, dtype=torch.float64, requires_grad=True)
    a = (torch.rand(5, dtype=torch.float64) + 0.5).requires_grad_()

    def inverse(y, a):
        return implicit_inverse(forward, solve, y, (a,))

    assert torch.autograd.gradcheck(inverse, (y, a))
    assert torch.autograd.gradgradcheck(inverse, (y, a))

    def second(y, a):
        first = torch.autograd.grad(inverse(y, a).sum(), (y, a), create_graph=True)
        return torch.autograd.grad(sum(g.sum() for g in first), (y, a), create_graph=True)

    assert torch.autograd.gradgradcheck(second, (y, a))
    # only what wants a gradient gets one
    (grad,) = torch.autograd.grad(inverse(y, a.detach()).sum(), y)
    assert torch.isfinite(grad).all()
    inverse(y.detach(), a).sum().backward()
    assert a.grad is not None
