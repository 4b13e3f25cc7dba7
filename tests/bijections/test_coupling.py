"""Couplings and their masks."""

from __future__ import annotations

import pytest
import torch

from helpers.bijections import affine
from realnvp.bijections import AffineCoupling, BlockMask, ChannelMask, CheckerboardMask, Coupling
from realnvp.conditioners import MLP, ResNet


def test_checkerboard_counts_active_squares_only():
    layer = affine(CheckerboardMask(), 1)
    torch.nn.init.constant_(layer.conditioner.last.bias, 100.0)  # tanh = 1 everywhere
    _, log_det = layer.eval()(torch.zeros(2, 1, 3, 3))
    torch.testing.assert_close(log_det, torch.full((2,), 4.0))  # 4 of 9 squares, scale 1 each


def test_checkerboard_leaves_passive_squares_alone():
    layer = affine(CheckerboardMask(True), 1)
    torch.nn.init.normal_(layer.conditioner.last.weight)
    x = torch.randn(2, 1, 4, 4)
    changed = layer.eval()(x)[0] != x
    odd = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == 1
    assert not changed[:, :, odd].any()
    assert changed[:, :, ~odd].all()


def test_scale_is_bounded_smoothly():
    layer = affine(CheckerboardMask(), 1)
    torch.nn.init.constant_(layer.conditioner.last.bias, 1e4)
    log_scale, _ = layer._scale_shift(layer.conditioner(torch.zeros(1, 1, 2, 2)))
    assert log_scale.abs().max() <= layer.scale.abs().max()
    assert layer.penalty().item() == pytest.approx(1.0)


def test_parameters_of_images_are_not_in_small_pieces():
    layer = AffineCoupling(ChannelMask(), ResNet(1, 2, hidden=4, blocks=0), channels=1)
    passive = torch.randn(2, 1, 4, 4).to(memory_format=torch.channels_last)
    assert layer.compute_parameters(passive, None).is_contiguous()


@pytest.mark.parametrize(
    ("coupling", "shape"),
    [
        (AffineCoupling(ChannelMask(), MLP(2, 2, 8, 1), 1), (3, 4)),
        (AffineCoupling(CheckerboardMask(), ResNet(2, 2, 8, 1), 1), (3, 2, 4, 4)),
    ],
    ids=["vectors", "images"],
)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_too_few_parameters_are_refused_instead_of_broadcast(coupling, shape, direction):
    with pytest.raises(ValueError, match="conditioner"):
        getattr(coupling, direction)(torch.zeros(shape))


def test_log_derivatives_that_are_no_tensor():
    class Additive(Coupling):
        @staticmethod
        def num_params():
            return 1

        def transform(self, active, parameters):
            return active + parameters, 0.0

        def inverse_transform(self, active, parameters):
            return active - parameters, 0.0

    layer = Additive(ChannelMask(), MLP(1, 1, hidden=4, blocks=0), 1)
    for call in (layer, layer.inverse):
        with pytest.raises(ValueError, match=r"type float, not a tensor of shape \(3, 1\)"):
            call(torch.zeros(3, 2))


def test_a_checkerboard_of_vectors_is_refused():
    """Its rows would be the examples, whose densities would depend on their place in the batch."""
    layer = AffineCoupling(CheckerboardMask(), MLP(4, 8, 8, 1), 2)
    for direction in (layer, layer.inverse):
        with pytest.raises(ValueError, match="vectors need a ChannelMask"):
            direction(torch.randn(6, 4))


def test_blocks_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="3 blocks cannot be block 3"):
        BlockMask(3, 3)
    with pytest.raises(ValueError, match="4 channels have no 3 equal blocks"):
        BlockMask(1, 3).split(torch.zeros(2, 4))
