"""Statistics of one pass of a flow."""

from __future__ import annotations

import math

import pytest
import torch

import realnvp
from realnvp.outliers.statistics import COPIES, statistics, symmetric_copies


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


def test_an_image_and_its_copies_are_compared_by_their_likelihoods():
    flow, x = random_flow(), images()
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    found, _ = statistics(flow, x, None, noise, symmetries=True)
    for name, (copy, u) in symmetric_copies(x, noise, 17).items():
        ratio = (flow.log_prob(x, None, noise) - flow.log_prob(copy, None, u)) / 64
        assert torch.allclose(found[name], ratio.double(), atol=1e-5)
        assert found[name].abs().max() > 1e-3
        # The copy's copy is the image: the comparison is the other way round.
        back, _ = statistics(flow, copy, None, u, symmetries=True)
        assert torch.allclose(back[name], -found[name], atol=1e-4)
    without, _ = statistics(flow, x, None, noise)
    assert found.keys() - without.keys() == set(COPIES)
    assert all(torch.equal(found[name], values) for name, values in without.items())


def test_copies_of_a_conditional_flow_are_of_one_class_and_noise_is_drawn_once():
    flow = realnvp.image_flow((1, 8, 4), levels=17, hidden=4, blocks=1, scales=1, classes=3)
    x = images()[..., :4].contiguous()
    flow.loss_terms(x, torch.arange(6) % 3)
    for parameter in flow.eval().parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    generators = [torch.Generator().manual_seed(2) for _ in range(2)]
    found, _ = statistics(flow, x, None, generators[0], symmetries=True)
    noise = torch.rand(x.shape, generator=generators[1])
    best = flow.class_log_probs(x, noise).argmax(1)
    upside_down = flow.log_prob(x.flip(2).contiguous(), best, noise.flip(2).contiguous())
    ratio = (flow.log_prob(x, best, noise) - upside_down) / 32
    assert torch.allclose(found["transposed"], ratio.double(), atol=1e-5)


def test_noise_of_inverted_copies_stays_in_its_cell():
    x, noise = torch.tensor([[[[0, 16]]]], dtype=torch.uint8), torch.zeros(1, 1, 1, 2)
    copy, u = symmetric_copies(x, noise, 17)["inverted"]
    assert copy.flatten().tolist() == [16, 0]
    assert (u < 1).all()
    assert (u > 0.9999).all()
