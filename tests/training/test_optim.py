"""Muon: what it does to the matrices of networks, and that Adam has the rest."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

import realnvp
from helpers.kills import recipe
from realnvp import image_flow, vector_flow
from realnvp.conditioners import Conditioner
from realnvp.config import TrainingConfig
from realnvp.training.optim import (
    EMA,
    MOMENTUM,
    RATIO,
    Adam,
    AdamW,
    Muon,
    learning_rate,
    make_optimizer,
    orthogonalize,
)
from realnvp.training.train import train

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
    """Two kernels of one shape, one in another layout, and a tall matrix, whose step is larger."""
    torch.manual_seed(0)
    shapes = [(6, 2, 3, 3), (6, 2, 3, 3), (9, 4)]
    start = [torch.randn(shape) for shape in shapes]
    start[1] = start[1].to(memory_format=torch.channels_last)
    matrices = [torch.nn.Parameter(p.clone()) for p in start]
    bias, bias2 = (torch.nn.Parameter(torch.ones(6)) for _ in range(2))
    muon, adam = Muon(matrices, [bias], lr=0.1), torch.optim.Adam([bias2], lr=0.1)
    momenta = [torch.zeros(shape) for shape in shapes]
    for _ in range(3):
        bias.grad = torch.randn(6)
        bias2.grad = bias.grad.clone()
        for i, matrix in enumerate(matrices):
            matrix.grad = torch.randn_like(matrix)  # in its layout
            momenta[i] = MOMENTUM * momenta[i] + (1 - MOMENTUM) * matrix.grad
            mixed = ((1 - MOMENTUM) * matrix.grad + MOMENTUM * momenta[i]).flatten(1)
            scale = 0.1 * RATIO * (1.5 if i == 2 else 1.0)
            start[i] = start[i] - scale * orthogonalize(mixed[None])[0].view(shapes[i])
        muon.step()
        adam.step()
    torch.testing.assert_close([p.detach() for p in matrices], start)
    torch.testing.assert_close(bias, bias2)


@pytest.mark.parametrize(("ours", "theirs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
def test_uncompiled_optimizers_are_those_of_pytorch(ours, theirs):
    torch.manual_seed(0)
    start, gradients = torch.randn(5, 3), torch.randn(3, 5, 3)
    found = []
    for kind in (ours, theirs):
        weight = torch.nn.Parameter(start.clone())
        groups = [{"params": [weight], "weight_decay": 0.1}]
        optimizer, calls = kind(groups, lr=0.1, betas=(0.8, 0.9), fused=True), []
        optimizer.register_step_post_hook(lambda *_, calls=calls: calls.append(1))
        for gradient in gradients:
            optimizer.zero_grad()
            assert weight.grad is None
            assert (
                optimizer.step(lambda g=gradient, w=weight: (w * g).sum().backward() or g)
                is not None
            )
        assert len(calls) == 3
        assert weight.requires_grad
        found.append((weight.detach(), optimizer.state_dict()))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][0], start)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=0)


def test_it_is_an_optimizer_like_others():
    """Closures, hooks, copies and PyTorch's own saving."""
    torch.manual_seed(0)
    layer, other = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    x, calls = torch.randn(5, 4), []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = layer(x).square().sum()
        loss.backward()
        return loss

    optimizer = Muon([layer.weight], [layer.bias], lr=0.1)
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    first = optimizer.step(closure)
    assert optimizer.step(closure) < first
    assert len(calls) == 2
    other.load_state_dict(layer.state_dict())
    another = Muon([other.weight], [other.bias], lr=0.5)
    another.load_state_dict(copy.deepcopy(optimizer).state_dict())
    for model, its in ((layer, optimizer), (other, another)):
        its.zero_grad()
        model(x).square().sum().backward()
        its.step()
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


def test_muon_has_all_layers_of_conditioners_but_the_last():
    image = image_flow((1, 8, 8), levels=17, hidden=8, blocks=1, split_prior=True, classes=3)
    image.set_compute_dtype(torch.bfloat16)
    for flow, each in ((image, 3), (vector_flow(3, hidden=8, blocks=2), 5)):
        optimizer = make_optimizer(flow, TrainingConfig(steps=1, optimizer="muon"))
        assert isinstance(optimizer, Muon)
        assert optimizer.orthogonal_dtype == (torch.bfloat16 if flow is image else None)
        others, matrices = ({id(p) for p in g["params"]} for g in optimizer.param_groups)
        assert len(others) + len(matrices) == len(list(flow.parameters()))
        nets = [m for m in flow.modules() if isinstance(m, Conditioner)]
        assert len(matrices) == each * len(nets)
        assert {id(net.last.weight) for net in nets} <= others


def test_a_run_goes_on_bit_for_bit(tmp_path):
    constant = dataclasses.replace(TINY.training, decay="constant", num_validations=4)
    base = dataclasses.replace(TINY, training=constant)
    train(base, tmp_path / "whole", quiet=True)
    half = dataclasses.replace(
        base, training=dataclasses.replace(constant, steps=4, num_validations=2)
    )
    train(half, tmp_path / "parts", quiet=True)
    train(base, tmp_path / "parts", resume=True, quiet=True)
    whole, parts = (realnvp.load(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_it_does_not_go_with_weight_decay():
    with pytest.raises(ValueError, match="no weight decay"):
        TrainingConfig(steps=1, optimizer="muon", weight_decay=0.1)


def test_ema_is_the_average():
    model = torch.nn.Linear(1, 1, bias=False)
    ema = EMA(model, decay=0.5)
    values = [1.0, 2.0, 4.0]
    average = values[0]
    for i, value in enumerate(values):
        model.weight.data.fill_(value)
        ema.update()
        if i:
            decay = min(0.5, (1 + i) / (10 + i))
            average = decay * average + (1 - decay) * value
    with ema.applied():
        assert model.weight.item() == pytest.approx(average)
    assert model.weight.item() == 4.0


def test_learning_rate_rises_holds_and_falls():
    config = TrainingConfig(steps=1, lr=2.0, warmup=10, decay="linear", decay_fraction=0.5)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.2)
    assert learning_rate(config, 20, 0.5) == pytest.approx(2.0)
    assert learning_rate(config, 20, 0.75) == pytest.approx(1.0)
    assert learning_rate(config, 20, 1.0) == 0.0
    cosine = TrainingConfig(steps=1, lr=2.0, warmup=0)
    assert learning_rate(cosine, 0, 0.5) == pytest.approx(1.0)
