"""Classification by a class-conditional flow."""

from __future__ import annotations

import pytest
import torch

from realnvp import vector_flow
from realnvp.classify import accuracy, class_log_probs
from realnvp.data import Split


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


def test_errors():
    with pytest.raises(ValueError, match="class-conditional"):
        class_log_probs(vector_flow(2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="no labels"):
        accuracy(vector_flow(2, classes=2), Split(torch.zeros(1, 2)))
