"""Posteriors whose truth is known."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch.distributions import Exponential, LogNormal, Uniform

from realnvp import PosteriorEstimator
from realnvp.posterior import local_c2st, predictive
from realnvp.posterior.priors import SAVED, as_prior, prior_from_json, prior_to_json

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
    assert torch.equal(loaded.prior.base_dist.low, torch.tensor([-1.0, -1.0]))
    notes = tmp_path / "posterior.json"
    notes.write_text(notes.read_text().replace("Uniform", "Unicorn"))
    with pytest.raises(ValueError, match="corrupt"):
        PosteriorEstimator.load(tmp_path)


def test_a_prior_that_cannot_be_saved_is_asked_for(uniform, tmp_path):
    class Ours(Uniform):
        pass

    posterior = copy.copy(uniform[0])
    posterior.prior = as_prior(Ours(-torch.ones(2), torch.ones(2)).expand((2,)))
    with pytest.warns(UserWarning, match="pass it again to load"):
        posterior.save(tmp_path)
    assert PosteriorEstimator.load(tmp_path).prior is None
    assert PosteriorEstimator.load(tmp_path, posterior.prior).prior is posterior.prior


@pytest.mark.parametrize("name", SAVED)
def test_common_priors_are_saved_exactly(name):
    values = {"low": [-0.1, 2.0], "high": [1 / 3, 2.5]}
    tensors = {key: torch.tensor(values.get(key, [0.7, 2.0])) for key in SAVED[name]}
    if "scale_tril" in tensors:
        tensors["scale_tril"] = torch.tensor([[0.7, 0.0], [0.3, 1.1]]).double()
        tensors["loc"] = tensors["loc"].double()
    prior = as_prior(getattr(torch.distributions, name)(**tensors))
    entry = json.loads(json.dumps(prior_to_json(prior)))
    again = prior_from_json(entry)
    theta = prior.sample((5,))
    assert torch.equal(again.log_prob(theta), prior.log_prob(theta))
    assert again.event_shape == (2,)


def test_simulations_from_the_posterior_look_like_an_observation_that_the_simulator_made(uniform):
    posterior, _, _ = uniform

    def simulator(theta: torch.Tensor) -> torch.Tensor:
        return theta + 0.4 * torch.randn_like(theta)

    likely = predictive(posterior, simulator, [0.3, 0.0])
    assert 0.1 < likely.value <= 1
    assert likely.error < 0.03
    unlikely = predictive(posterior, simulator, [4.0, -4.0])
    assert unlikely.value + 3 * unlikely.error < 0.05
    assert len(unlikely.plot().axes[0].patches) == 4
    with pytest.raises(ValueError, match="NaN or infinite values in 500 of 500 simulations"):
        predictive(posterior, lambda theta: theta / 0, [0.3, 0.0])


def test_a_local_test_finds_a_posterior_that_is_too_narrow_or_shifted(uniform):
    posterior, _, _ = uniform
    generator = torch.Generator().manual_seed(1)
    theta = 2 * torch.rand(1000, 2, generator=generator) - 1
    noise = torch.randn(1000, 2, generator=generator)
    right, narrow, shifted = (
        local_c2st(posterior, theta, x, [0.3, 0.0], repeats=9)
        for x in (theta + 0.4 * noise, theta + 0.8 * noise, theta + 0.4 * noise + 0.2)
    )
    assert right.value < 2 * right.error
    assert right.p_value > 0.1
    for wrong in (narrow, shifted):
        assert wrong.value > 3 * wrong.error
        assert wrong.p_value == 0.1, "as small as 9 repeats allow"
    assert right.plot().axes[0].lines


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
    holes = theta.clone()
    holes[5] = torch.nan
    with pytest.raises(ValueError, match="theta has NaN or infinite values in 1 of 100 rows"):
        PosteriorEstimator().fit(holes, x)
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
