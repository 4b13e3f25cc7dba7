"""Normalization: formulas, gradients, and which mode moves what."""

from __future__ import annotations

import math

import pytest
import torch

from realnvp.bijections import (
    ActNorm,
    RunningBatchNorm,
)


def test_running_batch_norm_follows_its_formula():
    layer = RunningBatchNorm(2, momentum=0.25)
    first, second = torch.randn(64, 2, 3, 3), 3 * torch.randn(64, 2, 3, 3) + 1
    layer(first)
    torch.testing.assert_close(layer.running_mean, first.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, first.var((0, 2, 3), correction=0))
    z, log_det = layer(second)
    mean = 0.75 * first.mean((0, 2, 3)) + 0.25 * second.mean((0, 2, 3))
    var = 0.75 * first.var((0, 2, 3), correction=0) + 0.25 * second.var((0, 2, 3), correction=0)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, var)
    expected = (second - mean[:, None, None]) / (var[:, None, None] + layer.eps).sqrt()
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(log_det, (-0.5 * 9 * (var + layer.eps).log().sum()).expand(64))


def test_running_batch_norm_has_gradients_through_the_batch_part_only():
    layer = RunningBatchNorm(1, momentum=0.25).double()
    layer(torch.randn(8, 1, dtype=torch.float64))
    state = {name: value.clone() for name, value in layer.state_dict().items()}

    def loss(x, frozen_mean, frozen_var):
        mean = 0.75 * frozen_mean + 0.25 * x.mean()
        var = 0.75 * frozen_var + 0.25 * x.var(correction=0)
        return (((x - mean) / (var + layer.eps).sqrt()) ** 3).sum() - 4 * (var + layer.eps).log()

    x = torch.randn(8, 1, dtype=torch.float64, requires_grad=True)
    z, log_det = layer(x)
    ((z**3).sum() + log_det.sum()).backward()
    y = x.detach().clone().requires_grad_()
    loss(y, state["running_mean"], state["running_var"]).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_running_batch_norm_evaluation_moves_nothing():
    layer = RunningBatchNorm(2)
    layer(torch.randn(16, 2))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.eval()(torch.randn(16, 2) + 10)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_running_batch_norm_has_no_inverse_while_training():
    with pytest.raises(RuntimeError, match="eval"):
        RunningBatchNorm(2).inverse(torch.zeros(1, 2))


def test_actnorm_initializes_from_data_only():
    layer = ActNorm(2)
    layer.inverse(torch.randn(8, 2))
    layer.eval()(torch.randn(8, 2) + 5)
    assert not layer.initialized
    x = torch.stack((5 + 2 * torch.randn(100), torch.full((100,), 3.0)), dim=1)
    z, _ = layer.train()(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    assert z[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert layer.log_scale[1].item() == pytest.approx(math.log(1e-3))  # a constant column
    state = layer.state_dict()
    other = ActNorm(2)
    other.load_state_dict(state)
    other(torch.randn(8, 2))  # initialized before: must not do so again
    assert torch.equal(other.shift, layer.shift)


def test_a_single_value_has_no_variance():
    """It would be normalized to zero, and its log-determinant would grow without bound."""
    layer = RunningBatchNorm(2)
    with pytest.raises(ValueError, match="one value per channel has no variance"):
        layer(torch.ones(1, 2))
    assert not layer.initialized
    layer(torch.ones(1, 2, 2, 1))  # of two pixels
    layer.eval()(torch.ones(1, 2))


@pytest.mark.parametrize("layer", [ActNorm(3), RunningBatchNorm(3)])
def test_the_first_batch_has_the_channels_of_the_layer(layer):
    with pytest.raises(ValueError, match="the layer has 3 channels"):
        layer(torch.randn(5, 2))
