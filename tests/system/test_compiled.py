"""A training step, densities and samples are one graph each: `torch.compile` finds no break."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from realnvp import Flow, image_flow, vector_flow

TINY = {"hidden": 4, "blocks": 1}
MODELS: dict[str, Callable[[], Flow]] = {
    "realnvp": partial(image_flow, (1, 4, 4), scales=1, **TINY),
    "glow": partial(
        image_flow, (1, 4, 4), architecture="glow", scales=1, steps=1, norm="act", **TINY
    ),
    "coarse_to_fine": partial(
        image_flow, (1, 4, 4), architecture="coarse_to_fine", scales=2, steps=1, **TINY
    ),
    "gaussian_mixture": partial(vector_flow, 4, couplings=2, integers=[0], **TINY),
    "logistic_mixture": partial(vector_flow, 4, coupling="logistic_mixture", couplings=2, **TINY),
    "affine": partial(vector_flow, 4, coupling="affine", norm="batch", couplings=2, **TINY),
}


close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch's
@pytest.mark.parametrize("name", MODELS)
def test_there_is_no_graph_break(name):
    """With ``fullgraph`` a break is an error; a read of a value would be one."""
    torch.manual_seed(0)
    flow = MODELS[name]()
    x = torch.randn(4, *flow.shape) if flow.levels is None else torch.randint(0, 9, (4, 1, 4, 4))
    x = x.round() if flow.levels is None else x.byte()
    noise = torch.rand(x.shape) if flow.noisy else None
    for parameter in flow.parameters():  # else they are the identity
        parameter.data.add_(0.1 * torch.randn_like(parameter))

    def step(flow: Flow, x: Tensor, noise: Tensor | None) -> Tensor:
        return torch.stack([*flow.loss_terms(x, None, noise).values()]).sum()

    step(flow.train(), x, noise)  # the first batch initializes
    twin = copy.deepcopy(flow)
    graph = partial(torch.compile, fullgraph=True, backend="eager")
    loss = graph(step)(flow, x, noise)
    close(loss, step(twin, x, noise))
    loss.backward()
    assert all(p.grad is not None for p in flow.parameters())
    flow.eval()
    z = torch.randn(4, *flow.shape)
    with torch.no_grad():
        close(graph(flow.decode)(z), flow.decode(z))
        close(graph(flow.log_prob)(x, None, noise), flow.log_prob(x, None, noise))
    torch._dynamo.reset()
