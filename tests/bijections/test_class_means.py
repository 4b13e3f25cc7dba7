"""A prior with a mean per class, and what a flow computes with it."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.bijections import randomize
from realnvp import image_flow
from realnvp.bijections import ClassMeans


def flow_of_classes(**options):
    flow = image_flow((1, 4, 4), levels=4, classes=3, hidden=4, blocks=1, labels="prior", **options)
    randomize(flow)
    with torch.no_grad():
        flow.class_means.centers.mul_(10)
    return flow.eval()


def images(n=5):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 4, (n, 1, 4, 4), generator=generator, dtype=torch.uint8)


def test_ratios_are_those_of_the_normal_densities():
    torch.manual_seed(0)
    layer, x = randomize(ClassMeans(3, (2, 2))), torch.randn(4, 2, 2)
    normal = torch.distributions.Normal(layer.centers, 1.0)
    each = normal.log_prob(x[:, None]).sum((2, 3))
    origin = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum((1, 2))
    torch.testing.assert_close(layer.log_ratios(x), each - origin[:, None])


def test_one_pass_gives_the_density_of_every_class():
    flow, x = flow_of_classes(), images()
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    together = flow.class_log_probs(x, noise)
    assert together.shape == (5, 3)
    for label in range(3):
        alone = flow.log_prob(x, torch.full((5,), label), noise)
        torch.testing.assert_close(together[:, label], alone)
    assert together.std(1).min() > 0.01  # the classes differ


def test_without_labels_the_density_is_the_marginal_one():
    flow, x = flow_of_classes(), images()
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    marginal = flow.class_log_probs(x, noise).double().logsumexp(1) - math.log(3)
    torch.testing.assert_close(flow.log_prob(x, noise=noise).double(), marginal)


def test_samples_without_labels_are_of_all_classes():
    flow = image_flow((1, 4, 4), levels=4, classes=3, hidden=4, blocks=1, labels="prior").eval()
    with torch.no_grad():
        flow.class_means.centers[1] += 20  # class 1 is white
    x = flow.sample(60, generator=torch.Generator().manual_seed(0))
    white = (x == 3).flatten(1).all(1).float().mean()
    assert 0.1 < white < 0.6
    assert torch.equal(x, flow.sample(60, generator=torch.Generator().manual_seed(0)))
    assert (flow.sample(4, condition=torch.ones(4, dtype=torch.int64)) == 3).all()


def test_the_labels_term_is_their_cross_entropy():
    flow, x = flow_of_classes(label_weight=2.0), images()
    labels = torch.tensor([0, 1, 2, 0, 1])
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    terms = flow.loss_terms(x, labels, noise)
    expected = torch.nn.functional.cross_entropy(flow.class_log_probs(x, noise), labels)
    torch.testing.assert_close(terms["labels"], 2 * expected)
    terms["labels"].backward()
    assert flow.class_means.centers.grad.abs().max() > 0
    del terms["labels"]
    rest = torch.stack(list(terms.values())).sum() - terms["regularizer"]
    torch.testing.assert_close(rest, -flow.log_prob(x, labels, noise).mean())


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="needs the labels"):
        ClassMeans(2, (3,))(torch.zeros(1, 3))
    with pytest.raises(ValueError, match='labels "prior" needs classes'):
        image_flow((1, 4, 4), condition_dim=3, labels="prior")
    with pytest.raises(ValueError, match='label_weight needs labels "prior"'):
        image_flow((1, 4, 4), classes=3, label_weight=1.0)
    assert image_flow((1, 4, 4), labels="prior", label_weight=1.0).class_means is None
