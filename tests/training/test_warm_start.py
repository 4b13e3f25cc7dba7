from typing import Any

import pytest
import torch

from realnvp import Flow, image_flow
from realnvp.training.warm_start import warm_start

SMALL = {"architecture": "coarse_to_fine", "steps": 2, "blocks": 1}


def model(size: int, seed: int, scales: int = 1, hidden: int = 8, **changes: Any) -> Flow:
    torch.manual_seed(seed)
    sizes = {"scales": scales, "hidden": [hidden] * scales}
    flow = image_flow((1, size, size), **{**SMALL, **sizes, **changes})
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return flow.double().eval()


def test_a_model_starts_from_one_with_the_same_layers():
    first, second = model(4, 0), model(4, 1)
    warm_start(second, first)
    x = torch.randint(256, (5, 1, 4, 4)).to(torch.uint8)
    noise = torch.rand(x.shape, dtype=torch.float64)
    for mine, theirs in zip(
        second.latents_and_log_det(x, None, noise),
        first.latents_and_log_det(x, None, noise),
        strict=True,
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("labels", [None, 3])
def test_a_model_of_images_at_half_their_size_becomes_the_coarse_part(labels):
    small, large = model(4, 0, classes=labels), model(8, 1, scales=2, classes=labels)
    warm_start(large, small)
    x = torch.randint(256, (5, 1, 8, 8)).to(torch.uint8)
    noise = torch.rand(x.shape, dtype=torch.float64)
    condition = None if labels is None else torch.tensor([0, 1, 2, 0, 1])
    z, _ = large.latents_and_log_det(x, large.as_condition(condition, 5), noise)
    inner = (large.latent_scales() == 1)[0]
    found = z[:, 0, inner].reshape(5, 1, 4, 4)
    expected, _ = small.latents_and_log_det(
        x[..., ::2, ::2], small.as_condition(condition, 5), noise[..., ::2, ::2]
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("block", ["residual", "gated"])
@pytest.mark.parametrize("labels", [None, 3])
def test_further_blocks_start_without_an_effect(block, labels):
    options = {"architecture": "realnvp", "norm": "none", "block": block, "scales": 2}
    options["classes"] = labels
    small = model(8, 0, **{**options, "blocks": 1})
    large = model(8, 1, **{**options, "blocks": [3, 1]})
    warm_start(large, small)
    x = torch.randint(256, (5, 1, 8, 8)).to(torch.uint8)
    noise = torch.rand(x.shape, dtype=torch.float64)
    condition = None if labels is None else torch.tensor([0, 1, 2, 0, 1])
    found = large.log_prob(x, condition, noise)
    torch.testing.assert_close(found, small.log_prob(x, condition, noise))
    # What has no effect has a gradient, or it would stay without one.
    found.sum().backward()
    for name, parameter in large.named_parameters():
        if name.endswith("blocks.2.conv2.length"):
            assert parameter.grad is not None
            assert parameter.grad[:8].any()


def test_fewer_blocks_are_refused():
    with pytest.raises(ValueError, match="the model to start from has other layers than"):
        warm_start(
            model(4, 0, architecture="realnvp"), model(4, 0, architecture="realnvp", blocks=2)
        )


@pytest.mark.parametrize(
    "other",
    [
        model(2, 0),  # a quarter of the size
        model(4, 0, hidden=12),
        model(4, 0, architecture="realnvp"),
    ],
)
def test_other_layers_are_refused(other):
    with pytest.raises(ValueError, match="the model to start from has other layers than"):
        warm_start(model(8, 1, scales=2), other)
