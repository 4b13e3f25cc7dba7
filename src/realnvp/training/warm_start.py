"""Start training from the weights of another model."""

from __future__ import annotations

import dataclasses
import re

from torch import Tensor

from realnvp.bijections import FactorOut
from realnvp.conditioners import ResNet
from realnvp.config import DataConfig, VectorModel, VectorRecipe
from realnvp.flow import Flow
from realnvp.pretrained import data_settings
from realnvp.utils.serialization import check_like

PREPROCESSING = 2
"""Layers before an image model's architecture: dequantization and logit."""


OF_COLUMNS = ("condition", "integers", "columns", "keep_range")
"""Settings of the data that decide which columns a model of a table has."""


def recipe_of_table(recipe: VectorRecipe, init: Flow) -> VectorRecipe:
    """Return a recipe with the layers and the columns of a table's model, to continue its training.

    Training settings, the source and how it is split stay the recipe's.

    Args:
        recipe: the recipe.
        init: the model of a table.

    Raises:
        ValueError: if the recipe asks for other columns than the model has.
    """
    assert init.config is not None  # only models made by a builder know a table
    layers = {field.name for field in dataclasses.fields(VectorModel)}
    arguments = {k: v for k, v in init.config["arguments"].items() if k in layers}
    data, default = recipe.data, DataConfig()
    saved = data_settings(init) or default
    for name in OF_COLUMNS:
        asked, before = getattr(data, name), getattr(saved, name)
        if asked not in (getattr(default, name), before):
            raise ValueError(
                f"data.{name} is {asked!r}, but the model to start from has {before!r}: leave it "
                "out, or train a new model without init"
            )
        data = dataclasses.replace(data, **{name: before})
    return dataclasses.replace(recipe, data=data, model=VectorModel(**arguments))


def warm_start(flow: Flow, init: Flow) -> None:
    r"""Copy the weights of another model with the same layers into a new one.

    Its residual networks may have more blocks, which start without an effect: the new model then
    starts with the quality of the other one, and can learn more.

    A model with the architecture "coarse_to_fine" may also start from one of the images at half
    their size: that one becomes :math:`p(x_{\text{coarse}})`, and the layers for the pixels in
    between start from random weights. So the content of images is learned where a step costs a
    quarter.

    Args:
        flow: the new model.
        init: the model to start from.

    Raises:
        ValueError: if their layers differ.
    """
    state, own = init.state_dict(), flow.state_dict()
    if _models_half_size(init, flow):
        state = own | _as_coarse_part(state, flow)
    for name, module in flow.named_modules():
        if isinstance(module, ResNet):
            prefix = f"{name}."
            part = {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}
            state |= {f"{prefix}{k}": tensor for k, tensor in module.deepened(part).items()}
    try:
        check_like(state, own)
    except ValueError as error:
        name = init.source or "the model to start from"
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
