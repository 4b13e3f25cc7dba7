"""Classification by a class-conditional flow."""

from __future__ import annotations

import pytest
import torch

from helpers.bijections import randomize
from realnvp import image_flow, vector_flow
from realnvp.data import Split
from realnvp.evaluation import accuracy, class_log_probs, log_likelihoods


def test_two_gaussians_are_told_apart():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (400,), generator=generator)
    x = torch.randn(400, 2, generator=generator) + 3.0 * labels[:, None]
    torch.manual_seed(0)
    flow = vector_flow(2, classes=2, couplings=4, hidden=16)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        (-flow.log_prob(x, labels).mean()).backward()
        optimizer.step()
    assert accuracy(flow, Split(x, labels, labels)) > 0.93  # the best there is has 0.983
    log_probs = class_log_probs(flow, x)
    torch.testing.assert_close(log_probs[labels == 1][:, 1], flow.log_prob(x, labels)[labels == 1])


def test_the_noise_belongs_to_the_image():
    """So neither batches nor processes change what is found; and it is the evaluation's."""
    flow = randomize(image_flow((1, 4, 4), levels=5, hidden=4, blocks=1, classes=3)).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 5, (50, 1, 4, 4), generator=generator, dtype=torch.uint8)
    likeliest = torch.stack(
        [
            log_likelihoods(flow, Split(x, torch.full((50,), label)), batch_size=50)
            for label in range(3)
        ],
        dim=1,
    ).argmax(1)
    for batch_size in (7, 50):
        assert accuracy(flow, Split(x, labels=likeliest), batch_size=batch_size) == 1


def test_errors():
    with pytest.raises(ValueError, match="class-conditional"):
        class_log_probs(vector_flow(2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="no labels"):
        accuracy(vector_flow(2, classes=2), Split(torch.zeros(1, 2)))
