"""Less memory, the same gradients: every layer, statistics, conditions, autocast."""

from __future__ import annotations

import pytest
import torch

from helpers.bijections import affine_vector, randomize
from realnvp import Chain, Flow, image_flow, vector_flow
from realnvp.bijections import ActNorm, Inverse, InvertibleLinear

MODELS = {
    "paper": lambda: image_flow((1, 8, 8), hidden=4, blocks=1, scales=2),
    "three scales": lambda: image_flow((2, 8, 8), hidden=4, blocks=1, scales=3, norm="act"),
    "instance": lambda: image_flow((1, 8, 8), hidden=4, blocks=1, conditioner_norm="instance"),
    "glow": lambda: image_flow(
        (1, 8, 8), architecture="glow", steps=2, hidden=4, blocks=1, norm="act", split_prior=True
    ),
    "mixture": lambda: image_flow(
        (1, 8, 8), coupling="logistic_mixture", hidden=4, blocks=1, dequantization="variational"
    ),
    "conditional": lambda: image_flow((1, 8, 8), hidden=4, blocks=1, classes=3),
    "gated": lambda: image_flow((1, 8, 8), hidden=4, blocks=2, classes=3, block="gated", patch=2),
    "odd": lambda: image_flow((1, 5, 7), hidden=4, blocks=1, scales=1),
    "vectors": lambda: vector_flow(5, couplings=4, hidden=8, norm="batch"),
    "vector mixture": lambda: vector_flow(
        3, couplings=2, hidden=8, coupling="gaussian_mixture", mixture_init=2
    ),
}


def batch(flow: Flow) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    condition = torch.arange(6) % flow.classes if flow.classes else None
    if flow.levels is None:
        return torch.randn(6, flow.dim, generator=generator), condition, None
    x = torch.randint(0, 256, (6, *flow.shape), generator=generator).to(torch.uint8)
    return x, condition, torch.rand(x.shape, generator=generator)


def step(name: str, memory: str, dtype: torch.dtype, compute: torch.dtype | None = None):
    """The terms of the loss, all gradients, and all statistics after two steps."""
    torch.manual_seed(0)
    flow = randomize(MODELS[name](), last=0.1).to(dtype).train()
    flow.set_compute_dtype(compute)
    flow.memory = memory
    for _ in range(2):
        flow.zero_grad()
        terms = flow.loss_terms(*batch(flow))
        sum(terms.values()).backward()
    gradients = {n: p.grad for n, p in flow.named_parameters()}
    return terms, gradients, {n: b.clone() for n, b in flow.named_buffers()}


@pytest.mark.parametrize("memory", ["checkpoint", "invertible"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_and_statistics_are_the_same(name, memory):
    terms, gradients, buffers = step(name, "standard", torch.float64)
    others = step(name, memory, torch.float64)
    for one, other in zip((terms, buffers), (others[0], others[2]), strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-10, atol=1e-10)
    for key, gradient in gradients.items():
        if gradient is None:
            assert others[1][key] is None, key
        else:
            torch.testing.assert_close(others[1][key], gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("compute", [None, torch.bfloat16])
def test_in_float32_and_with_narrow_conditioners(compute):
    limit = 1e-4 if compute is None else 3e-2
    for name in ("paper", "glow"):
        _, gradients, _ = step(name, "standard", torch.float32, compute)
        _, others, _ = step(name, "invertible", torch.float32, compute)
        flat, other = (
            torch.cat([g.flatten() for g in all_.values() if g is not None])
            for all_ in (gradients, others)
        )
        assert (flat - other).norm() < limit * flat.norm()


def test_a_condition_with_a_gradient_gets_it():
    flow = randomize(vector_flow(4, couplings=3, hidden=8, condition_dim=2)).double().train()
    x = torch.randn(5, 4, dtype=torch.float64)
    found = []
    for memory in ("standard", "invertible"):
        flow.memory = memory
        condition = torch.linspace(-1, 1, 10, dtype=torch.float64).view(5, 2).requires_grad_()
        sum(flow.loss_terms(x, condition).values()).backward()
        found.append(condition.grad)
    torch.testing.assert_close(*found)


def test_two_batches_before_one_backward_pass():
    """The statistics of the first must not be those of the second."""
    found = []
    for memory in ("standard", "invertible"):
        torch.manual_seed(0)
        flow = randomize(MODELS["vectors"](), last=0.1).double().train()
        flow.memory = memory
        one, other = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
        loss = sum(flow.loss_terms(one).values()) + sum(flow.loss_terms(other + 1).values())
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in flow.parameters()]))
    torch.testing.assert_close(*found)


