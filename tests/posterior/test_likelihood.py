"""Posteriors from likelihoods whose truth is known."""

from __future__ import annotations

import torch

from realnvp.posterior import LikelihoodEstimator, PosteriorEstimator


def test_the_posterior_of_several_trials_is_that_of_their_mean(tmp_path):
    generator = torch.Generator().manual_seed(0)
    theta = 2 * torch.rand(2000, 2, generator=generator) - 1
    x = theta + 0.5 * torch.randn(2000, 2, generator=generator)
    bounds = ([-1.0, -1.0], [1.0, 1.0])
    likelihood = LikelihoodEstimator(bounds, settings={"max_steps": 200}).fit(theta, x)
    trials = torch.tensor([[0.3, 0.0], [0.1, 0.2], [0.2, -0.2], [0.2, 0.0]])
    draws = likelihood.sample(500, trials)
    assert (draws.abs() <= 1).all()
    assert (draws.mean(0) - torch.tensor([0.2, 0.0])).abs().max() < 0.06
    assert (draws.std(0) - 0.25).abs().max() < 0.05
    assert torch.equal(draws, likelihood.sample(500, trials))
    likelihood.save(tmp_path)
    loaded = LikelihoodEstimator.load(tmp_path, bounds)
    values = [each.log_likelihood(theta[:5], trials) for each in (likelihood, loaded)]
    assert torch.equal(*values)


def test_an_embedding_is_trained_with_the_flow_and_saved(tmp_path):
    torch.manual_seed(0)
    theta = torch.rand(1500, 1)
    x = theta[:, :, None] + 0.2 * torch.randn(1500, 4, 5)

    def network() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 4), torch.nn.ReLU())

    settings = {"steps": 300, "hidden": 16, "couplings": 2}
    bounds = ([0.0], [1.0])
    posterior = PosteriorEstimator(bounds, embedding=network(), settings=settings).fit(theta, x)
    draws = posterior.sample(400, torch.full((4, 5), 0.5))
    assert abs(draws.mean() - 0.5) < 0.05
    assert draws.std() < 0.15
    posterior.save(tmp_path)
    loaded = PosteriorEstimator.load(tmp_path, embedding=network())
    values = [each.log_prob(theta[:5], x[:5]) for each in (posterior, loaded)]
    assert torch.equal(*values)
