"""Start training from the weights of another model."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from realnvp import pretrained
from realnvp.bijections import FactorOut
from realnvp.conditioners import ResNet
from realnvp.flow import Flow
from realnvp.utils.serialization import check_like

__all__ = ["warm_start"]

PREPROCESSING = 2
"""Layers before an image model's architecture: dequantization and logit."""


def warm_start(flow: Flow, init: Flow | Path | str) -> None:
    r"""Copy the weights of another model with the same layers into a new one.

    Its residual networks may have more blocks, which start without an effect: the new model then
    starts with the quality of the other one, and can learn more.

    A model with the architecture "coarse_to_fine" may also start from one of the images at half
    their size: that one becomes :math:`p(x_{\text{coarse}})`, and the layers for the pixels in
    between start from random weights. So the content of images is learned where a step costs a
    quarter.

    Args:
        flow: the new model.
        init: a flow, or what :func:`realnvp.load` takes.

    Raises:
        ValueError: if their layers differ.
    """
    source = init if isinstance(init, Flow) else pretrained.load(init)
    state, own = source.state_dict(), flow.state_dict()
    if _models_half_size(source, flow):
        state = own | _as_coarse_part(state, flow)
    for name, module in flow.named_modules():
        if isinstance(module, ResNet):
            prefix = f"{name}."
            part = {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}
            state |= {f"{prefix}{k}": tensor for k, tensor in module.deepened(part).items()}
    try:
        check_like(state, own)
    except ValueError as error:
        name = "the model to start from" if isinstance(init, Flow) else str(init)
        raise ValueError(f"{name} has other layers than the recipe's model: {error}") from error
    flow.load_state_dict(state)


def _models_half_size(source: Flow, flow: Flow) -> bool:
    """Whether both go from coarse to fine, and ``source`` has one scale less."""
    arguments = [(model.config or {}).get("arguments", {}) for model in (source, flow)]
    if any(a.get("architecture") != "coarse_to_fine" for a in arguments):
        return False
    channels, height, width = source.shape
    return flow.shape == (channels, 2 * height, 2 * width)


def _as_coarse_part(state: dict[str, Tensor], flow: Flow) -> dict[str, Tensor]:
    """Name the tensors of a model of small images as they are named inside of ``flow``."""
    outer = next(name for name, m in flow.named_modules() if isinstance(m, FactorOut))
    inside: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer = re.fullmatch(r"bijection\.layers\.(\d+)\.(.+)", name)
        if layer and int(layer[1]) >= PREPROCESSING:
            name = f"{outer}.inner.layers.{int(layer[1]) - PREPROCESSING}.{layer[2]}"
        inside[name] = tensor
    return inside
