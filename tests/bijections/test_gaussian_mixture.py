"""Gaussian mixture couplings."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from helpers.bijections import randomize
from realnvp import vector_flow
from realnvp.bijections import ChannelMask, GaussianMixtureCoupling, gaussian_mixture
from realnvp.bijections.gaussian_mixture import (
    gaussianize,
    invert_mixture,
    normal_quantile,
    smooth_log_cdf,
    smooth_quantile,
)
from realnvp.conditioners import MLP

# ---------------------------------------------------------------------- the inverse

Mixture = tuple[Tensor, Tensor, Tensor, Tensor]


def problem(name: str, n: int = 1000, k: int = 6) -> Mixture:
    """Return targets ``(N,)``, log-weights, means and log-scales ``(K, N)`` of hard mixtures."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight, mean, scale = normal(n, k).T, 5 * normal(n, k).T, (2.5 * normal(n, k).T).clamp(-5, 5)
    z = 1.5 * normal(n)
    if name == "small weights":
        weight = 4 * weight
    elif name == "far":
        mean = 200 * mean
    elif name == "narrow":
        scale = torch.full_like(scale, -6.0)
        scale[-1], weight[-1] = 1.0, -10.0  # beside a wide one of little weight
    elif name == "flat":  # no density between two components
        mean, scale = 50 * torch.sign(mean), torch.zeros_like(scale)
        z = 1e-3 * z
    elif name == "tails":
        z = 6 * z
    elif name == "huge":
        z = torch.linspace(-40, 40, n, dtype=torch.float64)
    elif name == "equal":
        mean, scale = mean[:1].expand(k, n), scale[:1].expand(k, n)
    return z, weight.log_softmax(0), mean.contiguous(), scale.contiguous()


PROBLEMS = "usual", "small weights", "far", "narrow", "flat", "tails", "huge", "equal"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_inverse_is_exact_for_hard_mixtures(name, dtype):
    """Find x, or z, to a few units in the last place."""
    z, *mixture = (t.to(dtype) for t in problem(name))
    x, log_grad = invert_mixture(z, *mixture)
    _, expected = gaussianize(x, *mixture)
    assert torch.isfinite(log_grad).all()
    torch.testing.assert_close(log_grad, expected)
    # In double precision from here on: rounding in the map itself is not the search's.
    eps, size = torch.finfo(dtype).eps, x.abs() + mixture[1].abs().amax(0)
    low, high = ((x.double() + sign * 64 * eps * size.double()) for sign in (-1, 1))
    wide = [t.double() for t in mixture]
    below, above = gaussianize(low, *wide)[0], gaussianize(high, *wide)[0]
    slack = 64 * eps * (1 + z.double().abs())
    assert (below - slack <= z).all()
    assert (z <= above + slack).all()


@pytest.mark.parametrize(
    ("name", "mean", "most"), [("usual", 7, 25), ("narrow", 16, 60), ("far", 16, 60)]
)
def test_the_search_takes_few_evaluations(name, mean, most, monkeypatch):
    sizes, probit = [], gaussian_mixture._probit

    def counted(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(x))
        return probit(x, *parameters)

    monkeypatch.setattr(gaussian_mixture, "_probit", counted)
    z, *mixture = problem(name)
    invert_mixture(z, *mixture)
    assert sum(sizes) < mean * len(z)
    assert len(sizes) < most


def test_latents_that_are_no_numbers_end_the_search():
    _, *mixture = problem("usual", n=4)
    z = torch.tensor([math.nan, math.inf, -math.inf, 0.5], dtype=torch.float64)
    x, log_grad = invert_mixture(z, *mixture)
    assert torch.isnan(x[0])
    assert x[1:3].tolist() == [math.inf, -math.inf]
    assert torch.isfinite(x[3])
    assert torch.isfinite(log_grad[3])


@pytest.mark.parametrize("search", [gaussian_mixture._probit, gaussian_mixture._far_probit])
def test_derivatives_of_the_search_are_those_of_autograd(search):
    _, *mixture = problem("usual")
    x = (2 * torch.randn(1000, dtype=torch.float64)).requires_grad_()
    value, log_grad = gaussianize(x, *mixture)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(log_grad.sum(), x)
    weight = mixture[0] if search is gaussian_mixture._far_probit else mixture[0].exp()
    mean, rate = mixture[1], math.sqrt(0.5) / mixture[2].exp()
    found = search(x.detach(), weight, mean, rate)
    inner = value.abs() < 5  # beyond, the upper tail is 1 to rounding
    for one, other in zip(found, (value, first, second), strict=True):
        torch.testing.assert_close(one[inner], other[inner], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "log_weight", "x"), [(torch.float32, -120.0, 200.0), (torch.float64, -800.0, 600.0)]
)
def test_a_wide_component_rules_the_tail_even_if_its_weight_underflows(dtype, log_weight, x):
    columns = ([0.0, log_weight], [0.0, 0.0], [0.0, 2.3])
    mixture = [torch.tensor(values, dtype=dtype)[:, None] for values in columns]
    for value in (x, -x):
        point = torch.tensor([value], dtype=dtype)
        back, _ = invert_mixture(gaussianize(point, *mixture)[0], *mixture)
        torch.testing.assert_close(back, point, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["usual", "small weights", "tails"])
