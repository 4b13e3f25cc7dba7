"""The invertible linear layer."""

from __future__ import annotations

import pytest
import torch

from helpers.bijections import randomize
from realnvp.bijections import ActNorm, InvertibleLinear, RunningBatchNorm


def test_it_multiplies_by_lower_times_upper():
    layer = randomize(InvertibleLinear(3).double())
    lower = layer.triangles.tril(-1) + torch.eye(3)
    upper = layer.triangles.triu(1) + torch.diag(layer.log_diagonal.exp())
    x = torch.randn(5, 3, dtype=torch.float64)
    z, log_det = layer(x)
    torch.testing.assert_close(z, x @ (lower @ upper).T)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(lower @ upper)[1].expand(5))


def test_on_images_it_is_a_1x1_convolution_whose_log_counts_every_pixel():
    layer = randomize(InvertibleLinear(3).double())
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    z, log_det = layer(x)
    pixels = x.movedim(1, -1).reshape(-1, 3)
    torch.testing.assert_close(z.movedim(1, -1).reshape(-1, 3), layer(pixels)[0])
    torch.testing.assert_close(log_det, 20 * layer(pixels)[1][:2])


@pytest.mark.parametrize("layer", [InvertibleLinear(1), ActNorm(1), RunningBatchNorm(1)])
def test_other_channels_are_refused_instead_of_broadcast(layer):
    with pytest.raises(ValueError, match="1 channel, but its input has the shape"):
        layer.eval()(torch.zeros(3, 4))


def test_autocast_is_for_networks_only():
    layer = InvertibleLinear(3)
    torch.nn.init.normal_(layer.triangles)
    x = torch.randn(5, 3)
    exact, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = layer(x)
        back, _ = layer.inverse(z)
    assert torch.equal(z, exact)
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4)
