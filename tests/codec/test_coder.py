"""Groups of images under a flow: exact, and as large as the likelihood says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("constriction")

from helpers.flows import mild_image_flow, small_image_flow, small_images
from realnvp import vector_flow
from realnvp.codec.coder import FlowCoder
from realnvp.codec.stack import Exhausted, Stack
from realnvp.utils.threads import single_thread

FLOWS = {
    "affine": {},
    "mixtures": {"coupling": "logistic_mixture", "norm": "act", "split_prior": True},
    "learned noise": {"dequantization": "variational", "norm": "act"},
    "glow": {"architecture": "glow", "steps": 2, "norm": "act", "block": "gated"},
    "linear": {"linear": True, "levels": 256, "norm": "none"},
    "labels": {"classes": 3, "dequantization": "variational"},
    "many levels": {"levels": 1000},
}


def full(words: int = 20_000) -> Stack:
    rng = np.random.default_rng(0)
    return Stack(rng.integers(1, 2**32, words, dtype=np.uint64).astype(np.uint32))


@pytest.mark.parametrize("name", FLOWS)
@torch.no_grad()
def test_groups_come_back_at_the_cost_of_their_likelihood(name):
    flow = mild_image_flow(**FLOWS[name])
    x = small_images(40, min(flow.levels, 256))
    condition = torch.arange(40) % 3 if flow.classes else None
    coder, stack = FlowCoder(flow), full()
    words, bits = stack.words(), stack.bits
    coder.encode(stack, x, condition, 12)
    size = (stack.bits - bits) / x.numel()
    generator = torch.Generator().manual_seed(0)
    draws = [flow.bits_per_dim(x, condition, generator).mean().item() for _ in range(8)]
    assert size == pytest.approx(np.mean(draws), abs=6 * np.std(draws) + 0.02)
    assert torch.equal(coder.decode(stack, 40, condition, 12), x.long())
    assert np.array_equal(stack.words(), words)


@torch.no_grad()
def test_coarse_noise_takes_fewer_bits_off_the_stack():
    coder, x = FlowCoder(small_image_flow()), small_images(1)
    taken = []
    for depth in (4, 10):
        stack = full()
        before = stack.least = stack.bits
        coder.encode(stack, x, None, depth)
        taken.append(before - stack.least)
    assert taken[0] < taken[1] - 3 * 64
    with pytest.raises(Exhausted):
        coder.encode(Stack(), x, None, 10)


def test_only_flows_of_images():
    with pytest.raises(ValueError, match="images"):
        FlowCoder(vector_flow(2))


def test_the_flow_and_the_threads_stay_as_they_were():
    flow = small_image_flow().train()
    before = torch.get_num_threads()
    with single_thread():
        FlowCoder(flow, torch.float64)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    assert flow.training
    assert flow.dtype == torch.float32
