"""Start training from another model: from its weights, or as a copy that keeps its columns.

A model of a table knows what its columns hold, so the estimator and the command line train a copy
of it: a model built for other rows could number the categories otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from realnvp.bijections import FactorOut
from realnvp.conditioners import ResNet
from realnvp.config import DataConfig, VectorModel, VectorRecipe
from realnvp.data.dataset import Split
from realnvp.flow import Flow
from realnvp.pretrained import data_settings, load, with_marks
from realnvp.utils.serialization import check_like

PREPROCESSING = 2
"""Layers before an image model's architecture: dequantization and logit."""


OF_COLUMNS = ("condition", "integers", "columns", "keep_range")
"""Settings of the data that decide which columns a model of a table has."""


def model_of(init: Any) -> Flow | None:
    """Return the model to start from: a flow, a fitted estimator's, or one that is saved."""
    flow = load(init) if isinstance(init, str | Path) else getattr(init, "flow_", init)
    if not isinstance(flow, Flow | None):
        raise ValueError(f"init is a model, its folder or a fitted estimator, got {str(init)[:50]}")
    return flow


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
        before = getattr(saved, name)
        check_kept(f"data.{name}", getattr(data, name), getattr(default, name), before)
        data = dataclasses.replace(data, **{name: before})
    return dataclasses.replace(recipe, data=data, model=VectorModel(**arguments))


def check_kept(name: str, asked: Any, default: Any, before: Any) -> None:
    """Raise ValueError if a setting is neither left out nor that of the model to start from."""
    if asked not in (default, before):
        raise ValueError(
            f"{name} is {asked!r}, but the model to start from has {before!r}: leave it out, or "
            "train a new model without init"
        )


@contextlib.contextmanager
def keeping_columns() -> Iterator[None]:
    """Add to errors of rows that do not fit that the model to start from keeps its columns."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"{' '.join(str(error).split())}; the model to start from keeps its columns: train a "
            "new one, without init, to learn others"
        ) from error


def copy_of_table(model: Flow, *splits: Split, where: str) -> Flow:
    """Return a copy of a model of a table, to be trained on other rows, in float32.

    It keeps the columns, and forgets the calibration and where the model came from.

    Args:
        model: the model.
        splits: the new rows.
        where: name of their table, for messages.

    Raises:
        ValueError: if a row is impossible under the model.
    """
    for split in splits:
        with_marks(model, split, where, None)
    flow = copy.deepcopy(model).float()
    flow.calibration = flow.made_with = flow.origin = flow.source = None
    return flow


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
