"""The mixture coupling's inverse and tails, and the noise that a flow learns."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.bijections import randomize
from realnvp import Chain, Flow, image_flow
from realnvp.bijections import Dequantize, VariationalDequantize
from realnvp.bijections import logistic_mixture as mixture
from realnvp.bijections.logistic_mixture import _inverse_logit_cdf, _logit_cdf


def random_mixture(dtype: torch.dtype, n: int = 2000, components: int = 5) -> list[torch.Tensor]:
    """Hard ones: narrow and wide components, far apart, with weights down to nothing."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(3, n, components, 1, generator=generator, dtype=torch.float64)
    weights, means, scales = 4 * draw[0], 5 * draw[1], (2.5 * draw[2]).clamp(-5, 5)
    return [t.to(dtype) for t in (torch.log_softmax(weights, 1), means, scales)]


def test_the_slope_is_that_of_autograd():
    parameters = random_mixture(torch.float64)
    x = (4 * torch.randn(2000, 1, dtype=torch.float64)).requires_grad_()
    value, log_grad = _logit_cdf(x, *parameters)
    (grad,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(log_grad.exp(), grad, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1, 6, 60, 1000])
def test_inverse_reaches_the_target(dtype, spread):
    parameters = random_mixture(dtype)
    generator = torch.Generator().manual_seed(1)
    target = spread * torch.randn(2000, 1, generator=generator, dtype=dtype)
    x = _inverse_logit_cdf(target, *parameters)
    value, log_grad = _logit_cdf(x, *parameters)
    # The error in x: that of the value, over the slope; a few units in the last place of x.
    error = (value - target).abs() * torch.exp(-log_grad)
    eps = torch.finfo(dtype).eps
    tolerance = 64 * eps * (x.abs() + parameters[1].abs().amax(1) + 1)
    assert ((error <= tolerance) | ((value - target).abs() <= 64 * eps * target.abs())).all()


def test_the_search_takes_few_evaluations(monkeypatch):
    sizes, search = [], mixture._logit

    def counted(x, *parameters):
        sizes.append(len(x))
        return search(x, *parameters)

    monkeypatch.setattr(mixture, "_logit", counted)
    parameters = random_mixture(torch.float64)
    target = 3 * torch.randn(2000, 1, dtype=torch.float64)
    _inverse_logit_cdf(target, *parameters)
    assert sum(sizes) < 7 * 2000
    assert len(sizes) < 40


@pytest.mark.parametrize("search", [mixture._logit, mixture._far_logit])
def test_derivatives_of_the_search_are_those_of_autograd(search):
    log_weight, mean, log_scale = (t[..., 0].T for t in random_mixture(torch.float64, 500))
    parameters = log_weight.exp(), mean, (-log_scale).exp()
    x = (3 * torch.randn(500, dtype=torch.float64)).requires_grad_()
    value, slope, bend = search(x, *parameters)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(slope, first, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(bend, second / first, rtol=1e-5, atol=1e-5)


def test_far_tails_are_finite():
    parameters = random_mixture(torch.float32)
    x = torch.tensor([-1e6, -1e3, 1e3, 1e6]).repeat(500)[:, None]
    value, log_grad = _logit_cdf(x, *parameters)
    assert torch.isfinite(value).all()
    assert torch.isfinite(log_grad).all()


def test_components_become_different():
    """Equal components would get equal gradients: their own factors must break the tie."""
    flow = image_flow(
        (1, 4, 4), coupling="logistic_mixture", hidden=4, blocks=1, norm="none", scales=1
    )
    x = torch.randint(0, 256, (32, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        sum(flow.loss_terms(x.to(torch.uint8)).values()).backward()
        optimizer.step()
    layer = flow.bijection[2]
    passive, active = layer.mask.split(torch.randn(2, 1, 4, 4))
    _, _, _, means, _ = layer._unpack(active, layer.mask.take(layer.conditioner(passive)))
    assert means.std(dim=1).min() > 1e-3


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

    from helpers.flows import UniformToNormal
    from realnvp.evaluation import log_likelihood

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
