"""Our flows in sbi."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sbi")


@pytest.mark.filterwarnings("ignore")
def test_npe_and_nle_train_our_flow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # sbi writes its logs there
    from sbi.inference import NLE, NPE
    from sbi.utils import BoxUniform

    from realnvp.interop.sbi import likelihood_flow, posterior_flow

    torch.manual_seed(0)
    prior = BoxUniform(-torch.ones(2), torch.ones(2))
    theta = prior.sample((600,))
    x = theta + 0.3 * torch.randn(600, 2)
    npe = NPE(prior, density_estimator=posterior_flow(prior.support), show_progress_bars=False)
    estimator = npe.append_simulations(theta, x).train(max_num_epochs=30)
    draws, log_prob = estimator.sample_and_log_prob((50,), x[:3])
    assert draws.shape == (50, 3, 2)
    assert (draws.abs() <= 1).all()
    assert torch.allclose(estimator.log_prob(draws, x[:3]), log_prob, atol=1e-3)
    assert estimator.loss(theta[:7], x[:7]).shape == (7,)
    samples = npe.build_posterior().sample((100,), x=torch.zeros(2), show_progress_bars=False)
    assert samples.mean(0).abs().max() < 0.3
    nle = NLE(prior, density_estimator=likelihood_flow(), show_progress_bars=False)
    likelihood = nle.append_simulations(theta, x).train(max_num_epochs=5)
    assert likelihood.log_prob(x[None, :4], theta[:4]).shape == (1, 4)
