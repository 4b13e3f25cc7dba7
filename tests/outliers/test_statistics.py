"""Statistics of one pass of a flow."""

from __future__ import annotations

import math

import pytest
import torch

import realnvp
from realnvp.outliers.statistics import statistics


def images(n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 17, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)


def random_flow() -> realnvp.Flow:
    torch.manual_seed(0)
    flow = realnvp.image_flow((1, 8, 8), levels=17, hidden=4, blocks=1, scales=2)
    flow.loss_terms(images())  # initializes its norms
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return flow.eval()


def test_the_likelihood_is_the_flows_and_its_terms_add_up():
    flow, x = random_flow(), images()
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    found, z = statistics(flow, x, None, noise)
    assert torch.allclose(found["log_likelihood"], flow.log_prob(x, None, noise).double())
    prior = -0.5 * 64 * (found["energy"] + math.log(2 * math.pi))
    assert torch.allclose(found["log_likelihood"], prior + 64 * found["log_det"], rtol=1e-5)
    by_scale = found["preprocessing"] + found["log_det_0"] + found["log_det_1"]
    assert torch.allclose(by_scale, found["log_det"], rtol=1e-5)
    scales = flow.latent_scales()
    assert torch.allclose(found["energy_1"], z[:, scales == 1].square().mean(1).double())
    assert found["log_det_1"].abs().max() > 0


def test_white_latents_are_found_white():
    flow = realnvp.vector_flow(2, coupling="affine")
    found, z = statistics(flow.eval(), torch.randn(20, 2))
    assert set(found) == {"log_likelihood", "energy", "log_det"}
    assert torch.allclose(found["energy"], z.square().mean(1).double())


def test_data_are_checked():
    with pytest.raises(ValueError, match="models shape"):
        statistics(random_flow(), torch.zeros(2, 1, 4, 4, dtype=torch.uint8))


def test_without_labels_the_likelihood_is_the_marginal_one():
    flow = realnvp.vector_flow(2, coupling="affine", classes=3)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(5, 2)
    found, _ = statistics(flow.eval(), x)
    assert torch.allclose(found["log_likelihood"], flow.log_prob(x).double())
    best = flow.class_log_probs(x).argmax(1)
    assert torch.allclose(found["energy"], statistics(flow, x, best)[0]["energy"])
