"""What the builders share: options as validated dataclasses, and normalized couplings."""

from __future__ import annotations

import dataclasses
from numbers import Integral
from typing import Any, TypeVar

from realnvp.bijections import ActNorm, Bijection, RunningBatchNorm
from realnvp.config import ImageModel, VectorModel

__all__ = ["check_sizes", "config_of", "normalized", "options_of"]

Model = TypeVar("Model", ImageModel, VectorModel)


def options_of(kind: type[Model], options: dict[str, Any]) -> Model:
    """The options as a validated dataclass; an unknown one is a ValueError that lists them all."""
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"unknown model option {unknown[0]!r}; there are {', '.join(known)}")
    return kind(**options)


def check_sizes(**sizes: Any) -> None:
    """Sizes are whole numbers, from 1 to as many as float32 counts; a condition's may be 0.

    >>> check_sizes(levels=256.0)
    Traceback (most recent call last):
    ValueError: levels must be a whole number from 1 to 16777216, got 256.0
    """
    for name, value in sizes.items():
        least = 0 if name == "condition_dim" else 1
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= 2**24):
            raise ValueError(
                f"{name} must be a whole number from {least} to {2**24}, got {str(value)[:50]}"
            )


def config_of(builder: str, **arguments: Any) -> dict[str, Any]:
    """What is saved with a model, to build it again."""
    return {"builder": builder, "arguments": arguments}


def normalized(layer: Bijection, channels: int, model: ImageModel | VectorModel) -> list[Bijection]:
    """A coupling and, after it, the normalization of its output."""
    if model.norm == "batch":
        return [layer, RunningBatchNorm(channels, model.norm_momentum)]
    if model.norm == "act":
        return [layer, ActNorm(channels)]
    return [layer]
