"""A training step, densities and samples of every recipe are one graph each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from helpers.recipes import mixed_table, recipe_flow, some_condition
from realnvp import Flow, vector_flow

COMPILED = ("table", "checkerboard", "digits", "cifar10")
"""Recipes of points and images, mixtures and affine couplings; the others have the same parts."""

MODELS: dict[str, Callable[[], Flow]] = {
    **{name: partial(recipe_flow, name, tiny=True) for name in COMPILED},
    "affine": partial(vector_flow, 4, coupling="affine", norm="batch", couplings=2, hidden=4),
}


close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch's
@pytest.mark.parametrize("name", [*MODELS, "mixed table"])
def test_there_is_no_graph_break(name):
    """With ``fullgraph`` a break is an error; a read of a value would be one."""
    torch.manual_seed(0)
    flow, x = (MODELS[name](), None) if name in MODELS else mixed_table()
    if x is None and flow.levels is None:
        x = torch.randn(4, *flow.shape)
    elif x is None:
        x = torch.randint(0, flow.levels, (4, *flow.shape)).byte()
    condition = some_condition(flow, len(x))
    noise = torch.rand(x.shape) if flow.noisy else None
    for parameter in flow.parameters():  # else they are the identity
        parameter.data.add_(0.1 * torch.randn_like(parameter))

    def step(flow: Flow, x: Tensor, noise: Tensor | None) -> Tensor:
        return torch.stack([*flow.loss_terms(x, condition, noise).values()]).sum()

    step(flow.train(), x, noise)  # the first batch initializes
    twin = copy.deepcopy(flow)
    graph = partial(torch.compile, fullgraph=True, backend="eager")
    loss = graph(step)(flow, x, noise)
    close(loss, step(twin, x, noise))
    loss.backward()
    assert all(p.grad is not None for p in flow.parameters())
    flow.eval()
    z = torch.randn(len(x), *flow.shape)
    with torch.no_grad():
        close(graph(flow.decode)(z, condition), flow.decode(z, condition), equal_nan=True)  # gaps
        close(graph(flow.log_prob)(x, condition, noise), flow.log_prob(x, condition, noise))
    torch._dynamo.reset()
