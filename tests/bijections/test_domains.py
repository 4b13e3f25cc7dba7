"""Densities on intervals, half-lines, circles and simplexes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch.distributions import (
    Categorical,
    Dirichlet,
    Exponential,
    HalfNormal,
    Independent,
    MultivariateNormal,
    Uniform,
    constraints,
)

import realnvp
from helpers.bijections import randomize
from realnvp import Coupling, vector_flow
from realnvp.bijections.domains import Domain, as_domain
from realnvp.estimator import RealNVPDensity
from realnvp.interop import FlowDistribution

INTERVAL, HALF_LINE, ANGLE = ("interval", 0.1, 1.1), ("halfline", -3.0), ("circle", -1.0, 1.0)
SIMPLEX = ("simplex",)
ENDS = {"interval": (0.1, 1.1), "halfline": (-3.0, 97.0), "circle": (-1.0, 1.0), "simplex": (0, 1)}
DOMAINS = {
    "interval": [INTERVAL],
    "half-line": [HALF_LINE],
    "circle": [ANGLE],
    "torus": [ANGLE, ANGLE],
    "triangle": [SIMPLEX, SIMPLEX],
    "cylinder": [INTERVAL, ANGLE],
}


def bumpy(domain, **options):
    """Return a flow on a domain that is neither uniform nor too steep for a grid."""
    flow = vector_flow(
        len(domain), domain=domain, coupling="spline", couplings=2, hidden=8, **options
    )
    for layer in flow.modules():
        if isinstance(layer, Coupling):
            randomize(layer, last=0.05)
    return flow.double().eval()


@pytest.mark.parametrize("name", DOMAINS)
def test_the_density_integrates_to_one_on_its_domain_and_is_zero_outside(name):
    domain = DOMAINS[name]
    flow = bumpy(domain)
    points = 200_000 if len(domain) == 1 else 500
    grids, volume = [], 1.0
    for entry in domain:
        low, high = ENDS[entry[0]]
        step = (high - low) / points
        grids.append(low + step * (torch.arange(points).double() + 0.4))
        volume *= step
    x = torch.cartesian_prod(*grids).view(-1, len(domain))
    with torch.no_grad():
        density = flow.log_prob(x).exp()
    assert density.max() > 1.1 * density[density > 0].median(), "not uniform"
    assert density.sum().item() * volume == pytest.approx(1, abs=3e-3)
    if name == "triangle":
        assert (density[x.sum(1) > 1.001] == 0).all()
    if name not in ("circle", "torus"):
        outside = x[:1].clone()
        outside[:, 0] = ENDS[domain[0][0]][0] - 0.01
        assert flow.log_prob(outside).item() == -math.inf


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_stay_inside_however_far_out_their_latents_are(name, dtype):
    flow = bumpy(DOMAINS[name]).to(dtype)
    x = flow.sample(5000, temperature=6.0, generator=torch.Generator().manual_seed(0))
    assert flow.dequantization.possible(x).all()
    assert FlowDistribution(flow).support.check(x).all()
    assert flow.log_prob(x).isfinite().all()
    if name == "triangle":
        assert constraints.simplex.check(torch.cat((x, 1 - x.sum(1, keepdim=True)), 1)).all()
        assert x.sum(1).max() <= 1
    if name in ("circle", "torus"):
        assert x.min() >= -1
        assert x.max() < 1


def test_the_ends_of_a_circle_are_one_point():
    flow = bumpy([ANGLE, INTERVAL])
    y = torch.full((2,), 0.7).double()
    seam = torch.stack((torch.tensor([-1 + 1e-9, 1 - 1e-9]).double(), y), dim=1)
    first, last = flow.log_prob(seam)
    assert first.item() == pytest.approx(last.item(), abs=1e-6)
    turned = seam + torch.tensor([2.0, 0.0]).double()
    torch.testing.assert_close(flow.log_prob(turned), flow.log_prob(seam))
    other = flow.log_prob(torch.tensor([[0.3, 0.7]]).double())
    assert abs(other.item() - first.item()) > 1e-3


def test_a_new_flow_is_uniform():
    for domain, volume in (([INTERVAL], 1.0), ([ANGLE], 2.0), ([SIMPLEX] * 3, 1 / 6)):
        flow = vector_flow(len(domain), domain=domain, coupling="affine").double().eval()
        x = torch.full((1, len(domain)), 0.2).double()
        assert flow.log_prob(x).item() == pytest.approx(-math.log(volume), abs=1e-9)


def test_supports_of_distributions_are_domains():
    box = Independent(Uniform(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 3.0])), 1)
    assert as_domain(box.support, 2) == [["interval", 0.0, 1.0], ["interval", -1.0, 3.0]]
    assert as_domain(HalfNormal(torch.ones(2)).support, 2) == [["halfline", 0.0]] * 2
    assert as_domain(Exponential(torch.ones(1)).support, 1) == [["halfline", 0.0]]
    assert as_domain(MultivariateNormal(torch.zeros(2), torch.eye(2)).support, 2) is None
    both = constraints.cat([box.support, constraints.real], lengths=[2, 1])
    assert as_domain(both, 3) == [*as_domain(box.support, 2), None]
    with pytest.raises(ValueError, match="model all fractions but the last"):
        as_domain(Dirichlet(torch.ones(3)).support, 3)
    with pytest.raises(ValueError, match="is not a domain of a flow"):
        as_domain(Categorical(torch.ones(3)).support, 1)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ([("interval", 0, 1)], "an entry for each column, 2, got 1"),
        ("interval", "an entry for each column, got 'interval'"),
        ([("interval", 1, 0), None], "finite ends, the lower one first"),
        ([("interval", 0, math.inf), None], "finite ends"),
        ([("interval", 0), None], "finite ends"),
        ([("circle", 0), None], "both ends of a period"),
        ([("halfline",), None], "one finite end"),
        ([("simplex", 1), None], "no numbers"),
        ([("intervall", 0, 1), None], "did you mean"),
        ([("interval", "a", 1), None], "a name and numbers"),
        ([[], None], "a name and numbers"),
    ],
)
def test_what_is_not_a_domain_is_refused(domain, message):
    with pytest.raises(ValueError, match=message):
        vector_flow(2, domain=domain)


def test_a_flow_on_a_domain_is_saved_with_it(tmp_path):
    flow = bumpy([INTERVAL, ANGLE, None])
    flow.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["arguments"]["domain"] == [[*INTERVAL], [*ANGLE], None]
    again = realnvp.load(tmp_path)
    x = flow.sample(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.log_prob(x), flow.log_prob(x))


def test_a_domain_of_ones_own(monkeypatch):
    monkeypatch.setattr(realnvp.utils.registry.DOMAINS, "_entries", {})

    @realnvp.register_domain("above-exp")
    class Above(Domain):
        def contains(self, x):
            return x > 0

        def forward(self, x):
            return x.log(), -x.log()

        def inverse(self, z):
            return z.exp(), z

    flow = vector_flow(1, domain=[("above-exp",)]).eval()
    assert flow.sample(100).min() > 0


def test_the_estimator_fits_on_a_domain(tmp_path):
    rng = np.random.default_rng(0)
    angle = rng.vonmises(2.5, 2.0, 600)  # around the seam
    x = np.stack((angle, rng.exponential(size=600), rng.uniform(size=600)), axis=1)
    domain = [("circle",), ("halfline", 0), ("interval", 0, 1)]
    density = RealNVPDensity(max_steps=60, random_state=0).fit(x, domain=domain)
    log_p = density.score_samples(x)
    truth = 2 * np.cos(angle - 2.5) - math.log(2 * math.pi * np.i0(2.0)) - x[:, 1]
    assert log_p.mean() == pytest.approx(truth.mean(), abs=0.2)
    samples = density.sample(500, random_state=1)
    assert density.flow_.dequantization.possible(torch.tensor(samples)).all()
    with pytest.warns(UserWarning, match="which is not in the domain"):
        assert density.score_samples([[0.0, -1.0, 0.5]])[0] == -math.inf
    density.save(tmp_path)
    np.testing.assert_allclose(RealNVPDensity.load(tmp_path).score_samples(x), log_p)
    np.testing.assert_allclose(density.inverse_transform(density.transform(x)), x, atol=1e-6)
    with pytest.raises(ValueError, match=r"no latents: .* which is not in the domain"):
        density.transform([[0.0, -1.0, 0.5]])
    x[3, 1] = -5
    with pytest.raises(ValueError, match=r"column 1, row 3 .*: -5 is not in the domain"):
        RealNVPDensity(max_steps=1).fit(x, domain=domain)


def test_an_angle_given_numbers():
    rng = np.random.default_rng(0)
    c = rng.uniform(-3, 3, 400)
    angle = np.mod(c + rng.normal(0, 0.2, 400) + math.pi, 2 * math.pi) - math.pi
    density = RealNVPDensity(max_steps=200, random_state=0)
    density.fit(angle, condition=c, domain=[("circle",)])
    assert density.score(angle, condition=c) > -0.5  # uniform: -1.84
