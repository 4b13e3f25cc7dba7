"""Builders: arguments, registries of parts, and the models that they make."""

from __future__ import annotations

import dataclasses
import inspect
from typing import get_type_hints

import pytest
import torch

import realnvp
from helpers.bijections import randomize
from realnvp import image_flow, vector_flow
from realnvp.architectures import make_coupling
from realnvp.bijections import Affine, ChannelMask
from realnvp.config import ImageModel, VectorModel
from realnvp.recipes import load_recipe, read_recipe, recipe_names
from realnvp.utils.registry import COUPLINGS


@pytest.mark.parametrize(
    ("builder", "model"), [(image_flow, ImageModel), (vector_flow, VectorModel)]
)
def test_builders_have_a_typed_keyword_for_each_field_of_their_settings(builder, model):
    parameters = inspect.signature(builder).parameters
    hints, own = get_type_hints(builder), get_type_hints(model)
    for field in dataclasses.fields(model):
        assert parameters[field.name].default == field.default, field.name
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
    assert vector_flow(2).config == realnvp.recipe("moons").build().config
    assert load_recipe("mnist-paper").model == ImageModel()
    assert image_flow((1, 28, 28)).config == load_recipe("mnist-paper").build().config


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_its_model(name):
    named = bool(read_recipe(name)["data"]["source"])
    recipe = realnvp.recipe(name, data=None if named else {"source": "mine"})
    with torch.device("meta"):
        if named:
            flow = recipe.build()
        else:
            with pytest.raises(ValueError, match=r"give (shape=\(C, H, W\)|dim=D) to build"):
                recipe.build()
            flow = recipe.build((3, 64, 64)) if recipe.kind == "image" else recipe.build(3)
    assert flow.config["arguments"]["hidden"] == recipe.model.hidden


def test_a_recipe_builds_for_other_shapes():
    flow = load_recipe("digits").build((3, 4, 4), 5, classes=2)
    assert (flow.shape, flow.levels, flow.classes) == ((3, 4, 4), 5, 2)
    flow = load_recipe("table", data={"source": "mine.csv"}).build(4, integers=[1], condition_dim=3)
    assert (flow.shape, flow.integers, flow.condition_dim) == ((4,), (1,), 3)
    small = load_recipe("celeba-paper", data={"size": 32}, model={"scales": 2})
    assert small.build().shape == (3, 32, 32)
    conditional = load_recipe("digits", data={"source": "mine.npz", "condition": "label"})
    with pytest.raises(ValueError, match="give classes or condition_dim"):
        conditional.build((1, 8, 8))
    assert conditional.build((1, 8, 8), classes=7).classes == 7
    assert load_recipe("digits", data={"condition": "label"}).build().classes == 10


@pytest.mark.parametrize("coupling", list(COUPLINGS))
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 2, 6), (2, 3, 3), (3,)])
def test_every_coupling_is_for_images_and_vectors(coupling, shape):
    if len(shape) == 3:
        scales = 1 if shape[1] % 2 else 2
        flow = image_flow(shape, coupling=coupling, hidden=4, norm="none", scales=scales).eval()
        x = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
        assert torch.equal(flow.decode(flow.encode(x)), x)
    else:
        flow = vector_flow(*shape, coupling=coupling, hidden=4).eval()
        x = torch.randn(2, *shape)
        torch.testing.assert_close(flow.decode(flow.encode(x)), x, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(flow.log_prob(x)).all()


def test_options_of_couplings_are_checked():
    model = VectorModel(coupling="affine", coupling_options={"bins": 8})
    with pytest.raises(ValueError, match="no option 'bins': it has none"):
        vector_flow(2, model=model)
    with pytest.raises(ValueError, match="no option 'bins': its options are components"):
        make_coupling(ChannelMask(), 2, VectorModel(coupling_options={"bins": 8}))
    with pytest.raises(ValueError, match="coupling_options must be"):
        VectorModel(coupling_options={"bins": [8]})
    few = vector_flow(2, coupling_options={"components": 3}, components=5)
    assert next(m.components for m in few.modules() if hasattr(m, "components")) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: vector_flow(2, coupling="afine"),
            "'afine': did you mean 'affine'",
        ),
        (lambda: VectorModel(conditioner="net"), "unknown conditioner 'net'"),
        (lambda: ImageModel(architecture="pixelcnn"), "unknown architecture"),
        (lambda: ImageModel(coupling="nowhere:Spline"), "--import nowhere"),
        (lambda: image_flow((1, 4, 4), conditioner="mlp"), "'mlp' does not fit this model"),
        (lambda: vector_flow(2, architecture="glow"), "for images"),
    ],
)
def test_parts_that_do_not_exist_or_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_first_layer_standardizes():
    flow = vector_flow(2, mean=torch.tensor([1.0, 2.0]))
    assert isinstance(flow.bijection[0], Affine)
    assert flow.bijection[0](torch.tensor([[1.0, 2.0]]))[0].tolist() == [[0.0, 0.0]]


def test_settings_of_scales_are_one_value_or_one_for_each():
    flow = image_flow(
        (1, 8, 8), architecture="coarse_to_fine", scales=3, steps=[3, 2, 4], hidden=[4, 6, 8]
    )
    names = [type(layer).__name__ for _, layer, _ in flow.bijection.outline((1, 8, 8), "")]
    assert names.count("Refine") == names.count("FactorOut") == 2
    assert flow.latent_scales().flatten().bincount().tolist() == [48, 12, 4]
    with pytest.raises(ValueError, match="hidden must be one value, or a list of 2"):
        ImageModel(hidden=[4, 6, 8])
    with pytest.raises(ValueError, match="hidden must be a positive number"):
        ImageModel(hidden=[4, 0])
    with pytest.raises(ValueError, match="hidden must be"):
        ImageModel(hidden=[4, 6.5])


def test_the_small_image_has_a_density_of_its_own():
    """Coarse to fine, the pixels of the small image do not depend on those between them."""
    options = {"architecture": "coarse_to_fine", "steps": 3, "hidden": 4, "blocks": 1}
    flow = randomize(image_flow((1, 4, 4), levels=4, norm="act", **options)).eval()
    x = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    other = x.clone()
    other[..., 1::2, :] = 3
    other[..., :, 1::2] = 3
    noise = torch.full(x.shape, 0.5)
    (first, _), (second, _) = (flow.latents_and_log_det(image, None, noise) for image in (x, other))
    coarse = flow.latent_scales() == 1
    assert coarse.sum() == 4
    torch.testing.assert_close(first[0][coarse], second[0][coarse])
    assert (first[0][~coarse] - second[0][~coarse]).abs().min() > 0
