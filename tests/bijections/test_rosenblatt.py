"""The Gaussian mixture that a flow starts with."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from helpers.bijections import rosenblatt
from realnvp import vector_flow
from realnvp.bijections import Rosenblatt


def log_prob(layer: Rosenblatt, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """Return the density of the data under the layer and a standard normal."""
    z, log_det = layer(x, condition)
    return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)


def mixture_log_prob(x: Tensor, means: Tensor, factors: Tensor, weights: Tensor) -> Tensor:
    """Return the density of a mixture, by its definition."""
    normal = MultivariateNormal(means, scale_tril=factors)
    return (normal.log_prob(x.unsqueeze(1)) + weights.log()).logsumexp(1)


@pytest.mark.parametrize("components", [1, 3])
def test_the_start_has_the_density_of_its_mixture(components):
    layer, x = rosenblatt(components, 4).double(), 2 * torch.randn(50, 4, dtype=torch.float64)
    expected = mixture_log_prob(x, layer.means, layer.factors, layer.weights)
    torch.testing.assert_close(log_prob(layer, x), expected)


@pytest.mark.parametrize("components", [1, 3])
def test_a_numeric_condition_gives_the_conditional_density_of_the_joint_mixture(components):
    layer = rosenblatt(components, 3, condition_dim=2).double()
    x, c = (2 * torch.randn(50, n, dtype=torch.float64) for n in (3, 2))
    joint = mixture_log_prob(torch.cat((c, x), 1), layer.means, layer.factors, layer.weights)
    marginal = mixture_log_prob(c, layer.means[:, :2], layer.factors[:, :2, :2], layer.weights)
    torch.testing.assert_close(log_prob(layer, x, c), joint - marginal)


@pytest.mark.parametrize("components", [1, 2])
def test_every_class_has_a_mixture_of_its_own(components):
    layer = rosenblatt(components, 3, classes=4).double()
    x, labels = torch.randn(40, 3, dtype=torch.float64), torch.arange(40) % 4
    found = log_prob(layer, x, torch.nn.functional.one_hot(labels, 4).double())
    for label in range(4):
        own = Rosenblatt(layer.means[label], layer.factors[label], layer.weights[label])
        torch.testing.assert_close(found[labels == label], log_prob(own, x[labels == label]))


def test_the_covariance_is_that_given_the_condition():
    layer = rosenblatt(3, 3, condition_dim=2).double()
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for weight, factor in zip(layer.weights, layer.factors, strict=True):
        joint = factor @ factor.T
        regression = joint[2:, :2] @ joint[:2, :2].inverse()
        expected += weight * (joint[2:, 2:] - regression @ joint[:2, 2:])
    torch.testing.assert_close(layer.covariance(), expected)
    layer = rosenblatt(2, 3, classes=4)
    assert layer.covariance().shape == (3, 3)


def test_a_missing_condition_is_an_error():
    with pytest.raises(ValueError, match=r"condition of shape \(5, 4\), got None"):
        rosenblatt(2, 3, classes=4)(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"condition of shape \(5, 2\), got \(5, 1\)"):
        rosenblatt(2, 3, condition_dim=2)(torch.zeros(5, 3), torch.zeros(5, 1))


@pytest.mark.parametrize(
    ("tensors", "options", "says"),
    [
        ((torch.zeros(2, 3), torch.eye(3).repeat(3, 1, 1)), {}, "factors of shape"),
        ((torch.zeros(2, 3), None, torch.ones(3) / 3), {}, "weights must have shape"),
        ((torch.zeros(2, 3), torch.ones(2, 3, 3)), {}, "lower triangular"),
        ((torch.zeros(2, 3), -torch.eye(3).repeat(2, 1, 1)), {}, "positive"),
        ((torch.zeros(2, 3), None, torch.tensor([1.0, 0.0])), {}, "positive"),
        ((torch.full((2, 3), math.nan),), {}, "finite"),
        ((torch.zeros(2, 3),), {"condition_dim": 3}, "numeric condition of 3 columns"),
        ((torch.zeros(5, 2, 3),), {"condition_dim": 1}, "numeric condition of 1 columns"),
        ((torch.zeros(5, 4, 2, 3),), {}, "factors of shape"),
    ],
)
def test_what_is_no_mixture_is_an_error(tensors, options, says):
    with pytest.raises(ValueError, match=says):
        Rosenblatt(*tensors, **options)


# ---------------------------------------------------------------------- its builder


CONDITIONS = {
    "none": ({}, (3, 2)),
    "numeric": ({"condition_dim": 2}, (3, 4)),
    "numeric, ignored": ({"condition_dim": 2}, (3, 2)),
    "classes": ({"classes": 4}, (4, 3, 2)),
    "classes, ignored": ({"classes": 4}, (3, 2)),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_flow_with_a_mixture_saves_and_loads(name, tmp_path):
    import realnvp

    condition, shape = CONDITIONS[name]
    means = torch.randn(shape)
    factors = 0.5 * torch.eye(shape[-1]).expand(*shape, shape[-1])
    mixture = means, factors, torch.full(shape[:-1], 1 / 3)
    flow = vector_flow(2, couplings=2, hidden=4, mixture=mixture, **condition).eval()
    assert flow.config["arguments"]["mixture_init"] == 3
    x = torch.randn(6, 2)
    given = {"classes": torch.arange(6) % 4, "condition_dim": torch.randn(6, 2)}
    c = given[next(iter(condition))] if condition else None
    flow.save_pretrained(tmp_path)
    assert torch.equal(realnvp.load(tmp_path).log_prob(x, c), flow.log_prob(x, c))
    torch.testing.assert_close(flow.decode(flow.encode(x, c), c), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "options", "says"),
    [
        ((3, 2), {"mixture_init": 2}, "mixture_init is 2, but mixture has 3"),
        ((3, 5), {}, r"must have shape \(3, 2\)"),
        ((3, 5), {"condition_dim": 1}, r"must have shape \(3, 3\)"),
        ((5, 3, 2), {"classes": 4}, r"must have shape \(4, 3, 2\)"),
    ],
)
def test_a_mixture_that_does_not_fit_is_an_error(shape, options, says):
    means, weights = torch.zeros(shape), torch.full(shape[:-1], 1 / 3)
    with pytest.raises(ValueError, match=says):
        vector_flow(2, mixture=(means, torch.eye(shape[-1]), weights), **options)
