"""Models that come with the package, trained already: ``realnvp.load("mnist")``.

Each file here holds one or more of them: safetensors with checksum, matrices in half precision,
and in its metadata the settings and the card of each: what it was trained on and how, how good it
is on data that it has not seen, and how good a training of one's own should be after some minutes.

>>> from realnvp.weights import cards
>>> "moons" in cards()
True
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from realnvp.models import Flow
from realnvp.pretrained import rebuild, settings_of
from realnvp.sealed import seal, unseal

__all__ = ["cards", "load_shipped", "pack", "shipped_names", "unpack"]


def pack(models: dict[str, tuple[Flow, dict[str, Any]]]) -> bytes:
    """The content of a file of models.

    Args:
        models: by name, each with its card.
    """
    tensors: dict[str, Tensor] = {}
    data: dict[str, Any] = {}
    for name, (flow, card) in models.items():
        for key, tensor in flow.state_dict().items():
            narrow = tensor.ndim > 1 and tensor.dtype == torch.float32
            tensors[f"{name}/{key}"] = (tensor.half() if narrow else tensor).contiguous()
        data[name] = {"settings": settings_of(flow), "card": card}
    return seal(tensors, {"models": data})


def unpack(content: bytes) -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """The inverse of :func:`pack`: settings with card, and tensors in float32, by name."""
    tensors, data = unseal(content)
    found = {}
    for name, entry in data["models"].items():
        prefix = f"{name}/"
        own = {k[len(prefix) :]: t for k, t in tensors.items() if k.startswith(prefix)}
        wide = {k: t.float() if t.dtype == torch.float16 else t for k, t in own.items()}
        found[name] = (entry, wide)
    return found


@cache
def _contents() -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """Settings with card, and tensors, of every model."""
    found = {}
    for file in files("realnvp.weights").iterdir():
        if file.name.endswith(".safetensors"):
            found.update(unpack(file.read_bytes()))
    return dict(sorted(found.items()))


def shipped_names() -> list[str]:
    """The names that :func:`realnvp.load` knows."""
    return list(_contents())


def cards() -> dict[str, dict[str, Any]]:
    """The card of every model, by name."""
    return {name: entry["card"] for name, (entry, _) in _contents().items()}


def load_shipped(name: str) -> Flow:
    """The model of this name, in evaluation mode."""
    entry, tensors = _contents()[name]
    return rebuild(entry["settings"], tensors, f"the shipped model {name}")
