"""Flows as distributions and transforms of PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Independent, Normal, TransformedDistribution, constraints

from helpers.bijections import randomize
from helpers.flows import small_image_flow, small_images
from realnvp import vector_flow
from realnvp.estimator import RealNVPDensity
from realnvp.interop import FlowDistribution, FlowTransform

SMALL = {"couplings": 2, "hidden": 4, "blocks": 0, "norm": "none"}


def small(**options):
    return randomize(vector_flow(2, **SMALL, **options)).eval()


def test_log_prob_broadcasts_values_and_conditions():
    flow = small(condition_dim=3)
    c, x = torch.randn(4, 3), torch.randn(5, 4, 2)
    p = FlowDistribution(flow, c)
    found = p.log_prob(x)
    assert found.shape == (5, 4)
    for i in range(4):
        assert torch.allclose(found[:, i], flow.log_prob(x[:, i], c[i].expand(5, 3)), atol=1e-5)
    assert p.log_prob(x[0, 0]).shape == (4,)
    wide = p.expand((5, 4))
    assert wide.batch_shape == (5, 4)
    assert torch.allclose(wide.log_prob(x), found)


def test_samples_have_the_density_and_gradients():
    flow = small()
    p = FlowDistribution(flow)
    assert p.has_rsample
    x = p.rsample((2000,))
    assert x.shape == (2000, 2)
    assert x.requires_grad
    (grads,) = torch.autograd.grad(x.sum(), flow.bijection.layers[-1].parameters().__next__())
    assert grads.abs().sum() > 0
    # E[exp(log q - log p)] over samples of p is 1 for any density q
    mean, std = x.mean(0).detach(), 0.5 * x.std(0).detach()
    log_q = Normal(mean, std).log_prob(x).sum(1)
    ratio = (log_q - p.log_prob(x)).exp().mean()
    assert ratio.item() == pytest.approx(1, abs=0.15)


def test_conditions_that_do_not_fit():
    with pytest.raises(ValueError, match="conditional: pass vectors"):
        FlowDistribution(small(condition_dim=3))
    for shape in ((4, 2), (3, 1), ()):
        with pytest.raises(ValueError, match=r"conditions have the shape \(..., 3\), got"):
            FlowDistribution(small(condition_dim=3), torch.zeros(shape))
    with pytest.raises(ValueError, match="not conditional"):
        FlowDistribution(small(), torch.zeros(4, 2))


def test_images_are_integers():
    p = FlowDistribution(small_image_flow())
    assert not p.has_rsample
    x = p.sample((2, 3))
    assert x.shape == (2, 3, 1, 8, 8)
    assert p.support.check(x).all()
    assert p.log_prob(small_images()).shape == (6,)
    with pytest.raises(NotImplementedError, match="use sample"):
        p.rsample()


def test_labels_are_marginalized_if_left_out():
    flow = small(classes=3)
    x = torch.randn(7, 2)
    every = FlowDistribution(flow, torch.arange(3)).log_prob(x[:, None])
    marginal = FlowDistribution(flow)
    assert torch.allclose(marginal.log_prob(x), every.logsumexp(1) - math.log(3), atol=1e-5)
    assert marginal.sample((4,)).shape == (4, 2)


def test_samples_come_with_their_densities_and_the_transform_has_both_in_one_pass():
    flow = small(condition_dim=3).double()
    c = torch.randn(4, 3).double()
    p = FlowDistribution(flow, c)
    x, log_prob = p.rsample_and_log_prob((5,))
    assert x.requires_grad
    assert not p.sample_and_log_prob()[0].requires_grad
    torch.testing.assert_close(log_prob, p.log_prob(x))
    z, log_det = p.transform.call_and_ladj(x)
    base = Independent(Normal(torch.zeros(2).double(), 1.0), 1)
    torch.testing.assert_close(base.log_prob(z) + log_det, log_prob)
    back, inverse_log_det = p.transform.inv.call_and_ladj(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse_log_det, -log_det)
    torch.testing.assert_close(p.transform.log_abs_det_jacobian(x, z), log_det)
    batch = TransformedDistribution(base, [p.transform.inv])
    assert batch.batch_shape == (4,)
    torch.testing.assert_close(batch.log_prob(x), log_prob)
    with pytest.raises(ValueError, match="pass labels"):
        FlowDistribution(small(classes=3)).sample_and_log_prob()


def test_a_transform_of_a_normal_is_the_flow():
    flow = small(condition_dim=1)
    c = torch.tensor([0.5])
    base = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    p = TransformedDistribution(base, [FlowTransform(flow, c)])
    x = torch.randn(3, 4, 2)
    assert torch.allclose(p.log_prob(x), FlowDistribution(flow, c).log_prob(x), atol=1e-4)
    assert isinstance(p.support, constraints.independent)
    z = torch.randn(6, 2)
    t = FlowTransform(flow, c).with_cache()
    assert torch.allclose(t.inv(t(z)), z, atol=1e-4)
    with pytest.raises(ValueError, match="pass a condition"):
        FlowTransform(flow)
    with pytest.raises(ValueError, match="not a bijection"):
        FlowTransform(small_image_flow())


def test_values_of_another_event_are_refused_without_validation_too():
    flow = vector_flow(2)
    for compute in (
        FlowDistribution(flow, validate_args=False).log_prob,
        FlowTransform(flow),
        FlowTransform(flow).inv,
    ):
        with pytest.raises(ValueError, match=r"the shape \(..., 2\), got \(3, 4\)"):
            compute(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="a condition is a tensor, got int"):
        FlowDistribution(vector_flow(2, classes=3), 1)
    assert FlowDistribution(flow).sample((0,)).shape == (0, 2)


def test_a_base_of_another_type_is_converted():
    base = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)
    moved = TransformedDistribution(base, [FlowTransform(small())])
    assert moved.sample((3,)).dtype == torch.float32
    assert moved.log_prob(torch.zeros(3, 2).double()).shape == (3,)


@pytest.mark.filterwarnings("ignore:.*left out of it")
def test_samples_of_a_table_are_in_its_support():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"kind": rng.choice(["a", "b"], 200), "x": rng.normal(size=200)})
    table.loc[::3, "x"] = np.nan
    table.loc[::5, "kind"] = None
    density = RealNVPDensity(max_steps=1, mixture_init=1, random_state=0).fit(table)
    p = FlowDistribution(density.flow_, validate_args=True)  # torch.compile turns the default off
    x = p.sample((4, 50))
    assert x.isnan().any()
    assert p.support.check(x).all()
    assert p.log_prob(x).isfinite().all()
    x[0, 0, 0] = 7
    assert p.support.check(x).sum() == 199
    with pytest.raises(ValueError, match="to be within the support"):
        p.log_prob(x)
