r"""The untrained model of a recipe, with the settings that depend on the data.

Couplings learn what the first layer does not explain. Settings that a recipe leaves to the data
("auto") are replaced by numbers here, for the command line and the estimator alike: the mixture by
:class:`~realnvp.columns.start.TableStart`, training settings by :func:`resolve`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from realnvp.bijections import (
    Affine,
    EncodedCondition,
    PiecewiseLinearCoupling,
    Rosenblatt,
)
from realnvp.bijections.columns_first import ColumnsFirst
from realnvp.columns.fitting.mixtures import Mixture
from realnvp.columns.fitting.rows import moments
from realnvp.columns.start import TableStart
from realnvp.config import ImageRecipe, Recipe, TrainingConfig, VectorRecipe
from realnvp.data import Dataset
from realnvp.flow import Flow
from realnvp.training.runtime import check_memory
from realnvp.utils.rng import seeded

FEW_IMAGES = 1_000
"""Number of training images below which a model soon memorizes them."""


FEW = {"patience": 5, "num_validations": 100}
"""Settings for few images, where the best model may be that of the first seconds."""


MOST_INTERVALS = 500
"""Largest number of cells of a column that piecewise-linear couplings use as their intervals."""


def build(
    recipe: Recipe,
    dataset: Dataset,
    mixture: Mixture | None = None,
    start: TableStart | None = None,
) -> Flow:
    """Return the recipe's untrained model of a data set.

    Its weights are a function of the recipe's seed. PyTorch's global generator is unchanged, and
    several threads may build models at the same time.

    Args:
        recipe: recipe.
        dataset: data set, of which the training part is used.
        mixture: mixture that the model starts as; by default, that of ``start``.
        start: what a model of vectors starts from; by default, it is computed from the data.

    Raises:
        ValueError: if the recipe is for the other kind of data.
    """
    condition: dict[str, Any] = {
        "condition_dim": dataset.condition_dim,
        "classes": dataset.condition_classes or None,
    }
    edges: torch.Tensor | None = None
    if isinstance(recipe, ImageRecipe) and dataset.kind == "image":
        assert dataset.levels is not None  # images always have levels
        channels, height, width = dataset.shape
        first: dict[str, Any] = {}
        make = partial(recipe.build, (channels, height, width), dataset.levels, **condition)
    elif isinstance(recipe, VectorRecipe) and dataset.kind == "vector":
        start = start or TableStart.of(dataset.training_rows, recipe.seed, recipe.model.domain)
        columns, tensors = start.maps
        edges = cell_edges(recipe, columns, tensors)
        if edges is not None:  # the model starts as the frequencies of the cells
            model = dataclasses.replace(recipe.model, components=len(edges) - 1, mixture_init=0)
            recipe, mixture = dataclasses.replace(recipe, model=model), None
        elif mixture is None:
            mixture = mixture_of(recipe, start)
        if mixture is not None:
            model = dataclasses.replace(recipe.model, mixture_init=mixture[0].shape[-2])
            recipe = dataclasses.replace(recipe, model=model)
        categories, tables = start.categories
        make = partial(
            recipe.build, dataset.shape[0], columns=columns, categories=categories, **condition
        )
        first = {"column_tensors": tensors, "category_tensors": tables}
        if mixture is not None:
            first["mixture"] = tuple(tensor.float() for tensor in mixture)
        elif edges is None:
            mean, std = moments(start.rows, start.weight)
            first |= {"mean": mean.float(), "std": std.float()}
    else:
        kind = "images" if isinstance(recipe, ImageRecipe) else "vectors"
        raise ValueError(
            f"the recipe models {kind}, but {dataset.name} holds {dataset.kind}s: "
            f"choose another recipe (realnvp recipes lists them)"
        )
    check_memory(make)
    with seeded(recipe.seed):
        flow = make(**first)
    if flow.condition_dim and flow.classes is None:
        standardize_condition(flow, dataset)
        for encoder in flow.modules():
            if isinstance(encoder, EncodedCondition):
                assert start is not None  # images' conditions are not encoded
                assert start.condition is not None
                encoder.fit(start.condition.float())
    if edges is not None:
        for layer in flow.modules():
            if isinstance(layer, PiecewiseLinearCoupling):
                layer.fill({"edges": edges})
    return flow


def standardize_condition(flow: Flow, dataset: Dataset) -> None:
    """Let a flow standardize its numeric condition by the training rows of a data set."""
    split = dataset.for_statistics
    assert split.condition is not None
    shift, scale = moments(split.condition.double().cpu(), split.weight)
    flow.condition_shift.copy_(shift)
    flow.condition_scale.copy_(scale)


def cell_edges(
    recipe: VectorRecipe,
    columns: Sequence[Mapping[str, Any]] | None,
    tensors: Mapping[str, torch.Tensor],
) -> torch.Tensor | None:
    """Return the edges of the cells of a single discrete column, from 0 to 1.

    They are the intervals of piecewise-linear couplings; None for other couplings and columns.
    """
    if recipe.model.coupling != "piecewise_linear" or columns is None:
        return None
    if [column["kind"] for column in columns] != ["cells"]:
        return None
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)  # beyond the cells, if they are numbers
    edges = torch.cat((ends, tensors["edges"][0].double())).unique()
    return edges if len(edges) <= MOST_INTERVALS else None


def resolve(config: TrainingConfig, dataset: Dataset) -> TrainingConfig:
    """Replace training settings that depend on the data by numbers.

    Few rows need regularization, many need speed: between a thousand and ten thousand rows the
    learning rate rises, and weight decay, smoothing and the averaging of the weights decrease. Few
    images are soon memorized: validations are more frequent, and training ends when they get worse.

    Args:
        config: settings, of which some are "auto".
        dataset: data set, whose number of training rows determines the settings.

    Raises:
        ValueError: if a setting is "auto" that is only available for the other kind of data.
    """
    if config.patience == "auto":
        if dataset.kind != "image":
            raise ValueError("training.patience is auto for images only: give a number, or null")
        few = len(dataset.train) < FEW_IMAGES
        config = dataclasses.replace(config, **(FEW if few else {"patience": None}))
    many = min(1.0, max(0.0, math.log10(len(dataset.train) / 1000)))
    numbers: dict[str, Any] = {
        "lr": 0.002 * 5**many,
        "weight_decay": 0.03**many,
        "smoothing": 0.1 ** (1 + 2 * many),
        "ema": 1 - 0.02 * 0.15**many,
    }
    resolved = {name: numbers[name] for name in numbers if getattr(config, name) == "auto"}
    if resolved and dataset.kind != "vector":
        raise ValueError(
            f"training.{next(iter(resolved))} is auto for vectors only: give a number for images"
        )
    return dataclasses.replace(config, **resolved)


def mixture_of(
    recipe: VectorRecipe, start: TableStart, *, untrained: bool = False
) -> Mixture | None:
    """Return the mixture that a recipe's model starts as, fitted to the data, or None.

    Args:
        recipe: recipe.
        start: what the model starts from.
        untrained: whether the model is not trained; see :meth:`TableStart.mixture`.
    """
    wanted = recipe.model.mixture_init
    components = None if isinstance(wanted, str) else wanted
    return start.mixture(components, untrained=untrained) if wanted else None


def smoothing_of(
    flow: Flow, dataset: Dataset, amount: float, device: torch.device
) -> torch.Tensor | None:
    """Return the matrix from normal noise to the noise that training adds to vectors.

    Args:
        flow: flow.
        dataset: data set; discrete columns get no noise but that of their dequantization.
        amount: standard deviation, in those of the columns, or of the Gaussians that the flow
            starts as.
        device: device of the matrix.

    Returns:
        ``(D, D)``; None if no noise is added.

    Raises:
        ValueError: if the data are images, whose noise is that of dequantization.
    """
    if not amount:
        return None
    if dataset.kind != "vector":
        raise ValueError(
            f"training.smoothing adds noise to vectors, but {dataset.name} holds images: "
            "leave it out"
        )
    columns_first = next((m for m in flow.modules() if isinstance(m, ColumnsFirst)), None)
    others = range(flow.dim) if columns_first is None else columns_first.others
    if not others:
        return None
    first = next((m for m in flow.modules() if isinstance(m, Affine | Rosenblatt)), None)
    if first is None:  # a flow that was not made by a builder
        factor = torch.diag(moments(dataset.for_statistics.x)[1])
    elif isinstance(first, Rosenblatt):  # in float64: squares of small numbers do not underflow
        factor = torch.linalg.cholesky(copy.deepcopy(first).double().covariance()).T
    else:
        factor = torch.diag(first.scale)
    noise = torch.zeros(flow.dim, flow.dim, dtype=flow.dtype, device=device)
    index = torch.tensor(others)
    noise[index[:, None], index] = amount * factor.to(device, flow.dtype)
    noise[:, list(flow.integers)] = 0.0
    return noise
