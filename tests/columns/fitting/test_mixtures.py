"""Gaussians and mixtures, chosen by held-out rows, of any unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from helpers.rows import normals, vectors
from realnvp.bijections import Rosenblatt
from realnvp.columns.fitting.mixtures import Mixture, fit_gaussian, fit_mixture, log_density
from realnvp.columns.start import TableStart
from realnvp.config import VectorModel, VectorRecipe
from realnvp.data.dataset import Dataset
from realnvp.training.initialization import build


def mixture_of(dataset: Dataset, components: int | None = None) -> Mixture:
    """Return the mixture that a model of the training rows starts as."""
    mixture = TableStart.of(dataset.training_rows, seed=0).mixture(components)
    assert mixture is not None
    return mixture


def test_log_density_is_that_of_scikit_learn():
    x = normals(200)
    x[:100] += 3
    means, factors, weights = fit_mixture(x, 2)
    model = GaussianMixture(2).fit(x.numpy())
    model.means_, model.weights_ = means.numpy(), weights.numpy()
    covariances = (factors @ factors.mT).numpy()
    model.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(covariances))
    expected = torch.as_tensor(model.score_samples(x.numpy()))
    torch.testing.assert_close(log_density(x, (means, factors, weights)), expected)


def test_a_gaussian_of_few_rows_is_better_than_its_maximum_likelihood():
    for n, gain in ((8, 3.0), (20, 0.2)):
        x, fresh = normals(n, 4), normals(2000, 4, seed=1)
        plain = GaussianMixture(1).fit(x.numpy()).score(fresh.numpy())
        assert log_density(fresh, fit_gaussian(x)).mean() > plain + gain


def test_a_gaussian_of_many_rows_is_the_maximum_likelihood():
    x = normals(5000) @ normals(3, 3)
    mean, factor, _ = fit_gaussian(x)
    torch.testing.assert_close(mean[0], x.mean(0))
    torch.testing.assert_close(factor[0] @ factor[0].T, torch.cov(x.T), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("unit", [1e-160, 1e-13, 1e9, 1e160])
@pytest.mark.parametrize("components", [1, 2])
def test_mixtures_do_not_depend_on_the_unit(unit: float, components: int):
    x, weight = normals(60), 1 + torch.arange(60.0)
    one = fit_mixture(x, components, weight)
    for scale in (1e-30, 1e30):
        means, factors, weights = fit_mixture(x * unit, components, weight * scale)
        torch.testing.assert_close(means / unit, one[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(factors / unit, one[1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(weights, one[2], rtol=1e-5, atol=1e-6)


def test_the_number_of_gaussians_is_that_of_the_data():
    x = normals(300, 2)
    assert len(mixture_of(vectors(x))[2]) == 1
    clusters = 10 * (torch.arange(300) % 4)[:, None] * torch.tensor([[1.0, -1.0]])
    assert len(mixture_of(vectors(x + clusters))[2]) == 4
    assert len(mixture_of(vectors(x), 3)[2]) == 3


def test_weights_do_not_mislead_the_choice():
    weight = torch.ones(300)
    weight[:30] = 30.0
    assert len(mixture_of(vectors(normals(300), weight=weight))[2]) <= 2


def conditional(dataset: Dataset) -> torch.Tensor:
    """Return the log-density of the training rows under the start that is chosen."""
    recipe = VectorRecipe(VectorModel(coupling="affine", mixture_init="auto"))
    flow = build(recipe, dataset).eval()
    return flow.log_prob(dataset.train.x, dataset.train.condition).detach()


def test_a_start_by_class_is_a_gaussian_for_each():
    labels = torch.arange(300) % 3
    x = normals(300, 2) * (1.0 + labels[:, None]) + 5.0 * labels[:, None]
    found = conditional(vectors(x, labels)).mean().item()
    entropy = 1 + math.log(2 * math.pi) + np.mean([0, 2 * math.log(2), 2 * math.log(3)])
    assert found == pytest.approx(-entropy, abs=0.15)


def test_a_class_of_one_row_and_one_of_none_have_a_density():
    labels = torch.tensor([0] * 40 + [1] * 40 + [3])
    means, factors, weights = mixture_of(vectors(normals(81), labels))
    assert means.shape == (4, 1, 3)
    Rosenblatt(means, factors, weights)  # raises unless it is a mixture


def test_a_class_may_be_a_mixture():
    labels = torch.arange(600) % 2
    x = normals(600, 2)
    x[labels == 1] += 8 * (torch.arange(300) % 2)[:, None]
    assert mixture_of(vectors(x, labels))[0].shape[1] == 2
    assert conditional(vectors(x, labels))[labels == 1].mean() > -3.8


def test_classes_that_say_nothing_share_a_gaussian():
    x, labels = normals(40, 4), torch.arange(40) % 10
    means, factors, _ = mixture_of(vectors(x, labels))
    alone = fit_gaussian(x)
    fresh = normals(1000, 4, seed=1)
    ours = log_density(fresh, (means[0], factors[0], torch.ones(1, dtype=torch.float64)))
    assert ours.mean() > log_density(fresh, alone).mean() - 0.5


def test_a_start_by_numbers_is_a_regression():
    c = normals(500, 1)
    x = torch.cat((2 * c, c.sin()), dim=1) + 0.1 * normals(500, 2, seed=1)
    for factor, offset in ((1.0, 0.0), (1e4, 2e5), (10.0, 2000.0)):
        found = conditional(vectors(x, (factor * c + offset).float())).mean().item()
        assert found > 1.0  # -2.6 without the condition, 1.77 is the truth


def test_numbers_that_say_nothing_are_left_out():
    x = normals(60, 3)
    means, factors, _ = mixture_of(vectors(x, normals(60, 4, seed=1).float()))
    assert means.shape == (1, 7)
    others = factors[0, 4:, :4].abs().max()
    assert others < 0.3
