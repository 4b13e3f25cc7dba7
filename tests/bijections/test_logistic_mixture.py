"""The logistic mixture coupling: its inverse, its tails and its components."""

from __future__ import annotations

import pytest
import torch

from realnvp import image_flow
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
    weight = log_weight if search is mixture._far_logit else log_weight.exp()
    parameters = weight, mean, (-log_scale).exp()
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


def test_a_wide_component_rules_the_tail_even_if_its_weight_underflows():
    columns = ([0.0, -150.0], [0.0, 0.0], [0.0, 2.3])
    parameters = [torch.tensor(values)[None, :, None] for values in columns]
    x = torch.tensor([[4000.0], [-4000.0]])
    back = _inverse_logit_cdf(
        _logit_cdf(x, *parameters)[0], *(p.expand(2, -1, -1) for p in parameters)
    )
    torch.testing.assert_close(back, x, rtol=1e-5, atol=0)


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
