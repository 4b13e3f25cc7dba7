"""Train the smallest image of a shipped model from coarse to fine by itself.

    python tools/train_coarse.py NAME RUN --data FILE --minutes 30

The density of such a model is a product, of which the first factor is that of a small image, a
vector of a few numbers. Most of what cannot be read in samples is decided there
(benchmarks/results/search.md), and an image takes a twenty-fifth of the time of a whole one.
Everything else of the model stays as it is: dequantization, too, of which every training image has
some draws, half of them moved by up to a pixel unless ``--shift 0`` is given.

Likelihood hardly notices that one sample in ten is of another class than was asked for. So a
classifier of small images, trained on the same training images, reads samples during training, and
as long as it reads them worse than held-out images, their likelihood given what was asked for is
lowered (:class:`Readable`). The density is exact as before. Its calibration is not: run
``tools/calibrate.py`` afterwards.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor

import realnvp
from realnvp import Chain, Flow
from realnvp.bijections import FactorOut
from realnvp.bijections.base import Terms
from realnvp.bijections.dequantization import Noise
from realnvp.config import TrainingConfig
from realnvp.data import Dataset, Split, load_data
from realnvp.data.batches import Batches
from realnvp.evaluation import evaluate
from realnvp.utils.progress import Bar
from ship import ship_again

DRAWS = 4
BATCH = 512
SAMPLES = 256
WEIGHT = 4.0
MOST = 4.0
"""Largest cross-entropy of a sample, in nats: a few are far away from all classes."""
FAR = 30.0
"""Samples whose logits are further from 0 than this are left out: black and white are nearer."""


class Readable(Flow):
    r"""A density by class whose samples are read as the class asked for, as often as real images.

    With a classifier :math:`q(c \mid x)`, the cost :math:`\mathbb E[-\log q(c \mid x)]` of samples
    :math:`x \sim p(x \mid c)` has the gradient :math:`\mathbb E[-\log q(c \mid x) \nabla \log
    p(x \mid c)]` (REINFORCE, with the mean cost as its baseline). It is part of the loss while the
    cost is above that of held-out images, so that classes do not become clearer than they are.
    """

    reader: MLPClassifier
    enough: float
    cost: float = 0.0

    def learn_to_read(self, train: Split, validation: Split) -> None:
        """Train the classifier of small images, and note its cost on held-out ones."""
        assert train.labels is not None
        assert validation.labels is not None
        self.reader = MLPClassifier((256, 256), batch_size=256, max_iter=8, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs generalize best
            self.reader.fit(train.x.sigmoid().numpy(), train.labels.numpy())
        found = self._costs(validation.x, validation.labels)
        self.enough = self.cost = found.mean().item()

    def _costs(self, x: Tensor, labels: Tensor) -> Tensor:
        found = torch.from_numpy(self.reader.predict_proba(x.sigmoid().numpy()))
        return -found.gather(1, labels[:, None])[:, 0].log().clamp(min=-MOST).to(x)

    def loss_terms(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        noise: Noise = None,
        smoothing: Tensor | None = None,
    ) -> Terms:
        """Return the terms of the loss, with "samples" for the reader's cost."""
        terms = super().loss_terms(x, condition, noise, smoothing)
        assert self.classes is not None  # the model is class-conditional
        labels = torch.randint(0, self.classes, (SAMPLES,))
        drawn = self.sample(SAMPLES, condition=labels)
        fine = (drawn.abs() < FAR).all(1)
        drawn, labels = drawn[fine], labels[fine]
        costs = self._costs(drawn, labels)
        self.cost += 0.02 * (costs.mean().item() - self.cost)
        if self.cost > self.enough:
            z, log_det = self.body(drawn, self.as_condition(labels, len(labels)))
            log_prob = self.log_prior(z) + log_det
            terms["samples"] = WEIGHT * ((costs - costs.mean()) * log_prob).mean()
        else:
            terms["samples"] = torch.zeros(())
        return terms


def coarsest(flow: Flow) -> Readable:
    """Return the density of the smallest image, as a vector; the layers are those of ``flow``."""
    inner = [module for module in flow.modules() if isinstance(module, FactorOut)][-1].inner
    assert isinstance(inner, Chain)  # between a flattening and its inverse
    dim = int((flow.latent_scales() == flow.latent_scales().max()).sum())
    return Readable(inner[1:-1], (dim,), condition_dim=flow.condition_dim, classes=flow.classes)


@torch.no_grad()
def small_images(flow: Flow, split: Split, shift: int, seed: int, scales: int) -> Split:
    """Return the smallest images of a split, dequantized, with the labels as condition."""
    batches = Batches(split, BATCH, seed, shift=shift)
    steps = math.ceil(batches.per_epoch)
    found, labels = [], []
    with flow.evaluating(), Bar("dequantizing") as bar:
        for step in range(steps):
            x, condition = batches.get(step)
            given = flow.as_condition(condition, len(x))
            v, _ = flow.dequantize(x, given, torch.Generator().manual_seed(seed + step))
            v, _ = flow.body[:1](v, given)  # the logit
            found.append(v[..., :: 2**scales, :: 2**scales].flatten(1))
            assert condition is not None  # the model is class-conditional
            labels.append(condition)
            bar.update((step + 1) / steps)
    once = slice(len(split))  # the last batch goes on with the next epoch
    classes = torch.cat(labels)[once]
    return Split(torch.cat(found)[once], classes, classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--lr", type=float, default=0.0015)
    parser.add_argument("--shift", type=int, default=1)
    args = parser.parse_args()
    flow = realnvp.load(args.model)
    data = load_data(replace(flow.trained_on.data, source=args.data))
    scales = int(flow.latent_scales().max())
    parts = [
        small_images(flow, data.train, args.shift, 1000 * draw, scales) for draw in range(DRAWS)
    ]
    train = Split(*(_joined(parts, name) for name in ("x", "condition", "labels")))
    validation = small_images(flow, data.validation, 0, 1000 * DRAWS, scales)
    part = coarsest(flow)
    part.learn_to_read(train, validation)
    print(f"the reader's cross-entropy on held-out images: {part.enough:.4f} nats")
    small = Dataset(data.name, train, validation, None, part.shape, classes=flow.classes)
    config = TrainingConfig(
        optimizer="muon", lr=args.lr, batch_size=BATCH, decay_fraction=0.8, ema=0.998,
        minutes=args.minutes, num_validations=20, calibration=0,
    )  # fmt: skip
    result = realnvp.fit(part, small, training=config, out=args.out)
    print(result.likelihood)
    ship_again(
        args.model,
        flow,
        evaluate(flow.eval(), data.reporting[1]),
        f"python tools/train_coarse.py {args.model} RUN --data FILE --minutes {args.minutes:g} "
        f"--lr {args.lr:g} --shift {args.shift}",
        f", then {result.steps:,} of {BATCH} of its smallest images",
    )


def _joined(parts: list[Split], name: str) -> Tensor:
    return torch.cat([getattr(part, name) for part in parts])


if __name__ == "__main__":
    main()
