"""Whatever the shape, the levels, the condition and the options: what must hold, holds."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers.bijections import randomize
from helpers.recipes import distinct_recipes, mixed_table, recipe_flow, some_condition
from realnvp import Chain, Flow, image_flow, vector_flow
from realnvp.bijections.recompute import Memory
from realnvp.config import ImageModel, VectorModel
from realnvp.recipes import recipe_names
from realnvp.utils.rng import uniform

FEW = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,  # the same examples in every run: a failure is somebody's change
    suppress_health_check=[HealthCheck.too_slow],
)

IMAGE_OPTIONS: dict[str, st.SearchStrategy] = {
    "architecture": st.sampled_from(["realnvp", "glow"]),
    "coupling": st.sampled_from(["affine", "gaussian_mixture", "logistic_mixture"]),
    "dequantization": st.sampled_from(["uniform", "variational"]),
    "linear": st.booleans(),
    "split_prior": st.booleans(),
    "norm": st.sampled_from(["batch", "act", "none"]),
    "conditioner_norm": st.sampled_from(["batch", "instance", "none"]),
    "alpha": st.floats(0.001, 0.2),
    "blocks": st.integers(0, 2),
    "scales": st.integers(1, 3),
    "block": st.sampled_from(["residual", "gated"]),
    "patch": st.integers(1, 2),
}
VECTOR_OPTIONS: dict[str, st.SearchStrategy] = {
    "coupling": st.sampled_from(["affine", "gaussian_mixture", "logistic_mixture"]),
    "norm": st.sampled_from(["batch", "act", "none"]),
    "blocks": st.integers(0, 2),
    "couplings": st.integers(1, 5),
}


def known(options: dict[str, st.SearchStrategy], kind: type) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({n: s for n, s in options.items() if hasattr(kind(), n)})


@st.composite
def image_flows(draw: st.DrawFn) -> Flow:
    """A small flow of images of any shape that it takes, with random weights."""
    options = draw(known(IMAGE_OPTIONS, ImageModel))
    side = 2 ** (options["scales"] if options["architecture"] == "glow" else options["scales"] - 1)
    side = max(side, options["patch"])
    height, width = (side * draw(st.integers(1, max(1, 4 // side))) for _ in range(2))
    shape = draw(st.integers(1, 3)), height, width
    assume(math.prod(shape) > 1)
    condition = draw(st.sampled_from([{}, {"classes": 3}, {"condition_dim": 2}]))
    levels = draw(st.sampled_from([2, 3, 17, 256, 1000]))
    flow = image_flow(shape, levels=levels, hidden=4, steps=2, **condition, **options)
    return randomize(flow, last=0.1).eval()


@st.composite
def vector_flows(draw: st.DrawFn) -> Flow:
    options = draw(known(VECTOR_OPTIONS, VectorModel))
    condition = draw(st.sampled_from([{}, {"classes": 3}, {"condition_dim": 2}]))
    dim = draw(st.integers(2, 6))
    mean, std = torch.linspace(-1, 2, dim), torch.linspace(0.5, 3, dim)
    flow = vector_flow(dim, mean=mean, std=std, hidden=4, **condition, **options)
    return randomize(flow, last=0.1).eval()


def extremes(flow: Flow) -> Tensor:
    """All 0, all the highest level, one pixel different, a chess board, and anything."""
    assert flow.levels is not None
    top, dtype = flow.levels - 1, torch.uint8 if flow.levels <= 256 else torch.int32
    x = torch.randint(0, flow.levels, (6, *flow.shape), dtype=torch.int64)
    x[0], x[1], x[2], x[3] = 0, top, 0, top
    x[2].view(-1)[0], x[3].view(-1)[-1] = top, 0
    x[4] = torch.arange(flow.dim).view(flow.shape) % 2 * top
    return x.to(dtype)


@FEW
@given(image_flows())
def test_images(flow):
    x = extremes(flow)
    condition = some_condition(flow, len(x))
    with torch.no_grad():
        log_prob = flow.log_prob(x, condition, torch.Generator().manual_seed(0))
        z = flow.encode(x, condition, torch.Generator().manual_seed(1))
        back = flow.decode(z, condition)
    assert log_prob.shape == (len(x),)
    assert log_prob.dtype == torch.float32
    assert torch.isfinite(log_prob).all()
    assert z.shape == x.shape
    assert torch.isfinite(z).all()
    assert back.dtype == x.dtype
    assert torch.equal(back, x)
    samples = flow.sample(3, condition=None if condition is None else condition[:3])
    assert samples.shape == (3, *flow.shape)
    assert 0 <= int(samples.min()) <= int(samples.max()) < flow.levels


@FEW
@given(image_flows())
def test_gradients_of_extreme_images_are_finite(flow):
    x = extremes(flow)
    terms = flow.train().loss_terms(
        x, some_condition(flow, len(x)), torch.Generator().manual_seed(0)
    )
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@FEW
@given(image_flows())
def test_noise_at_the_ends_of_a_level_is_harmless(flow):
    """(K - 1 + u) / K rounds to 1.0 in float32."""
    x = extremes(flow)
    condition = some_condition(flow, len(x))
    for u in (0.0, 1 - 2.0**-24):
        noise = torch.full(x.shape, u)
        with torch.no_grad():
            assert torch.isfinite(flow.log_prob(x, condition, noise)).all()


def body_jacobian(flow: Flow, v: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
    """The log-determinant that a flow's body tells, and that of its Jacobian; float64."""
    layers = list(flow.bijection)  # type: ignore[call-overload]
    body = Chain(*layers[1:]) if flow.levels is not None else flow.bijection
    _, told = body(v, condition)
    jacobian = torch.autograd.functional.jacobian(lambda y: body(y, condition)[0].flatten(), v)
    return told[0], torch.linalg.slogdet(jacobian.reshape(v.numel(), v.numel())).logabsdet


