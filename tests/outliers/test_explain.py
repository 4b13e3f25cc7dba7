"""Which columns are strange, and where in an image."""

from __future__ import annotations

import pytest
import torch

import realnvp
from realnvp.bijections import Affine, Chain, Rosenblatt
from realnvp.outliers.explain import heat_map, surprises


def correlated(scale: tuple[float, float] = (1.0, 1.0)) -> realnvp.Flow:
    """A Gaussian whose columns have correlation 0.9, in some units."""
    factor = torch.tensor([[1.0, 0.0], [0.9, 0.19**0.5]]) * torch.tensor(scale)[:, None]
    return realnvp.Flow(Chain(Rosenblatt(torch.zeros(1, 2), factor[None], torch.ones(1))), (2,))


def test_the_contribution_is_the_conditional_surprise():
    x = torch.tensor([[2.0, -2.0], [1.0, 0.9]])
    found = surprises(correlated().double(), x.double())
    # given the other column, each is normal with mean 0.9 x and variance 0.19
    for j in (0, 1):
        residual = (x[:, j] - 0.9 * x[:, 1 - j]).double()
        assert torch.allclose(found[:, j], residual.square() / 0.38 - 0.5, atol=0.3)


def test_columns_that_nearly_follow_from_each_other():
    rho = 0.9999
    factor = torch.tensor([[1.0, 0.0], [rho, (1 - rho**2) ** 0.5]])
    near = Chain(Rosenblatt(torch.zeros(1, 2), factor[None], torch.ones(1)))
    x = torch.tensor([[0.321, 0.321], [-1.0, -1.01], [0.5, 0.6]]).double()
    found = surprises(realnvp.Flow(near, (2,)).double(), x)
    residual = (x[:, 0] - rho * x[:, 1]).square() / (1 - rho**2) / 2
    assert torch.allclose(found[:, 0], residual - 0.5, atol=0.16)
    assert found[0].abs().max() < 0.6, "an ordinary row has nothing to explain"


def test_the_unit_does_not_count():
    x = torch.tensor([[1.0, -0.5]]).double()
    unit = torch.tensor([100.0, 0.01]).double()
    one = surprises(correlated().double(), x)
    assert torch.allclose(one, surprises(correlated((100.0, 0.01)).double(), x * unit), atol=0.05)


def test_integer_columns_have_a_sum():
    flow = realnvp.vector_flow(2, coupling="affine", integers=(1,)).eval()
    found = surprises(flow, torch.tensor([[0.0, 0.0], [0.0, 4.0]]))
    assert found[1, 1] > found[0, 1] + 3


def test_a_heat_map_is_where_the_latents_are_far_out():
    flow = realnvp.Flow(Chain(Affine(torch.zeros(1), torch.ones(1))), (1, 4, 4))
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 2] = 5.0
    found = heat_map(flow, x)
    assert found.shape == (1, 4, 4)
    assert found.flatten().argmax() == 6
    with pytest.raises(ValueError, match="heat_map"):
        surprises(flow, x)
    with pytest.raises(ValueError, match="surprises"):
        heat_map(correlated(), torch.zeros(1, 2))
