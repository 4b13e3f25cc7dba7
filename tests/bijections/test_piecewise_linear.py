"""Piecewise-linear couplings.

Invertibility and the log-determinant are tested in ``test_base.py``, for all bijections.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch.distributions import Normal

from helpers.bijections import piecewise_linear, randomize
from realnvp.bijections import PiecewiseLinearCoupling


@pytest.fixture
def layer() -> PiecewiseLinearCoupling:
    return randomize(piecewise_linear(1, 2).double(), last=2.0).eval()  # type: ignore[return-value]


def test_intervals_have_the_probabilities_of_the_softmax(layer):
    given = torch.randn(3, 2).double()
    logits = layer.conditioner(torch.zeros(3, 0).double(), given)
    expected = (layer.edges.diff().log() + logits).softmax(1)
    u = (torch.arange(200).double() + 0.5) / 200
    for k in range(4):
        low, high = layer.edges[k], layer.edges[k + 1]
        x = torch.special.ndtri(low + (high - low) * u)[:, None]
        for i in range(3):
            z, log_det = layer(x, given[i].expand(200, -1))
            # The density of x, divided by that of a standard normal, is constant within.
            ratio = (Normal(0, 1).log_prob(z) - Normal(0, 1).log_prob(x))[:, 0] + log_det
            mass = ratio.exp() * (high - low)
            torch.testing.assert_close(mass, expected[i, k].expand(200), rtol=1e-9, atol=2e-4)


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
def test_far_tails_are_mapped_and_come_back(layer, dtype: torch.dtype, digits: float):
    layer = layer.to(dtype)
    x = torch.tensor([-1e4, -300.0, -30.0, -9.0, 9.0, 30.0, 300.0, 1e4], dtype=dtype)[:, None]
    given = torch.randn(1, 2, dtype=dtype).expand(len(x), -1)
    z, log_det = layer(x, given)
    assert (z.diff(dim=0) > 0).all()
    assert torch.isfinite(log_det).all()
    torch.testing.assert_close(layer.inverse(z, given)[0], x, rtol=digits, atol=digits)


def test_derivatives_of_second_order(layer):
    layer.conditioner.requires_grad_(False)
    given = torch.randn(2, 2).double()
    x = torch.tensor([[-1.7], [0.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, c: layer(x, c), (x, given.requires_grad_()))


def test_edges_stay_exact_and_are_checked(layer):
    assert layer.float().edges.dtype == torch.float64
    for bad in ([0, 0.5, 0.5, 0.7, 1], [0.1, 0.2, 0.3, 0.4, 1], [0, 0.2, 0.3, 0.4, 0.9]):
        with pytest.raises(ValueError, match="edges must ascend from 0 to 1"):
            layer.fill({"edges": torch.tensor(bad)})


@pytest.mark.parametrize("far", [1e3, 1e5, 1e7])
def test_far_values_have_gradients_in_float32(layer, far: float):
    x, condition = torch.tensor([[far], [-far], [far / 2]]).double(), torch.randn(3, 2).double()
    grads, values = [], []
    for each, inputs in ((layer, x), (copy.deepcopy(layer).float(), x.float())):
        inputs.requires_grad_()
        z, log_det = each(inputs, condition.to(inputs.dtype))
        log_p = log_det - 0.5 * z.square()[:, 0]
        values.append(log_p.double())
        grads.append(torch.autograd.grad(log_p.sum(), inputs)[0].double())
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-5, atol=1e-4)