@FEW
@given(image_flows(), st.floats(0.01, 0.99))
def test_the_log_determinant_of_images_is_that_of_the_jacobian(flow, value):
    flow = flow.double()
    condition = some_condition(flow, 1)
    condition = flow.as_condition(condition, 1)
    v = uniform([1], 0, 1, flow.shape, torch.float64) * 0.98 + 0.01
    v.view(-1)[0] = value
    told, true = body_jacobian(flow, v, condition)
    torch.testing.assert_close(told, true, rtol=1e-8, atol=1e-7)


@FEW
@given(vector_flows(), st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6))
def test_vectors(flow, values):
    flow = flow.double()
    x = torch.tensor([values[: flow.dim]], dtype=torch.float64)
    condition = flow.as_condition(some_condition(flow, 1), 1)
    told, true = body_jacobian(flow, x, condition)
    torch.testing.assert_close(told, true, rtol=1e-8, atol=1e-6)
    with torch.no_grad():
        z = flow.encode(x, condition)
        assert torch.isfinite(flow.log_prob(x, condition)).all()
        torch.testing.assert_close(flow.decode(z, condition), x, rtol=1e-6, atol=1e-6)


@FEW
@given(vector_flows(), st.floats(width=32) | st.sampled_from([-1e38, 1e38, -3.4e38, 1e20]))
def test_any_number_has_a_density_or_an_error(flow, value):
    """Finite data never make a NaN: their density is a number, or minus infinity far away."""
    x = torch.zeros(3, flow.dim)
    x[1, 0] = value
    condition = some_condition(flow, 3)
    with torch.no_grad():
        if math.isfinite(value):
            try:
                log_prob = flow.log_prob(x, condition)
            except ValueError as error:
                if abs(value) < 1e19 or "overflows" not in str(error):
                    raise
                return
            assert not torch.isnan(log_prob).any()
            assert torch.isfinite(log_prob[[0, 2]]).all()
        else:
            with pytest.raises(ValueError, match="NaN or infinite"):
                flow.log_prob(x, condition)


