"""Flows that are fitted to densities known up to a constant."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import realnvp
from realnvp.bijections import Bijection
from realnvp.energy import (
    EnergyFit,
    _encode,
    _evaluate,
    _loss,
    _missed,
    _Points,
    _Target,
    fit_energy,
)

WELL_LOG_Z = 10.2935  # by quadrature


def double_well(x: Tensor) -> Tensor:
    return -(x[:, 0] ** 4 - 6 * x[:, 0] ** 2 - 0.5 * x[:, 0] + 0.5 * x[:, 1] ** 2)


def half_plane(x: Tensor) -> Tensor:
    """A Gaussian at (1, 0), cut off at 0, whose integral is 2 pi Phi(1)."""
    inside = -0.5 * ((x[:, 0] - 1) ** 2 + x[:, 1] ** 2)
    return torch.where(x[:, 0] > 0, inside, -math.inf)


def make_flow(std: float = 3.0, **options: object) -> realnvp.Flow:
    torch.manual_seed(0)
    options = {"couplings": 2, "hidden": 16, "components": 4} | options
    return realnvp.vector_flow(2, std=torch.full((2,), std), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def well() -> EnergyFit:
    return fit_energy(make_flow(), double_well, steps=300, quiet=True)


def test_both_wells_have_their_weight_and_log_z_is_that_of_quadrature(well):
    assert well.log_z == pytest.approx(WELL_LOG_Z, abs=0.05)
    assert well.log_z_error < 0.02
    assert well.ess > 0.8
    assert well.missed < 0.02
    right = (well.samples[:, 0] > 0).double()
    assert (well.importance_weights() @ right).item() == pytest.approx(0.849, abs=0.03)


def test_evaluations_are_counted_and_records_say_how_it_went(well):
    assert well.stopped_early
    assert well.evaluations == 256 * len(well.records) + 4096
    assert well.records[0] == {"step": 0, "annealing": 0.0}
    assert well.records[-1]["annealing"] == 1
    assert well.records[-1]["ess"] >= 0.9


def test_samples_are_those_of_the_target(well):
    generator = torch.Generator().manual_seed(1)
    before = well.evaluations
    chain, accepted = well.metropolis(4000, generator)
    assert well.evaluations == before + 4000
    for samples in (well.resample(4000, generator), chain):
        assert samples.shape == (4000, 2)
        assert (samples[:, 0] > 0).double().mean().item() == pytest.approx(0.849, abs=0.04)
        assert samples[:, 1].std().item() == pytest.approx(1, abs=0.06)
    assert 0.6 < accepted < 1


def test_weights_correct_a_flow_that_is_far_off():
    """Resampling and the chain are of the target, whatever the flow is."""
    flow = make_flow(2.0).requires_grad_(False)
    fit = fit_energy_without_training(flow, lambda x: -0.5 * (x - 1).square().sum(1))
    generator = torch.Generator().manual_seed(0)
    assert fit.log_z == pytest.approx(math.log(2 * math.pi), abs=4 * fit.log_z_error)
    for samples in (fit.resample(20_000, generator), fit.metropolis(20_000, generator)[0]):
        torch.testing.assert_close(samples.mean(0), torch.ones(2), atol=0.06, rtol=0)
        torch.testing.assert_close(samples.std(0), torch.ones(2), atol=0.06, rtol=0)
    error = fit.log_z_error
    assert fit.draw(60_000, generator).log_z_error < 0.6 * error
    assert len(fit.samples) == 80_000


def fit_energy_without_training(flow: realnvp.Flow, log_density: object) -> EnergyFit:
    target = _Target(log_density)  # type: ignore[arg-type]
    empty = EnergyFit(flow.eval(), torch.empty(0, 2), torch.empty(0), 0, False, [], 0.0, target)
    return empty.draw(20_000, torch.Generator().manual_seed(2))


def test_a_seed_repeats_a_fit_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    fits = []
    for _ in range(2):
        flow = make_flow()
        torch.set_rng_state(state)
        fits.append(fit_energy(flow, double_well, steps=5, seed=3, quiet=True))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(fits[0].samples, fits[1].samples)
    assert fits[0].log_z == fits[1].log_z


def test_a_density_may_be_zero_outside_of_its_support():
    fit = fit_energy(make_flow(), half_plane, steps=100, quiet=True)
    truth = math.log(2 * math.pi * 0.8413447)
    assert fit.log_z == pytest.approx(truth, abs=max(0.03, 4 * fit.log_z_error))
    assert fit.ess > 0.7
    assert (fit.resample(1000)[:, 0] > 0).all()
    assert (fit.metropolis(1000)[0][:, 0] > 0).all()


def test_a_function_without_gradients_is_fitted_to_resampled_points():
    def log_density(x: Tensor) -> Tensor:
        return torch.from_numpy(double_well(x.detach()).numpy())

    fit = fit_energy(make_flow(), log_density, steps=150, quiet=True)
    assert fit.log_z == pytest.approx(WELL_LOG_Z, abs=0.05)
    assert fit.ess > 0.6


def test_path_gradients_vanish_at_the_optimum():
    """Where flow and target are equal, no point has a gradient but by its likelihood."""
    flow = make_flow(coupling="affine")
    generator = torch.Generator().manual_seed(0)
    start, target = make_flow(coupling="affine"), _Target(flow.log_prob)
    points = _evaluate(flow, start, target, 64, generator)
    loss = _loss(flow, points, 1.0) + _encode(flow, points.x)[1].mean()
    loss.backward()
    assert max(p.grad.abs().max() for p in flow.parameters()) < 1e-5


class Standardize(Bijection):
    """The map (x - mean) / exp(log_scale)."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.log_scale = torch.nn.Parameter(torch.tensor(0.4, dtype=torch.float64))

    def forward(self, x, condition=None):
        return (x - self.mean) * (-self.log_scale).exp(), -self.log_scale.expand(len(x))

    def inverse(self, z, condition=None):
        return z * self.log_scale.exp() + self.mean, self.log_scale.expand(len(z))


