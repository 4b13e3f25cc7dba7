"""Likelihoods, the round trip and classification: the numbers mean what their names say."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.bijections import randomize
from helpers.flows import UniformToNormal, small_image_flow, small_images
from realnvp import Chain, Flow, image_flow, vector_flow
from realnvp.bijections import Dequantize
from realnvp.data import Split
from realnvp.evaluation import (
    class_log_likelihoods,
    column_density,
    evaluate,
    log_likelihood,
    log_likelihoods,
    round_trip,
)
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


def test_arrays_are_evaluated_as_splits_are():
    flow, x = small_image_flow(), small_images(50)
    assert evaluate(flow, x) == evaluate(flow, x.numpy()) == evaluate(flow, Split(x))
    given = randomize(image_flow((1, 8, 8), levels=17, hidden=4, blocks=1, classes=3)).eval()
    labels = torch.arange(50) % 3
    expected = evaluate(given, Split(x, condition=labels))
    assert evaluate(given, x, labels) == evaluate(given, x, labels.tolist()) == expected
    assert evaluate(given, x) != expected
    with pytest.raises(ValueError, match="there are 50 examples, but 49 conditions"):
        evaluate(given, x, labels[1:])
    with pytest.raises(ValueError, match="return_inverse"):
        evaluate(given, x, ["a"] * 50)


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


def test_two_gaussians_are_told_apart():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (400,), generator=generator)
    x = torch.randn(400, 2, generator=generator) + 3.0 * labels[:, None]
    torch.manual_seed(0)
    flow = vector_flow(2, classes=2, couplings=4, hidden=16)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        (-flow.log_prob(x, labels).mean()).backward()
        optimizer.step()
    found = class_log_likelihoods(flow, Split(x)).argmax(1)
    assert (found == labels).double().mean() > 0.93  # the best there is has 0.983
    log_probs = flow.class_log_probs(x)
    torch.testing.assert_close(log_probs[labels == 1][:, 1], flow.log_prob(x, labels)[labels == 1])


def test_the_noise_of_a_classification_belongs_to_the_image():
    """So neither batches nor processes change what is found; and it is the evaluation's."""
    flow = randomize(image_flow((1, 4, 4), levels=5, hidden=4, blocks=1, classes=3)).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 5, (50, 1, 4, 4), generator=generator, dtype=torch.uint8)
    joint = torch.stack(
        [
            log_likelihoods(flow, Split(x, torch.full((50,), label)), batch_size=50)
            for label in range(3)
        ],
        dim=1,
    )
    for batch_size in (7, 50):
        found = class_log_likelihoods(flow, Split(x), batch_size=batch_size)
        torch.testing.assert_close(found, joint, rtol=1e-5, atol=1e-4)
    marginal = log_likelihoods(flow, Split(x), batch_size=50)
    torch.testing.assert_close(joint.logsumexp(1) - math.log(3), marginal, rtol=1e-5, atol=1e-4)


def test_classification_refuses():
    with pytest.raises(ValueError, match="class-conditional"):
        vector_flow(2).class_log_probs(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="class-conditional"):
        class_log_likelihoods(vector_flow(2), Split(torch.zeros(1, 2)))


def test_the_density_of_a_column_is_the_conditional_one():
    """Of a Gaussian with correlation 0.8: mean 0.8 x, variance 0.36."""
    flow = vector_flow(2, couplings=1, hidden=4, blocks=0, coupling="affine").double().eval()
    linear = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    own = torch.distributions.MultivariateNormal(linear.new_zeros(2), linear)
    flow.log_prob = lambda x, condition=None, noise=None: own.log_prob(x)  # type: ignore[method-assign]
    at = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    density = column_density(flow, torch.tensor([1.5, 0.0]), 1, at)
    expected = torch.distributions.Normal(1.2, 0.6).log_prob(at).exp()
    assert torch.allclose(density, expected, atol=1e-4)
    with pytest.raises(ValueError, match="no column 2"):
        column_density(flow, torch.zeros(2), 2, at)
