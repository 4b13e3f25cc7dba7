"""Trainings in which a number is made NaN or infinite on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from realnvp.config import (
    DataConfig,
    ImageModel,
    ImageRecipe,
    TrainingConfig,
    VectorModel,
    VectorRecipe,
)
from realnvp.training.trainer import Trainer

IMAGES = ImageRecipe(
    ImageModel(hidden=4, blocks=1),
    DataConfig(source="digits"),
    TrainingConfig(
        steps=12,
        batch_size=16,
        num_validations=2,
        validation_examples=32,
        validation_share=1.0,
        decay="constant",
        warmup=0,
    ),
)
POINTS = VectorRecipe(
    VectorModel(coupling="affine", couplings=2, hidden=4, norm="act"),
    DataConfig(source="moons", points=300),
    replace(IMAGES.training, batch_size=50),
)
LAYER = "bijection.layers.4.conditioner"
POINTS_LAYER = "bijection.layers.3.conditioner.last"


def poison_data(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Example 7 of the batch of step 5 has a NaN, in every epoch that meets it again."""
    batch = trainer.batch

    def poisoned(step: int) -> Any:
        x, *others = batch(step)
        if step == 5:
            x = x.clone()
            x[7, 1] = math.nan
        return x, *others

    monkeypatch.setattr(trainer, "batch", poisoned)


def poison_weights(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before step 5, a bit of the memory of a weight flips; once."""
    step, done = trainer.train_step, []

    def poisoned(lr: float) -> Any:
        if trainer.step == 5 and not done:
            done.append(True)
            with torch.no_grad():
                trainer.flow.get_parameter(f"{LAYER}.first.bias")[0] = math.nan
        return step(lr)

    monkeypatch.setattr(trainer, "train_step", poisoned)


def poison_gradient(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In step 5 the gradient of one layer's output is infinite for two of the examples."""

    def hook(module: Any, args: Any, output: torch.Tensor) -> None:
        def infinite(gradient: torch.Tensor) -> torch.Tensor:
            if trainer.step == 5:
                gradient = gradient.clone()
                gradient[[2, 3]] = math.inf
            return gradient

        if output.requires_grad:
            output.register_hook(infinite)

    trainer.flow.get_submodule(f"{LAYER}.last").register_forward_hook(hook)


CASES: dict[str, tuple[Callable, Any, str, list[int]]] = {
    "data": (poison_data, POINTS, "the data", [7]),
    "weights": (poison_weights, IMAGES, f"{LAYER}.first (WeightNormConv2d)", list(range(16))),
    "gradient": (
        poison_gradient, IMAGES, f"the gradient of the output of {LAYER}.last (Conv2d)", [2, 3]
    ),
}  # fmt: skip