def test_a_layer_that_is_used_twice():
    found = []
    for memory in ("standard", "checkpoint", "invertible"):
        torch.manual_seed(0)
        layer = affine_vector(False, 4).double()
        randomize(layer)
        flow = Flow(Chain(layer, ActNorm(4).double(), layer), (4,))
        flow.memory = memory
        sum(flow.loss_terms(torch.randn(6, 4, dtype=torch.float64)).values()).backward()
        found.append(torch.cat([p.grad.flatten() for p in flow.parameters()]))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def kept_bytes(flow: Flow, x: torch.Tensor) -> int:
    """What autograd keeps for the backward pass, parameters aside."""
    own = {t.untyped_storage().data_ptr() for t in [*flow.parameters(), *flow.buffers(), x]}
    seen: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return t

    alive = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        alive.append(sum(flow.loss_terms(x).values()))
    return sum(seen.values())


def test_what_is_kept_does_not_grow_with_depth():
    x = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    kept = {}
    for memory in ("standard", "checkpoint", "invertible"):
        for steps in (4, 8):
            flow = image_flow(
                (1, 16, 16), architecture="glow", steps=steps, hidden=16, blocks=2, norm="act"
            )
            flow.memory = memory
            flow.loss_terms(x)  # initializes
            kept[memory, steps] = kept_bytes(flow, x)
    assert kept["standard", 8] > 1.8 * kept["standard", 4]
    assert kept["checkpoint", 8] < 0.1 * kept["standard", 8]
    assert kept["invertible", 8] == kept["invertible", 4]
    assert kept["invertible", 8] < 0.02 * kept["standard", 8]


def test_second_derivatives_are_refused():
    flow = randomize(MODELS["vectors"](), last=0.1).train()
    for memory, right in (("standard", True), ("invertible", False)):
        flow.memory = memory
        loss = flow.loss_terms(*batch(flow))["prior"]
        weight = next(flow.parameters())
        if right:
            (grad,) = torch.autograd.grad(loss, weight, create_graph=True)
            assert torch.autograd.grad(grad.square().sum(), weight)[0].abs().max() > 0
        else:
            with pytest.raises(RuntimeError, match=r'flow.memory = "standard"'):
                torch.autograd.grad(loss, weight, create_graph=True)


@pytest.mark.parametrize("memory", ["standard", "checkpoint", "invertible"])
def test_a_backward_pass_does_not_initialize_an_inverted_norm(memory):
    inverted = Inverse(Chain(InvertibleLinear(4), ActNorm(4)))
    flow = Flow(Chain(InvertibleLinear(4), inverted, InvertibleLinear(4)), (4,))
    flow.memory = memory
    x = 3 * torch.randn(9, 4)
    before = flow.loss_terms(x)["prior"]
    before.backward()
    assert torch.equal(flow.loss_terms(x)["prior"], before)


NESTED = {
    "details": lambda: image_flow(
        (1, 8, 8), architecture="coarse_to_fine", steps=[2, 2], scales=2, hidden=4, blocks=1,
        norm="batch", conditioner_norm="none",
    ),
    "encoded condition": lambda: vector_flow(
        3, condition_dim=2, condition_bins=3, coupling="affine", norm="batch", hidden=4
    ),
    "averages": lambda: vector_flow(
        1, members=2, condition_dim=2, coupling="affine", norm="batch", hidden=4
    ),
    "couplings": lambda: vector_flow(3, coupling="affine", norm="batch", hidden=4),
}  # fmt: skip


@pytest.mark.parametrize("memory", ["checkpoint", "invertible"])
@pytest.mark.parametrize("name", NESTED)
def test_a_sum_of_losses_has_the_gradients_of_each_batch(name, memory):
    """The averages of norms are those of the first batch there, also inside layers of layers."""

    def gradients(memory: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        flow = randomize(NESTED[name](), last=0.1).double().train()
        flow.memory = memory
        condition = torch.randn(6, 2) if flow.condition_dim else None
        losses = []
        for spread in (1, 16):  # of the second batch, all statistics differ
            x = torch.randn(6, *flow.shape) * spread
            x = x if flow.levels is None else x.abs().long()
            noise = torch.rand(x.shape)
            losses.append(sum(flow.loss_terms(x, condition, noise).values()))
        sum(losses).backward()
        return {n: p.grad for n, p in flow.named_parameters() if p.grad is not None}

    torch.testing.assert_close(gradients(memory), gradients("standard"))
