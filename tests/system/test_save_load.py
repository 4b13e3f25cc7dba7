"""Every value of every option: a model that is built, saved and loaded scores the same."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

import realnvp
from helpers.bijections import randomize
from realnvp import Flow, image_flow, vector_flow
from realnvp.config import ImageModel, VectorModel

COUPLINGS = "affine", "gaussian_mixture", "logistic_mixture", "piecewise_linear"

NAMES: dict[type, dict[str, tuple[Any, ...]]] = {
    ImageModel: {"architecture": ("realnvp", "glow"), "conditioner": ("resnet",)},
    VectorModel: {"architecture": ("realnvp",), "conditioner": ("mlp",)},
}
"""Values of the options that are names in a registry."""

SMALL: dict[str, tuple[Any, ...]] = {
    "domain": (None,),
    "coupling": COUPLINGS,
    "coupling_options": (None,),
    "components": (1, 2, 3, 4, 5, 6, 8),
    "condition_bins": (0,),
    "couplings": (1, 2, 5),
    "scales": (1, 2, 3),
    "blocks": (0, 1, 2),
    "steps": (1, 3),
    "hidden": (1, 4),
    "patch": (1, 2),
    "mixture_init": (0, 1, 2, 3),
    "alpha": (0.01, 0.2),
    "norm_momentum": (0.1, 1.0),
    "scale_penalty": (0.0, 1e-3),
    "label_weight": (0.0,),
    "dropout": (0.0,),
    "networks": (1,),
}
"""Values of the other options."""

CONDITIONS: dict[str, dict[str, Any]] = {
    "no condition": {},
    "classes": {"classes": 3},
    "numeric condition": {"condition_dim": 2},
}


def values(model: type, name: str) -> tuple[Any, ...]:
    """Return the values of an option to try: all of them where there are finitely many."""
    kind = get_type_hints(model)[name]
    if get_origin(kind) is Literal:
        return get_args(kind)
    if kind is bool:
        return False, True
    return NAMES[model].get(name) or SMALL[name]


def options(model: type, others: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """Return every option with each of its values, beside each of the other settings."""
    names = [field.name for field in dataclasses.fields(model)]
    found = [{**other, name: value} for other in others
             for name in names for value in values(model, name)]  # fmt: skip
    return [dict(items) for items in dict.fromkeys(tuple(f.items()) for f in found)]


def label(settings: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in settings.items())


def check(flow: Flow, x: torch.Tensor, folder: Any) -> None:
    """Save and load a flow with random weights, and compare the log-probabilities."""
    flow = randomize(flow, last=0.1).eval()
    condition = None
    if flow.classes:
        condition = torch.arange(len(x)) % flow.classes
    elif flow.condition_dim:
        condition = torch.randn(len(x), flow.condition_dim)
    flow.save_pretrained(folder)
    loaded = realnvp.load(folder)
    found = [
        model.log_prob(x, condition, noise=torch.Generator().manual_seed(0))
        for model in (flow, loaded)
    ]
    assert torch.isfinite(found[0]).all()
    assert torch.equal(found[0], found[1])


VECTORS = options(VectorModel, tuple({"coupling": name} for name in COUPLINGS))
IMAGES = options(ImageModel, ({}, {"coupling": "logistic_mixture"}, {"architecture": "glow"}))


@pytest.mark.parametrize("settings", VECTORS, ids=label)
def test_vector_flow(settings, tmp_path):
    small = {"hidden": 4, "blocks": 1, "couplings": 2}
    check(vector_flow(3, **{**small, **settings}), torch.randn(4, 3), tmp_path)


@pytest.mark.parametrize("settings", IMAGES, ids=label)
def test_image_flow(settings, tmp_path):
    small = {"hidden": 4, "blocks": 1, "steps": 1}
    x = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    check(image_flow((1, 8, 8), **{**small, **settings}), x, tmp_path)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_and_integer_columns(condition, coupling, tmp_path):
    options = {"hidden": 4, "blocks": 1, "coupling": coupling, **CONDITIONS[condition]}
    image = image_flow((1, 8, 8), levels=17, **options)
    check(image, torch.randint(0, 17, (4, 1, 8, 8), dtype=torch.uint8), tmp_path / "images")
    vector = vector_flow(3, couplings=2, integers=[1], **options)
    check(vector, torch.randint(0, 9, (4, 3)).float(), tmp_path / "vectors")
    if "condition_dim" in options:
        options["condition_bins"] = 3
    check(vector_flow(3, couplings=2, **options).double(), torch.randn(4, 3).double(),
          tmp_path / "float64")  # fmt: skip
