"""Posteriors whose truth is known."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Exponential, LogNormal, Uniform

from realnvp import PosteriorEstimator

FAST = {"max_steps": 400}


@pytest.fixture(scope="module")
def uniform() -> tuple[PosteriorEstimator, torch.Tensor, torch.Tensor]:
    """A linear Gaussian whose posterior the prior cuts off."""
    torch.manual_seed(0)
    theta = 2 * torch.rand(3000, 2) - 1
    x = theta + 0.4 * torch.randn(3000, 2)
    bounds = ([-1.0, -1.0], [1.0, 1.0])
    return PosteriorEstimator(bounds, settings=FAST).fit(theta, x), theta, x


def test_a_uniform_prior_cuts_the_posterior_off_without_leakage(uniform):
    posterior, _, _ = uniform
    draws = posterior.sample(4000, [0.9, 0.0], torch.Generator().manual_seed(0))
    assert (draws.abs() <= 1).all()
    grid = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    truth = torch.exp(-0.5 * ((grid - 0.9) / 0.4) ** 2)
    truth = truth / truth.sum()
    assert abs(draws[:, 0].mean() - truth @ grid) < 0.05
    near_the_edge = (draws[:, 0] > 0.8).double().mean()
    assert abs(near_the_edge - truth[grid > 0.8].sum()) < 0.05
    assert posterior.log_prob([[1.1, 0.0], [0.5, 0.0]], [0.9, 0.0]).isfinite().tolist() == [
        False,
        True,
    ]
    mode = posterior.map([0.0, 0.0])
    assert mode.abs().max() < 0.2


def test_samples_of_several_observations_have_their_densities(uniform):
    posterior, theta, x = uniform
    draws, log_prob = posterior.sample_and_log_prob(7, x[:3])
    assert draws.shape == (3, 7, 2)
    again = posterior.log_prob(draws[1], x[1])
    assert torch.allclose(again, log_prob[1], atol=1e-5)
    assert posterior.log_prob(theta[:5], x[:5]).shape == (5,)


def test_a_saved_posterior_is_the_same(uniform, tmp_path):
    posterior, theta, x = uniform
    posterior.save(tmp_path)
    loaded = PosteriorEstimator.load(tmp_path)
    assert torch.equal(loaded.log_prob(theta[:9], x[:9]), posterior.log_prob(theta[:9], x[:9]))


@pytest.mark.parametrize("prior", [LogNormal(0.0, 1.0), Exponential(torch.tensor([1.0]))])
def test_half_lines_hold_all_samples_and_seeds_reproduce(prior):
    torch.manual_seed(0)
    theta = prior.sample((400,)).reshape(-1)
    x = theta.log() + 0.3 * torch.randn(400)
    settings = {"max_steps": 50, "members": 1}
    one, two = (PosteriorEstimator(prior, settings=settings).fit(theta, x) for _ in range(2))
    draws = one.sample(500, [-4.0], torch.Generator().manual_seed(1))
    assert draws.shape == (500, 1)
    assert (draws > 0).all()
    assert torch.equal(draws, two.sample(500, [-4.0], torch.Generator().manual_seed(1)))


def test_rounds_narrow_the_prior():
    seen = []

    def simulator(theta: torch.Tensor) -> torch.Tensor:
        seen.append(theta)
        return theta + 0.1 * torch.randn_like(theta)

    posterior = PosteriorEstimator(Uniform(-torch.ones(2), torch.ones(2)), settings=FAST)
    posterior.fit_rounds(simulator, [0.3, 0.0], rounds=2, simulations=500)
    assert (seen[1][:, 0] - 0.3).abs().mean() < 0.7 * (seen[0][:, 0] - 0.3).abs().mean()
    assert abs(posterior.sample(500, [0.3, 0.0])[:, 0].mean() - 0.3) < 0.1


def test_bad_input_is_refused_in_one_sentence():
    theta, x = torch.rand(100, 2), torch.randn(100, 3)
    bounds = ([0.0, 0.0], [1.0, 0.5])
    with pytest.raises(ValueError, match="outside of the prior's support, the first at index"):
        PosteriorEstimator(bounds).fit(theta, x)
    with pytest.raises(ValueError, match="2 parameters, but the prior has 3"):
        PosteriorEstimator(([0.0] * 3, [1.0] * 3)).fit(theta, x)
    x[[3, 7], 1] = torch.nan
    with pytest.raises(ValueError, match=r"2 of 100 simulations \(2.0%\), at the indices 3, 7"):
        PosteriorEstimator().fit(theta, x)
    fitted = PosteriorEstimator(missing="drop", settings={"max_steps": 5}).fit(theta, x)
    with pytest.raises(ValueError, match=r"x has the shape \(3,\)"):
        fitted.sample(3, torch.zeros(2))
    with pytest.raises(ValueError, match="call fit first"):
        PosteriorEstimator().sample(3, torch.zeros(2))
    with pytest.raises(ValueError, match="rounds draw parameters from the prior"):
        PosteriorEstimator().fit_rounds(lambda t: t, [0.0])
