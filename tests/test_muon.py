"""Muon: what it does to the matrices of networks, and that Adam has the rest."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from kills import recipe
from realnvp import image_flow
from realnvp.config import TrainingConfig
from realnvp.muon import MOMENTUM, RATIO, Muon, orthogonalize
from realnvp.nets import ResNet
from realnvp.setup import make_optimizer
from realnvp.train import train

TINY = recipe(8)
TINY = dataclasses.replace(TINY, training=dataclasses.replace(TINY.training, optimizer="muon"))


@pytest.mark.parametrize("shape", [(8, 8), (4, 36), (36, 4), (64, 576)])
def test_singular_values_become_about_one(shape):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(2, *shape), full_matrices=False)
    values = torch.linspace(0.02, 1, min(shape))
    found = orthogonalize((u * values) @ v)
    assert torch.linalg.svdvals(found).sub(0.95).abs().max() < 0.3
    aligned = u.mT @ found @ v.mT  # the same directions, in the same order
    assert (aligned - torch.diag_embed(aligned.diagonal(dim1=1, dim2=2))).abs().max() < 1e-4


def test_the_step_is_momentum_orthogonalized_and_adam_does_the_rest():
    torch.manual_seed(0)
    kernel, bias = (torch.nn.Parameter(torch.randn(n)) for n in ((6, 2, 3, 3), (6,)))
    kernel2, bias2 = (torch.nn.Parameter(p.detach().clone()) for p in (kernel, bias))
    muon, adam = Muon([kernel], [bias], lr=0.1), torch.optim.Adam([bias2], lr=0.1)
    momentum = torch.zeros(6, 18)
    for _ in range(3):
        kernel.grad, bias.grad = torch.randn(6, 2, 3, 3), torch.randn(6)
        bias2.grad = bias.grad.clone()
        muon.step()
        adam.step()
        gradient = kernel.grad.view(6, 18)
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        mixed = (1 - MOMENTUM) * gradient + MOMENTUM * momentum
        step = orthogonalize(mixed[None])[0].view(6, 2, 3, 3)
        kernel2.data -= 0.1 * RATIO * step
    torch.testing.assert_close(kernel, kernel2)
    torch.testing.assert_close(bias, bias2)


def test_muon_has_the_convolutions_of_conditioners_and_adam_all_else():
    flow = image_flow((1, 8, 8), levels=17, hidden=8, blocks=1, split_prior=True)
    optimizer = make_optimizer(flow, TrainingConfig(steps=1, optimizer="muon"))
    others, matrices = (group["params"] for group in optimizer.param_groups)
    assert len({id(p) for p in (*others, *matrices)}) == len(list(flow.parameters()))
    nets = [m for m in flow.modules() if isinstance(m, ResNet)]
    assert len(matrices) == sum(1 + 2 * len(net.blocks) for net in nets)
    assert all(p.ndim == 4 for p in matrices)
    assert any(p is nets[0].last.weight for p in others)


def test_a_run_goes_on_bit_for_bit(tmp_path):
    constant = dataclasses.replace(TINY.training, decay="constant", validations=4)
    base = dataclasses.replace(TINY, training=constant)
    train(base, tmp_path / "whole", quiet=True)
    half = dataclasses.replace(base, training=dataclasses.replace(constant, steps=4, validations=2))
    train(half, tmp_path / "parts", quiet=True)
    train(base, tmp_path / "parts", resume=True, quiet=True)
    whole, parts = (
        (tmp_path / name / "model" / "model.safetensors").read_bytes()
        for name in ("whole", "parts")
    )
    assert whole == parts


def test_it_does_not_go_with_sharding_or_weight_decay():
    with pytest.raises(ValueError, match="needs whole matrices"):
        TrainingConfig(steps=1, optimizer="muon", strategy="fsdp")
    with pytest.raises(ValueError, match="no weight decay"):
        TrainingConfig(steps=1, optimizer="muon", weight_decay=0.1)