def test_derivatives_of_both_directions_with_respect_to_the_mixture(name):
    z, *mixture = problem(name, n=2, k=2)
    mixture[2] = mixture[2].clamp(-1, 1)
    x = invert_mixture(z, *mixture)[0]
    for function, first in ((gaussianize, x), (invert_mixture, z)):
        inputs = [t.clone().requires_grad_() for t in (first, *mixture)]
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


def test_the_hessian_of_a_log_density_is_that_of_finite_differences():
    flow = randomize(vector_flow(2, coupling="gaussian_mixture", couplings=2, hidden=8)).double()
    point = torch.tensor([0.3, -0.7], dtype=torch.float64)

    def log_prob(x: Tensor) -> Tensor:
        return flow.log_prob(x[None])[0]

    def grad(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(log_prob(x), x)[0]

    found = torch.autograd.functional.hessian(log_prob, point)
    steps = 1e-5 * torch.eye(2, dtype=torch.float64)
    expected = torch.stack([(grad(point + s) - grad(point - s)) / 2e-5 for s in steps])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


# ---------------------------------------------------------------------- the start


@pytest.mark.parametrize("components", [1, 2, 3, 4, 5, 6, 8, 16])
def test_mixtures_start_near_the_identity_with_all_components(components: int):
    layer = GaussianMixtureCoupling(
        ChannelMask(), MLP(1, 3 * components, hidden=4, blocks=1), 1, components=components
    )
    x = torch.stack((torch.zeros(401), torch.linspace(-2, 2, 401)), dim=1)
    z, log_det = layer(x)
    assert (z - x).abs().max() < 0.05
    (0.5 * z.square().sum() - log_det.sum()).backward()
    grads = layer.conditioner.last.bias.grad.view(3, components)
    assert (grads[1:].abs().amax(1) > 0).all()
    if components > 1:
        weights = layer.start[0].softmax(0)
        assert weights.min() > 1e-4, "no component is dead from the start"


def test_the_quantile_has_derivatives_of_first_and_second_order():
    log_p = torch.tensor([-300.0, -80.5, -12.0, -0.7, -1e-3], dtype=torch.float64)
    assert torch.equal(smooth_quantile(log_p), normal_quantile(log_p))
    log_p.requires_grad_()
    assert torch.allclose(smooth_quantile(log_p), normal_quantile(log_p), rtol=1e-12)
    assert torch.autograd.gradcheck(smooth_quantile, log_p)
    assert torch.autograd.gradgradcheck(smooth_quantile, log_p)


# ---------------------------------------------------------------------- tails


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [100.0, 1e3, 1e4, 1e5, 1e7])
def test_gradients_of_small_probabilities_are_exact(far: float, dtype: torch.dtype):
    """PyTorch's own gradient of ``log_ndtr`` is six times too large at -10,000 in float32."""
    z = torch.tensor([-far], dtype=dtype, requires_grad=True)
    exact = far + 1 / far - 2 / far**3  # of log Phi; the inverse has the reciprocal
    log_p = smooth_log_cdf(z)
    (slope,) = torch.autograd.grad(log_p, z, create_graph=True)
    (bend,) = torch.autograd.grad(slope, z)
    assert slope.item() == pytest.approx(exact, rel=1e-6)
    assert bend.item() == pytest.approx(-1 + 1 / far**2, rel=1e-5)
    back = log_p.detach().requires_grad_()
    (slope,) = torch.autograd.grad(smooth_quantile(back), back)
    assert slope.item() == pytest.approx(1 / exact, rel=1e-6)


def test_a_coupling_that_was_made_without_values_gets_its_constants():
    """As for sharded models: construction on the meta device, then the weights of a file."""
    with torch.device("meta"):
        flow = vector_flow(3, coupling="gaussian_mixture", couplings=2, hidden=8, norm="none")
    like = vector_flow(3, coupling="gaussian_mixture", couplings=2, hidden=8, norm="none")
    flow.to_empty(device="cpu").load_state_dict(like.state_dict())
    x = torch.randn(5, 3)
    assert torch.equal(flow.log_prob(x), like.log_prob(x))
