"""Averages of densities of one column.

Invertibility and the log-determinant are tested in ``test_base.py``, for all bijections.
"""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from helpers.bijections import gaussian_mixture, randomize
from realnvp import vector_flow
from realnvp.bijections import Affine, Average
from realnvp.builders import average_flow
from realnvp.flow import Flow

MEANS, SCALES = torch.tensor([-2.0, 1.0, 6.0]).double(), torch.tensor([0.5, 1.0, 0.1]).double()


@pytest.fixture
def layer() -> Average:
    return Average(*(Affine(m[None], s[None]) for m, s in zip(MEANS, SCALES, strict=True))).double()


def test_the_density_is_the_mean_of_the_members(layer):
    known = MixtureSameFamily(Categorical(torch.ones(3).double()), Normal(MEANS, SCALES))
    x = torch.linspace(-60, 60, 241).double()
    z, log_det = layer(x[:, None])
    log_p = Normal(0.0, 1.0).log_prob(z[:, 0]) + log_det
    torch.testing.assert_close(log_p, known.log_prob(x))  # in the tails, too
    near = x.abs() < 4
    torch.testing.assert_close(torch.special.ndtr(z[near, 0]), known.cdf(x[near]))


def test_gaps_between_members_and_far_latents_are_inverted(layer):
    z = torch.tensor([-30.0, -8.0, -1.0, 0.43, 0.4307, 0.44, 2.0, 9.0, 30.0]).double()[:, None]
    x, _ = layer.inverse(z)
    torch.testing.assert_close(layer(x)[0], z, rtol=1e-6, atol=1e-6)
    assert (x.diff(dim=0) > 0).all()


def test_the_inverse_has_gradients():
    layer = Average(*(gaussian_mixture(1, 2) for _ in range(2)))
    randomize(layer.double())
    z = torch.randn(4, 1, dtype=torch.float64, requires_grad=True)
    given = torch.randn(4, 2, dtype=torch.float64)
    x, log_det = layer.inverse(z, given)
    (grad,) = torch.autograd.grad(x.sum(), z)
    torch.testing.assert_close(grad[:, 0].log(), log_det)


def flow(seed: int, **options) -> Flow:
    torch.manual_seed(seed)
    settings = {"condition_dim": 2, "couplings": 1, "hidden": 4, "coupling": "gaussian_mixture"}
    found = vector_flow(1, **settings | options)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return found.eval()


def test_an_average_of_flows_is_a_flow_that_is_saved(tmp_path):
    flows = [flow(seed).double() for seed in range(3)]
    whole = average_flow(flows)
    x, given = torch.randn(50, 1).double(), torch.randn(50, 2).double()
    expected = (
        torch.stack([one.log_prob(x, given) for one in flows]).logsumexp(0)
        - torch.tensor(3.0).log()
    )
    torch.testing.assert_close(whole.log_prob(x, given), expected)
    torch.testing.assert_close(whole.decode(whole.encode(x, given), given), x)
    whole.save_pretrained(tmp_path)
    loaded = type(whole).from_pretrained(tmp_path)
    torch.testing.assert_close(
        loaded.log_prob(x.float(), given.float()).double(), expected, rtol=1e-4, atol=1e-4
    )


def test_what_cannot_be_averaged():
    with pytest.raises(ValueError, match="at least one bijection"):
        Average()
    with pytest.raises(ValueError, match="only flows of one column"):
        vector_flow(2, members=2)
    for bad in (0, True, 1.5):
        with pytest.raises(ValueError, match="members must be 1 to 1000"):
            vector_flow(1, members=bad)  # type: ignore[arg-type]
    for pair in ([flow(0), flow(0, hidden=8)], [flow(0, members=2)] * 2):
        with pytest.raises(ValueError, match="built with equal arguments"):
            average_flow(pair)


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ValueError, match="made of bijections, got a Linear"):
        Average(Affine(torch.zeros(1)), torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="has 1 channel,"):
        Average(Affine(torch.zeros(2)))(torch.zeros(3, 2))
