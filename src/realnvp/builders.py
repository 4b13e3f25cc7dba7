"""The builders of models: Real NVP's multi-scale one for images, and one for vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from realnvp.bijections import (
    Affine,
    AffineCoupling,
    Bijection,
    Chain,
    ChannelMask,
    DequantizeColumns,
    MixtureCoupling,
    Rosenblatt,
)
from realnvp.building import check_sizes, config_of, normalized, options_of
from realnvp.config import VectorModel
from realnvp.models import Flow
from realnvp.multiscale import image_flow
from realnvp.nets import MLP

__all__ = ["image_flow", "vector_flow"]


def vector_flow(
    dim: int,
    *,
    mean: torch.Tensor | None = None,
    std: torch.Tensor | None = None,
    mixture: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
    integers: Sequence[int] = (),
    condition_dim: int = 0,
    classes: int | None = None,
    **options: Any,
) -> Flow:
    """Real NVP for vectors: points, or the rows of a table.

    Standardization, or a Gaussian mixture to start from; then couplings that transform the two
    halves of the columns in turn, each followed by a normalization.

    Args:
        dim: number D of columns, 2 or more.
        mean: of the columns, for the standardization; zeros if left out.
        std: standard deviation of the columns; ones if left out.
        mixture: means, Cholesky factors and weights of the Gaussians that it starts as, with the
            option ``start``; see :func:`realnvp.start.fit_mixture`.
        integers: numbers of the columns that hold whole numbers, to be dequantized.
        condition_dim: size of the condition, 0 for none.
        classes: number of classes, if the condition is a label.
        options: the fields of :class:`realnvp.config.VectorModel`.

    Raises:
        ValueError: if there are fewer than two columns, or an option is not known.

    >>> vector_flow(3).encode(torch.zeros(4, 3)).shape
    torch.Size([4, 3])
    """
    model = options_of(VectorModel, options)
    check_sizes(dim=dim, condition_dim=condition_dim, classes=classes)
    if dim < 2:
        raise ValueError(
            f"a coupling sets the map of one half of the columns from the other half, so it needs "
            f"at least 2 columns, got {dim}; for a single column use a histogram or kernel density"
        )
    condition_dim = condition_dim if classes is None else classes
    layers: list[Bijection] = [DequantizeColumns(integers, dim)] if len(integers) else []
    if model.start:
        parts = (torch.zeros(model.start, dim),) if mixture is None else mixture
        layers.append(Rosenblatt(*parts))
    else:
        layers.append(Affine(torch.zeros(dim) if mean is None else mean, std))
    for i in range(model.couplings):
        mask = ChannelMask(flip=i % 2 == 1)
        passive, active = mask.sizes(dim)
        mixes = model.coupling == "mixture"
        kind = MixtureCoupling if mixes else AffineCoupling
        per_column = kind.parameters_of(model.components)
        conditioner = MLP(passive, per_column * active, model.hidden, model.blocks, condition_dim)
        coupling: Bijection = (
            MixtureCoupling(mask, conditioner, model.components)
            if mixes
            else AffineCoupling(mask, conditioner, active)
        )
        layers += normalized(coupling, dim, model)
    return Flow(
        Chain(*layers),
        (dim,),
        condition_dim=condition_dim,
        classes=classes,
        scale_penalty=model.scale_penalty,
        # Mean, deviation and factor are saved with the weights.
        config=config_of(
            "vector_flow",
            dim=dim,
            integers=list(integers),
            condition_dim=condition_dim,
            classes=classes,
            **dataclasses.asdict(model),
        ),
    )
