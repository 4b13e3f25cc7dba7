"""Our flow inside nessai's nested samplers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("nessai")
pytestmark = pytest.mark.filterwarnings("default")  # of nessai and what it imports


def test_a_nested_sampler_finds_the_evidence(tmp_path):
    from nessai.flowsampler import FlowSampler
    from nessai.model import Model

    from realnvp.interop.nessai import NessaiFlow

    class Normal(Model):
        """A normal likelihood of two parameters, uniform on [-5, 5]."""

        names = ["a", "b"]  # noqa: RUF012 -- as nessai has it
        bounds = {"a": [-5, 5], "b": [-5, 5]}  # noqa: RUF012

        def log_prior(self, x):
            return np.log(self.in_bounds(x), dtype=float) - 2 * math.log(10)

        def log_likelihood(self, x):
            return -0.5 * (x["a"] ** 2 + x["b"] ** 2) - math.log(2 * math.pi)

    sampler = FlowSampler(
        Normal(), output=str(tmp_path), nlive=100, seed=1, resume=False,
        flow_config={"flow": NessaiFlow, "coupling": "affine", "n_blocks": 2},
        training_config={"max_epochs": 10},
    )  # fmt: skip
    sampler.run(plot=False, save=False)
    assert sampler.log_evidence == pytest.approx(-2 * math.log(10), abs=0.5)
    assert isinstance(sampler.ns.proposal.flow.model, NessaiFlow)


def test_densities_and_maps_agree():
    from nessai.flows.utils import configure_model, reset_weights

    from realnvp.interop.nessai import NessaiFlow

    options = {"n_inputs": 3, "n_neurons": 8, "n_blocks": 2, "n_layers": 1}
    flow = configure_model({**options, "flow": NessaiFlow})
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    flow.freeze_transform()
    x, log_prob = flow.sample_and_log_prob(7)
    z, again = flow.forward_and_log_prob(x)
    torch.testing.assert_close(again, log_prob, atol=1e-3, rtol=1e-4)
    back, log_det = flow.inverse(z)
    torch.testing.assert_close(back, x, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(
        flow.base_distribution_log_prob(z) - log_det, log_prob, atol=1e-3, rtol=1e-4
    )
    conditional = configure_model({**options, "flow": NessaiFlow, "context_features": 2})
    context = torch.randn(7, 2)
    draws, log_prob = conditional.sample_and_log_prob(7, context)
    torch.testing.assert_close(conditional.log_prob(draws, context), log_prob)
    flow.apply(reset_weights)
    torch.testing.assert_close(flow.inverse(z)[0], z, atol=0.1, rtol=0.1)  # starts as the identity
    with pytest.raises(ValueError, match="standard normal"):
        configure_model({**options, "flow": NessaiFlow, "distribution": "uniform"})
