"""Dequantization: the noise, and what comes back."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.bijections import randomize
from helpers.flows import UniformToNormal
from realnvp import Chain, Flow, image_flow
from realnvp.bijections import (
    Dequantize,
    VariationalDequantize,
)
from realnvp.columns.layer import TableColumns
from realnvp.evaluation import log_likelihood


def test_dequantize_stays_in_its_level_and_inverts():
    x = torch.arange(256, dtype=torch.uint8).repeat(100, 1)
    layer = Dequantize(256)
    v, log_det = layer(x)
    assert (torch.floor(v.double() * 256 + 1e-4) >= x).all()
    assert v.max() <= 1
    torch.testing.assert_close(log_det, torch.full((100,), -256 * math.log(256)))
    assert torch.equal(layer.inverse(layer(x, margin=0.02)[0])[0], x)


def test_dequantize_repeats_with_a_generator():
    layer, x = Dequantize(4), torch.zeros(2, 5, dtype=torch.uint8)
    draws = []
    for _ in range(2):
        draws.append(layer(x, noise=torch.Generator().manual_seed(3))[0])
    assert torch.equal(*draws)


@pytest.mark.parametrize(("levels", "message"), [(1, "at least 2"), (2**16 + 1, "at most 65536")])
def test_dequantize_refuses_levels(levels: int, message: str):
    with pytest.raises(ValueError, match=message):
        Dequantize(levels)


def test_differs_sees_nan_and_the_integer_columns_only():
    layer = Dequantize(4)
    x = torch.tensor([[0, 3]])
    assert layer.differs(x, torch.tensor([[math.nan, 0.9]])).tolist() == [[True, False]]
    columns = TableColumns([{"kind": "plain"}, {"kind": "plain", "step": True}])
    values = torch.tensor([[0.5, 3.0]])
    assert not columns.differs(values, torch.tensor([[0.7, 3.9]])).any()
    assert columns.differs(values, torch.tensor([[0.5, 4.0]])).tolist() == [[False, True]]


# ---------------------------------------------------------------------- learned noise


def learned_noise(levels: int = 5) -> VariationalDequantize:
    flow = image_flow((1, 4, 4), levels=levels, dequantization="variational", hidden=4, blocks=1)
    return randomize(flow.bijection[0]).eval()


def test_learned_noise_stays_in_its_level_and_inverts():
    layer = learned_noise()
    x = torch.randint(0, 5, (200, 1, 4, 4), dtype=torch.uint8)
    v, _ = layer(x)
    assert (v * 5 >= x - 1e-4).all()
    assert (v * 5 <= x + 1 + 1e-4).all()
    assert torch.equal(layer.inverse(layer(x, margin=0.02)[0])[0], x)


def test_learned_noise_starts_uniform():
    flow = image_flow((1, 4, 4), dequantization="variational", hidden=4, blocks=1)
    x = torch.zeros(4000, 1, 4, 4, dtype=torch.uint8)
    v, log_det = flow.bijection[0](x)
    torch.testing.assert_close(log_det, Dequantize(256)(x)[1], rtol=0, atol=1e-3)
    u = v.flatten() * 256
    assert u.mean().item() == pytest.approx(0.5, abs=0.01)
    assert u.var().item() == pytest.approx(1 / 12, abs=0.002)


def test_density_of_the_noise_is_normalized():
    """E_q[1 / q] is the volume of the cube, 1, for any q: on two pixels, with random weights."""
    flow = image_flow((2, 1, 1), levels=3, scales=1, dequantization="variational",
                      hidden=4, blocks=1)  # fmt: skip
    layer = randomize(flow.double().bijection[0], last=0.5).eval()
    x = torch.ones(200_000, 2, 1, 1, dtype=torch.uint8)
    with torch.no_grad():
        _, log_det = layer(x)
    inverse_q = (log_det + 2 * math.log(3)).exp()
    error = (inverse_q.std() / math.sqrt(len(x))).item()
    assert inverse_q.std() > 0.05  # random weights are not uniform
    assert inverse_q.mean().item() == pytest.approx(1, abs=4 * error)


def test_bound_of_learned_noise_is_below_the_probability():
    """Under a model that is uniform on the unit cube, P(x) = K^-D exactly: the bound is below it,
    and importance weights close the gap."""

    flow = Flow(Chain(learned_noise().double(), UniformToNormal()), (1, 4, 4))
    x = torch.randint(0, 5, (200, 1, 4, 4), dtype=torch.uint8)
    truth = -16 * math.log(5)
    with torch.no_grad():
        one = log_likelihood(flow, x).mean().item()
        many = log_likelihood(flow, x, samples=64).mean().item()
    assert one < many < truth + 0.02
    assert truth - many < 0.5 * (truth - one)


@pytest.mark.parametrize(
    "options",
    [
        {"coupling": "logistic_mixture"},
        {"dequantization": "variational"},
        {"split_prior": True, "coupling": "logistic_mixture", "dequantization": "variational"},
    ],
)
def test_round_trip_of_every_option_is_pixel_exact(options):
    flow = image_flow((1, 8, 8), hidden=8, blocks=1, norm="act", conditioner_norm="none", **options)
    flow = randomize(flow, last=0.1).eval()
    x = torch.randint(0, 256, (1000, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(flow.decode(flow.encode(x)), x)


def test_conditional_noise():
    flow = image_flow((1, 4, 4), dequantization="variational", hidden=4, blocks=1, classes=3)
    flow = randomize(flow).eval()
    x = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    first, second = (flow.bijection[0](x, torch.eye(3)[[label, label]])[1] for label in (0, 1))
    assert not torch.equal(first, second)
    assert flow.sample(2, condition=torch.tensor([0, 1])).shape == (2, 1, 4, 4)
