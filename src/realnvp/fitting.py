"""How the estimator trains: for how long, and with what settings, by the number of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from realnvp.config import DataConfig, TrainingConfig, VectorModel, VectorRecipe
from realnvp.data.dataset import Dataset, Split, hold_out
from realnvp.models import Flow
from realnvp.progress import Bar
from realnvp.setup import build, dequantized, limit_threads
from realnvp.start import choose_components
from realnvp.trainer import Trainer

if TYPE_CHECKING:
    from realnvp.estimator import RealNVPDensity

__all__ = ["fit_rows"]

MANY_ROWS = 2000
"""Of more, the start is a single Gaussian."""

FEW_ROWS = 20
"""Fewer are all learned from: held-out ones would say nothing."""


def fit_rows(
    split: Split,
    settings: RealNVPDensity,
    integers: Sequence[int],
    classes: int | None,
    seed: int,
) -> tuple[Flow, int]:
    """Train on most rows to learn for how long, then on all.

    Args:
        split: the rows, with their conditions and weights.
        settings: the estimator, which is only read.
        integers: numbers of the columns of whole numbers.
        classes: how many, if the condition is one of them.
        seed: of everything random.

    Returns:
        the flow, and the steps it was trained for.
    """

    def dataset(learn: Split, check: Split) -> Dataset:
        shape = tuple(split.x.shape[1:])
        return Dataset(
            "table", learn, check, None, shape, classes=classes, integers=tuple(integers)
        )

    def train(data: Dataset, recipe: VectorRecipe) -> Trainer:
        trainer = Trainer(recipe, data)
        limit_threads(trainer.flow, settings.batch_size)
        with Bar("fitting", visible=bool(settings.verbose)) as bar:
            trainer.fit([], bar)
        return trainer

    start = settings.start
    if start is None and len(split) > MANY_ROWS:
        start = 1
    elif start is None:
        start = choose_components(dequantized(split.x, integers, seed), split.weight, seed)
    steps = settings.max_steps
    if len(split) >= FEW_ROWS and settings.validation_fraction:
        learn, check = hold_out(len(split), settings.validation_fraction, seed=seed)
        recipe = _recipe(settings, len(split), start, steps, True, seed)
        trial = train(dataset(split.select(learn), split.select(check)), recipe)
        trial.best_flow()  # raises if no validation was finite
        steps = trial.best_step
    everything = dataset(split, split)
    recipe = _recipe(settings, len(split), start, max(steps, 1), False, seed)
    if steps == 0:  # the start is the best there is
        return build(recipe, everything), 0
    return train(everything, recipe).best_flow(), steps


def _recipe(
    settings: RealNVPDensity, rows: int, start: int, steps: int, validate: bool, seed: int
) -> VectorRecipe:
    # 0 for up to a thousand rows, 1 for ten thousand and more.
    many = min(1.0, max(0.0, math.log10(rows / 1000)))
    model = VectorModel(
        coupling=settings.coupling,
        couplings=settings.couplings,
        components=settings.components,
        hidden=settings.hidden,
        blocks=settings.blocks,
        norm="none",
        start=start,
    )
    decay, smoothing = settings.weight_decay, settings.smoothing
    training = TrainingConfig(
        steps=steps,
        batch_size=settings.batch_size,
        optimizer="adamw",
        lr=0.002 * 5**many if settings.lr is None else settings.lr,
        decay="constant",  # so that the first steps of a longer training are the same
        weight_decay=0.03**many if decay is None else decay,
        smoothing=0.1 ** (1 + 2 * many) if smoothing is None else smoothing,
        warmup=20,
        ema=1 - 0.02 * 0.15**many,
        validations=round(100 - 50 * many) if validate else 1,
        patience=settings.patience if validate else None,
        accelerator="cpu",
    )
    return VectorRecipe(model, DataConfig(source="table"), training, seed=seed)
