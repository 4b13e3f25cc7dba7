"""The tool that trains the smallest image by itself: samples of a class are read as that class."""

from __future__ import annotations

import torch

from realnvp import image_flow, vector_flow
from realnvp.data import Split
from train_coarse import BATCH, Readable, small_images


def readable() -> tuple[Readable, Split]:
    """Return a flow that does not know of its two classes yet, and points of each."""
    torch.manual_seed(0)
    labels = torch.arange(2000) % 2
    x = 0.5 * torch.randn(2000, 2) + (2.0 * labels - 1)[:, None]
    flow = vector_flow(2, classes=2, couplings=4, hidden=16, coupling="affine")
    flow = Readable(flow.bijection, (2,), condition_dim=2, classes=2)
    flow.learn_to_read(Split(x, labels, labels), Split(x[:500], labels[:500], labels[:500]))
    return flow, Split(x, labels, labels)


def test_classes_are_read_when_likelihood_says_nothing_of_them():
    flow, split = readable()
    assert flow.enough < 0.2
    flow.cost = 1.0
    optimizer = torch.optim.Adam(flow.parameters(), 0.01)
    for _ in range(150):
        terms = flow.loss_terms(split.x[:2], split.labels[:2])
        optimizer.zero_grad()
        terms["samples"].backward()
        optimizer.step()
    assert flow.cost < 0.6  # log 2 for a flow whose classes are alike
    drawn = flow.sample(500, condition=torch.arange(500) % 2)
    assert (drawn.mean(1) > 0).eq(torch.arange(500) % 2 == 1).float().mean() > 0.85


def test_samples_count_only_while_they_are_harder_to_read_than_data():
    flow, split = readable()
    flow.enough = 10.0
    assert flow.loss_terms(split.x[:8], split.labels[:8])["samples"] == 0


def test_every_image_is_made_small_once_and_keeps_its_class():
    flow = image_flow(
        (1, 4, 4), levels=256, classes=3, architecture="coarse_to_fine", scales=1, steps=1,
        hidden=4, blocks=0,
    )  # fmt: skip
    n = BATCH + 5
    labels = torch.arange(n) % 3
    images = (80 * labels[:, None, None, None]).expand(n, 1, 4, 4).byte()
    small = small_images(flow, Split(images, labels, labels), shift=0, seed=0, scales=1)
    assert small.x.shape == (n, 4)
    assert small.labels.bincount().equal(labels.bincount())
    by_grey = small.x.sigmoid()[:, 0].mul(3).round().long()
    assert by_grey.equal(small.labels)
