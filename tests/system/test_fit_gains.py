"""The tool that fits how far a model's networks are to be trusted."""

from __future__ import annotations

import copy

import pytest
import torch

from fit_gains import fit
from helpers.bijections import randomize
from realnvp import Flow, image_flow
from realnvp.data import Split
from realnvp.evaluation import evaluate


def flow_of(coupling: str) -> Flow:
    torch.manual_seed(0)
    flow = image_flow(
        (1, 4, 4), levels=8, scales=1, hidden=4, blocks=1, coupling=coupling, patch=2, classes=2
    )
    return randomize(flow).eval()


@pytest.mark.parametrize("coupling", ["affine", "logistic_mixture"])
def test_gains_that_are_too_large_are_found_and_written(coupling):
    flow = flow_of(coupling)
    labels = torch.arange(400) % 2
    x = flow.sample(400, condition=labels, generator=torch.Generator().manual_seed(1))
    split = Split(x, labels, labels)
    best = evaluate(flow, split).loss
    overconfident = copy.deepcopy(flow)
    for name, parameter in overconfident.named_parameters():
        if name.endswith("last.weight"):
            parameter.data *= 1.5
    before = evaluate(overconfident, split).loss
    gains = fit(overconfident, split, steps=150, lr=0.02)
    after = evaluate(overconfident, split).loss
    assert best < before
    assert after - best < 0.3 * (before - best)
    assert all(p.requires_grad for p in overconfident.parameters())
    assert sum(gain.gain.numel() for gain in gains) == len(gains) * (
        2 if coupling == "affine" else 5
    )


def test_no_step_changes_nothing():
    flow = flow_of("logistic_mixture")
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    split = Split(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    fit(flow, split, steps=0, lr=0.1)
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())
