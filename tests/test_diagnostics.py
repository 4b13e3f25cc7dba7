"""Diagnosis: what is wrong is found, and named."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.flows import small_image_flow, small_images
from realnvp import Bijection, Chain, Flow, vector_flow
from realnvp.bijections import AffineCoupling, Inverse, InvertibleLinear
from realnvp.diagnostics import check_latents, check_layers, find_non_finite, overfit
from realnvp.estimator.density import RealNVPDensity


def test_check_finds_a_forgotten_log():
    flow, x = small_image_flow(), small_images(4)
    reports = check_layers(flow, x)
    assert all(r.round_trip_error < 1e-3 for r in reports)
    checked = [r for r in reports if r.log_det_error is not None]
    assert len(checked) > 5
    assert all(r.log_det_error < 1e-9 for r in checked)
    norm = next(m for m in flow.modules() if type(m).__name__ == "RunningBatchNorm")
    norm.forward = lambda x, condition=None: (type(norm).forward(norm, x)[0], torch.zeros(len(x)))
    assert [r.kind for r in check_layers(flow, x) if r.wrong] == ["RunningBatchNorm"]


@pytest.mark.parametrize(
    ("shift", "log"), [(1.0, 0.0), (0.0, 5.0), (math.nan, 0.0), (0.0, math.nan)]
)
def test_check_finds_a_broken_inverse(shift, log):
    flow, x = small_image_flow(), small_images(4)
    assert not any(r.wrong for r in check_layers(flow, x))
    norm = next(m for m in flow.modules() if type(m).__name__ == "RunningBatchNorm")
    inverse = norm.inverse

    def broken(z, condition=None):
        x, log_det = inverse(z, condition)
        return x + shift, log_det + log

    norm.inverse = broken
    assert [r.kind for r in check_layers(flow, x) if r.wrong] == ["RunningBatchNorm"]


class Wrapped(Bijection):
    """A layer around another one, whose log-determinant lacks a factor."""

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x, condition=None):
        z, log_det = self.inner(x, condition)
        return 3 * z, log_det

    def inverse(self, z, condition=None):
        return self.inner.inverse(z / 3, condition)


@pytest.mark.parametrize("outer", [Wrapped, lambda layer: Inverse(Wrapped(layer))])
def test_check_looks_at_wrapped_and_inverted_layers(outer):
    found = check_layers(Flow(Chain(outer(InvertibleLinear(2))), (2,)), torch.randn(6, 2))
    assert {report.name: report.wrong for report in found}["layers.0"]


def test_check_latents_has_a_row_for_each_scale():
    rows = check_latents(small_image_flow(scales=3), small_images())
    assert [name for name, _, _ in rows] == ["all latents", "scale 1", "scale 2", "scale 3"]


def test_overfit_memorizes_a_few_examples():
    flow = small_image_flow()
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    first, last = overfit(flow, small_images(4), steps=60, lr=1e-2)
    assert last < first - 0.3
    assert all(torch.equal(before[name], tensor) for name, tensor in flow.state_dict().items())


def test_overfit_adds_noise_to_integer_columns_before_they_are_standardized():
    flow = vector_flow(2, coupling="affine", couplings=2, hidden=16, norm="act", integers=[0])
    x = torch.tensor([[0.0, 0.5], [30.0, 0.1], [60.0, -0.4], [90.0, 0.9]])
    first, last = overfit(flow, x, steps=60, lr=1e-2)
    assert first + 0.3 < last < math.inf  # nats: more is better
    with pytest.raises(ValueError, match="2 examples"):
        overfit(flow, x[:1])


def test_overfit_receives_a_numeric_condition_in_the_unit_of_the_flow():
    flow = vector_flow(2, condition_dim=1, coupling="affine", couplings=2, hidden=16)
    salary = torch.tensor([[20_000.0], [40_000.0], [60_000.0], [80_000.0]])
    x = torch.cat((salary, -salary), dim=1)
    flow.condition_shift.fill_(50_000.0)
    flow.condition_scale.fill_(22_000.0)
    other = vector_flow(2, condition_dim=1, coupling="affine", couplings=2, hidden=16)
    expected = overfit(other, x, (salary - 50_000) / 22_000, steps=30)
    assert overfit(flow, x, salary, steps=30) == pytest.approx(expected)


def coupling_of(flow: Flow) -> tuple[str, Bijection]:
    return next((n, m) for n, m in flow.named_modules() if isinstance(m, AffineCoupling))


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_check_finds_a_log_determinant_that_is_a_mean_of_the_batch(direction: str):
    """Of one example alone, and of its own inverse, it would be right."""

    class Mean(AffineCoupling):
        pass

    right = getattr(AffineCoupling, direction)

    def mean(layer, x, condition=None):
        value, log_det = right(layer, x, condition)
        return value, log_det.mean().expand(len(x))

    setattr(Mean, direction, mean)
    flow, x = small_image_flow(), small_images(4)
    name, layer = coupling_of(flow)
    layer.__class__ = Mean
    assert [f"bijection.{r.name}" for r in check_layers(flow, x) if r.wrong] == [name]


def test_check_refuses_a_log_determinant_of_one_number_for_all():
    flow, x = small_image_flow(), small_images(4)
    name, layer = coupling_of(flow)
    layer.mask.merge = lambda passive, active, log_det: (passive + 0, log_det.mean())
    with pytest.raises(ValueError, match=rf"{name.removeprefix('bijection.')} .* shape \(\)"):
        check_layers(flow, x)


def test_the_first_layer_that_is_not_finite_is_named():
    flow, x = small_image_flow().train(), small_images()
    assert not find_non_finite(flow, x).found
    name, layer = coupling_of(flow)
    with torch.no_grad():
        layer.conditioner.last.bias[0] = math.nan
    report = find_non_finite(flow, x)
    assert report.found
    assert report.where == f"{name}.conditioner.last (Conv2d)"
    assert report.rows == list(range(6))


def test_data_that_are_not_finite_are_named_with_their_rows():
    x = torch.zeros(4, 2)
    x[2, 1] = math.inf
    report = find_non_finite(vector_flow(2), x)
    assert (report.where, report.rows) == ("the data", [2])


def test_a_gradient_that_is_not_finite_is_named():
    class Root(Bijection):
        def forward(self, x, condition=None):
            return x.abs().sqrt(), torch.zeros(len(x))

        def inverse(self, z, condition=None):
            return z.square(), torch.zeros(len(z))

    flow = vector_flow(2, coupling="affine", couplings=2, hidden=4)
    flow.bijection.layers.append(Root())
    x = torch.ones(3, 2)
    x[1] = 0  # where the slope of the root is infinite
    report = find_non_finite(flow, x)
    assert report.where.startswith("the gradient of the output of bijection.layers.")
    assert report.rows == [1]
    assert not find_non_finite(flow, x, gradients=False).found


def test_check_passes_a_table_with_gaps():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=200), "b": rng.choice(["x", "y"], 200)})
    frame.loc[rng.random(200) < 0.2, "a"] = np.nan
    density = RealNVPDensity(max_steps=1, random_state=0).fit(frame)
    x = torch.as_tensor(density._schema.encode(frame)[0])
    found = check_layers(density.flow_, x)
    assert found
    assert not any(report.wrong for report in found)