@FEW
@given(st.integers(0, 2**40), st.integers(0, 200), st.integers(1, 100), st.integers(1, 5))
def test_noise_belongs_to_the_example(seed, start, count, size):
    whole = uniform([seed], 0, start + count, [size])
    part = uniform([seed], start, count, [size])
    assert torch.equal(whole[start:], part)
    assert part.min() >= 0
    assert part.max() < 1


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipes_model_inverts(name):
    for seed in range(4):
        torch.manual_seed(seed)
        flow = randomize(recipe_flow(name), last=0.02).eval()
        x = torch.randn(6, *flow.shape) if flow.levels is None else extremes(flow)
        condition = some_condition(flow, 6)
        with torch.no_grad():
            z = flow.encode(x, condition)
            assert torch.isfinite(flow.log_prob(x, condition)).all()
            back = flow.decode(z, condition)
            if flow.levels is None:
                torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-3)
            else:
                assert torch.equal(back, x)
                given = [None] * 6 if condition is None else condition.split(1)
                alone = [flow.decode(*one) for one in zip(z.split(1), given, strict=True)]
                assert torch.equal(torch.cat(alone), x)


@pytest.mark.parametrize("wild", [1, 4])
@pytest.mark.parametrize("seed", range(2))
def test_images_come_back_exactly_or_are_refused(seed, wild):
    """Random weights, added again and again, stretch images until float32 cannot hold them."""
    torch.manual_seed(seed)
    flow = image_flow((1, 8, 8), coupling="logistic_mixture", blocks=1, hidden=4)
    for _ in range(wild):
        randomize(flow, last=0.05 * wild)
    x, exact = extremes(flow), 0
    with torch.no_grad():
        for one in x.split(1):
            try:
                z = flow.encode(one)
            except ValueError:
                continue
            exact += 1
            assert torch.equal(flow.decode(z), one)
    assert exact == len(x) or wild > 2, "a tame model takes every image"


STEPS = {
    **{name: partial(recipe_flow, name) for name in distinct_recipes()},
    "classes": partial(image_flow, (1, 4, 4), classes=3, norm="act", hidden=4),
    "conditional": partial(image_flow, (1, 4, 4), condition_dim=2, norm="batch", hidden=4),
    "variational": partial(image_flow, (1, 4, 4), dequantization="variational", hidden=4),
    "integers": partial(vector_flow, 3, integers=[0], classes=3, norm="act", hidden=4),
    "affine": partial(vector_flow, 3, coupling="affine", norm="batch", hidden=4),
    "mixed table": lambda: mixed_table()[0],
}


@pytest.mark.parametrize("memory", ["standard", "invertible"])
@pytest.mark.parametrize("name", STEPS)
def test_a_training_step_reads_no_value(name: str, memory: Memory, monkeypatch):
    """On the meta device, where to read one is an error; on a GPU it would be a hidden wait."""
    autocast = torch.autocast  # which knows no meta device, and is of no use there
    monkeypatch.setattr(torch, "autocast", lambda device, **options: autocast("cpu", **options))
    flow = STEPS[name]()
    condition = some_condition(flow, 2)
    x = torch.zeros(2, *flow.shape, dtype=torch.float32 if flow.levels is None else torch.uint8)
    flow.train().loss_terms(x, condition)  # the first batch initializes
    flow, x = flow.to("meta"), x.to("meta")
    condition = None if condition is None else condition.to("meta")
    noise = torch.zeros(x.shape, device="meta") if flow.noisy else None
    flow.memory = memory
    optimizer = torch.optim.AdamW(flow.parameters(), foreach=True)
    loss = sum(flow.loss_terms(x, condition, noise).values())
    assert loss.is_meta
    loss.backward()
    torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
    optimizer.step()
