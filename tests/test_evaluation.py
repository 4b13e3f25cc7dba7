"""Numbers mean what their names say."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.bijections import randomize
from helpers.flows import UniformToNormal, small_image_flow, small_images
from realnvp import Chain, Flow, vector_flow
from realnvp.bijections import Dequantize
from realnvp.data import Split
from realnvp.diagnostics import check_latents, check_layers, overfit
from realnvp.evaluation import evaluate, log_likelihood, log_likelihoods, round_trip
from realnvp.latents import interpolate, levels
from realnvp.utils.rng import Stream, uniform


def test_likelihood_is_the_mean_with_its_standard_error():
    flow, x = small_image_flow(), small_images(50)
    result = evaluate(flow, Split(x), seed=3)
    bits = flow.bits_per_dim(x, noise=uniform((3, Stream.DRAWS, 0), 0, 50, flow.shape)).double()
    assert result.bits_per_dim == pytest.approx(bits.mean().item(), rel=1e-6)
    assert result.standard_error == pytest.approx(bits.std().item() / math.sqrt(50), rel=1e-5)
    assert (result.examples, result.levels, result.noise_draws) == (50, 17, 1)
    assert evaluate(flow, Split(x), seed=3) == result
    assert evaluate(flow, Split(x), seed=4) != result


def test_noise_depends_on_the_example_only():
    flow, x = small_image_flow(), small_images(50)
    whole = log_likelihoods(flow, Split(x), samples=2)
    parts = log_likelihoods(flow, Split(x), samples=2, batch_size=7)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-3)


def test_more_noise_draws_tighten_the_bound_of_a_rough_density():
    flow = small_image_flow()
    split = Split(small_images(20))
    values = [evaluate(flow, split, samples=k).bits_per_dim for k in (1, 8, 64)]
    assert values[0] > values[1] > values[2]


def test_many_draws_of_a_uniform_model_change_nothing():
    flow = Flow(Chain(Dequantize(4), UniformToNormal()), (1, 2, 2)).double()
    x = torch.randint(0, 4, (3, 1, 2, 2), dtype=torch.uint8)
    assert log_likelihood(flow, x, samples=5) == pytest.approx(-4 * math.log(4))
    with pytest.raises(ValueError, match="noise draws"):
        log_likelihood(flow, x, samples=0)


def test_kl_against_a_known_density():
    flow = vector_flow(2).eval()
    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))

    def shifted(points):  # N((1, 0), I), under which KL is -E[x - 1/2] = 1/2 in expectation here
        points = torch.as_tensor(points).double()
        square = (points - torch.tensor([1.0, 0.0])).square().sum(1)
        return -0.5 * square - math.log(2 * math.pi)

    result = evaluate(flow, Split(x), true_log_density=shifted)
    assert result.kl == pytest.approx(-0.5, abs=4 * result.kl_standard_error)
    assert result.nats == pytest.approx(-1 - math.log(2 * math.pi), abs=4 * result.standard_error)


def test_evaluation_leaves_the_mode_and_refuses_nothing():
    flow = small_image_flow().train()
    evaluate(flow, Split(small_images()))
    assert flow.training
    with pytest.raises(ValueError, match="no examples"):
        evaluate(flow, Split(small_images(0)))


def test_round_trip_counts_what_does_not_come_back():
    flow, split = small_image_flow(), Split(small_images(100))
    good = round_trip(flow, split)
    assert good.wrong_values == 0
    assert good.values == 100 * 64
    assert 0 < good.float_error < 1e-3

    class Broken(UniformToNormal):
        def inverse(self, z, condition=None):
            x, log_det = super().inverse(z, condition)
            return x * 0.5, log_det

    broken = Flow(Chain(Dequantize(17), Broken()), (1, 8, 8))
    bad = round_trip(broken, split)
    assert bad.wrong_values > 1000
    assert bad.float_error > 0.2
    vectors, points = randomize(vector_flow(3), last=0.1).eval(), Split(torch.randn(9, 3))
    assert round_trip(vectors, points).wrong_values == 0
    layers = list(vectors.bijection)
    layers[-1].inverse = lambda z, condition=None: (z * math.nan, z[:, 0])
    lost = round_trip(vectors, points)
    assert (lost.wrong_values, lost.float_error) == (27, math.inf)


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


def test_check_latents_has_a_row_for_each_scale():
    rows = check_latents(small_image_flow(scales=3), small_images())
    assert [name for name, _, _ in rows] == ["all latents", "scale 1", "scale 2", "scale 3"]


def test_overfit_learns_a_handful():
    flow = small_image_flow()
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    first, last = overfit(flow, small_images(4), steps=60, lr=1e-2)
    assert last < first - 0.3
    assert all(torch.equal(before[name], tensor) for name, tensor in flow.state_dict().items())


def test_overfit_adds_noise_to_whole_numbers_before_they_are_standardized():
    flow = vector_flow(2, coupling="affine", couplings=2, hidden=16, norm="act", integers=[0])
    x = torch.tensor([[0.0, 0.5], [30.0, 0.1], [60.0, -0.4], [90.0, 0.9]])
    first, last = overfit(flow, x, steps=60, lr=1e-2)
    assert -math.inf < last < first - 0.3
    with pytest.raises(ValueError, match="2 examples"):
        overfit(flow, x[:1])


def test_pictures_of_the_data_repeat_with_a_generator():
    flow, x = small_image_flow(scales=3), small_images(4)
    for picture in (interpolate, levels):
        first, again = (
            picture(flow, x, generator=torch.Generator().manual_seed(1)) for _ in range(2)
        )
        assert torch.equal(first, again)


def test_interpolation_has_the_data_in_its_corners():
    flow, x = small_image_flow(), small_images(4)
    images = interpolate(flow, x, steps=3)
    assert images.shape == (9, 1, 8, 8)
    corners = images[[0, 2, 6, 8]]
    assert (corners != x)[:3].float().mean() < 0.02  # cos(pi / 2) is not exactly 0
    with pytest.raises(ValueError, match="four"):
        interpolate(flow, x[:2])


def test_levels_begin_with_the_data():
    flow, x = small_image_flow(scales=3), small_images(4)
    rows = levels(flow, x, generator=torch.Generator().manual_seed(0))
    assert rows.shape == (3, 4, 1, 8, 8)
    assert torch.equal(rows[0], x)
    assert (rows[1] != x).any()