def test_the_gradient_is_that_of_both_divergences():
    """Of normal densities, whose quantiles are the samples, so that averages are integrals."""
    layer = Standardize()
    flow = realnvp.Flow(layer, (1,))
    mean, scale = 1.0, 0.5
    z = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)[:, None]

    def gradient(loss: Tensor) -> list[float]:
        return [float(g) for g in torch.autograd.grad(loss, list(layer.parameters()))]

    def of_samples(x: Tensor) -> list[float]:
        nothing = torch.zeros(len(x)).double()
        score = (mean - x) / scale**2
        return gradient(_loss(flow, _Points(x, nothing, nothing, nothing, score, 0 * score), 1.0))

    def q() -> Normal:
        return Normal(layer.mean, layer.log_scale.exp())

    p = Normal(torch.tensor(mean), torch.tensor(scale))
    reverse, forward = gradient(kl_divergence(q(), p)), gradient(2 * kl_divergence(p, q()))
    assert of_samples(layer.inverse(z)[0].detach()) == pytest.approx(reverse, rel=1e-3)
    assert of_samples(z * scale + mean) == pytest.approx(forward, rel=1e-3)


def test_a_lost_mode_is_reported():
    """One of two wells with a flow that never anneals, starts in one, and stays there."""
    flow = make_flow(0.3).requires_grad_(False)
    x = torch.randn(2000, 2) * 3
    log_q = torch.distributions.Normal(0, 3).log_prob(x).sum(1).double()
    log_p = -0.5 * (x[:, 0].abs() - 4).square().double() / 0.1 - 0.5 * x[:, 1].double().square()
    nothing = torch.zeros(2000).double()
    points = _Points(x, log_q, log_p, nothing, x, x)
    assert _missed(flow, points, 1.0) > 0.9


@pytest.mark.parametrize(
    ("log_density", "message"),
    [
        (lambda x: x.sum(), r"one number per point, of shape \(256,\), got \(\)"),
        (lambda x: x.sum(1, keepdim=True), r"got \(256, 1\)"),
        (lambda x: 0.0, "must return a tensor, got float"),
        (lambda x: x[:, 0].log(), r"returned NaN for \d+ of 256 points, the first at x = \["),
        (lambda x: (x[:, 0] - 1e9).reciprocal() * 0 + math.inf, "returned infinity for 256 of 256"),
        (lambda x: x.sum(1) - math.inf, "minus infinity at all 256 samples of the flow: let it"),
        (lambda x: (x[:, 0] * 0).sqrt() * x[:, 1], "a value whose gradient is NaN for"),
    ],
)
def test_a_target_that_cannot_be_is_named(log_density, message):
    with pytest.raises(ValueError, match=message):
        fit_energy(make_flow(), log_density, steps=2, quiet=True)


@pytest.mark.parametrize(
    ("flow", "options", "message"),
    [
        (realnvp.vector_flow(2, condition_dim=1), {}, "without a condition"),
        (realnvp.vector_flow(2, integers=[0]), {}, "of continuous values"),
        (realnvp.vector_flow(2), {"steps": 0}, "steps must be an integer, 1 or more, got 0"),
        (realnvp.vector_flow(2), {"annealing": 1.5}, "a fraction of the steps, from 0 to 1"),
        (realnvp.vector_flow(2, norm="batch"), {}, "norm"),
    ],
)
def test_flows_and_options_that_do_not_fit_are_refused(flow, options, message):
    with pytest.raises(ValueError, match=message):
        fit_energy(flow, double_well, quiet=True, **options)
