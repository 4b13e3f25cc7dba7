"""What the builders share: options as validated dataclasses, and normalized couplings."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from realnvp.bijections import ActNorm, Bijection, RunningBatchNorm
from realnvp.config import ImageModel, VectorModel

__all__ = ["config_of", "normalized", "options_of"]

Model = TypeVar("Model", ImageModel, VectorModel)


def options_of(kind: type[Model], options: dict[str, Any]) -> Model:
    """The options as a validated dataclass; an unknown one is a ValueError that lists them all."""
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"unknown model option {unknown[0]!r}; there are {', '.join(known)}")
    return kind(**options)


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
