"""Builders: their options, those of recipes, and the first layers."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_type_hints

import pytest
import torch

import realnvp
from realnvp import image_flow, vector_flow
from realnvp.bijections import Affine
from realnvp.config import ImageModel, VectorModel
from realnvp.recipes import load_recipe, read_recipe, recipe_names


@pytest.mark.parametrize(
    ("builder", "model"), [(image_flow, ImageModel), (vector_flow, VectorModel)]
)
def test_builders_have_a_typed_keyword_for_each_field_of_their_settings(builder, model):
    parameters = inspect.signature(builder).parameters
    hints, own = get_type_hints(builder), get_type_hints(model)
    for field in dataclasses.fields(model):
        assert parameters[field.name].default == field.default, field.name
        if field.name != "domain":  # a builder also takes the support of a distribution
            assert hints[field.name] == own[field.name], field.name
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())


@pytest.mark.parametrize(
    ("builder", "shape", "model"),
    [(image_flow, (1, 8, 8), ImageModel()), (vector_flow, 2, VectorModel())],
)
def test_settings_are_given_at_once_or_one_by_one(builder, shape, model):
    model = dataclasses.replace(model, hidden=4)
    torch.manual_seed(0)
    first = builder(shape, model=model)
    torch.manual_seed(0)
    second = builder(shape, hidden=4)
    assert first.config == second.config
    state = second.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.state_dict().items())
    with pytest.raises(ValueError, match="hidden is one of model's options"):
        builder(shape, model=model, hidden=5)
    with pytest.raises(ValueError, match="model must be a realnvp"):
        builder(shape, model={"hidden": 4})


def test_defaults_are_those_of_the_recipes():
    assert load_recipe("moons").model == VectorModel()
    assert vector_flow(2).config == realnvp.recipe("moons").build(2).config
    assert load_recipe("mnist-paper").model == ImageModel()
    assert image_flow((1, 28, 28)).config == load_recipe("mnist-paper").build((1, 28, 28)).config


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_its_model(name):
    named = bool(read_recipe(name)["data"]["source"])
    recipe = realnvp.recipe(name, data=None if named else {"source": "mine"})
    with torch.device("meta"):
        classes = None if recipe.data.condition is None else 10
        shape: Any = (3, 64, 64) if recipe.kind == "image" else 3
        flow = recipe.build(shape, classes=classes)
    assert flow.config["arguments"]["hidden"] == recipe.model.hidden


def test_a_recipe_builds_for_other_shapes():
    flow = load_recipe("digits").build((3, 4, 4), 5, classes=2)
    assert (flow.shape, flow.levels, flow.classes) == ((3, 4, 4), 5, 2)
    flow = load_recipe("table", data={"source": "mine.csv"}).build(4, integers=[1], condition_dim=3)
    assert (flow.shape, flow.integers, flow.condition_dim) == ((4,), (1,), 3)
    conditional = load_recipe("digits", data={"source": "mine.npz", "condition": "label"})
    with pytest.raises(ValueError, match="give classes or condition_dim"):
        conditional.build((1, 8, 8))
    assert conditional.build((1, 8, 8), classes=7).classes == 7


def test_the_first_layer_standardizes():
    flow = vector_flow(2, mean=torch.tensor([1.0, 2.0]))
    assert isinstance(flow.bijection[0], Affine)
    assert flow.bijection[0](torch.tensor([[1.0, 2.0]]))[0].tolist() == [[0.0, 0.0]]
