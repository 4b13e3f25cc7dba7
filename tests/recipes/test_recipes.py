"""Recipes: those that come with the package, variants, and files that come from anybody."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from realnvp.builders import image_flow
from realnvp.config import DataConfig
from realnvp.data import load_data
from realnvp.data.sources import source_names
from realnvp.recipes import (
    load_recipe,
    read_recipe,
    recipe_names,
    recipe_summary,
)
from realnvp.training.initialization import build
from realnvp.utils.settings import to_dict

LAUGHS = "kind: vector\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)

BAD = {
    "aliases that multiply": (LAUGHS, "aliases"),
    "an alias of itself": ("kind: vector\nmodel: &m {hidden: *m}", "aliases"),
    "a merge": ("kind: vector\nmodel: &m {hidden: 3}\ndata: {<<: *m}", "aliases"),
    "a list for the kind": ("kind: [vector]", "kind: image"),
    "a mapping for the kind": ("kind: {vector: 1}", "kind: image"),
    "a list for a section": ("kind: vector\nmodel: [1, 2]", "model .* section"),
    "a number for a section": ("kind: vector\ntraining: 3", "training .* section"),
    "a number for a key": ("kind: vector\nmodel: {3: 4}", "3 .* text"),
    "a number for a section's name": ("kind: vector\n3: {hidden: 4}", "3 .* text"),
    "nested without end": ("kind: vector\nmodel: " + "[" * 20_000, "nested"),
    "larger than any recipe": ("kind: vector\n" + "#" * 2_000_000, "large"),
    "a date that is none": ("kind: vector\nseed: 2020-99-99", "YAML"),
    "digits without end": ("kind: vector\nseed: " + "9" * 9_000, "YAML"),
    "a key that is a list": ("kind: vector\n? [a, b]\n: 3", "YAML|text"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_at_once(tmp_path, case):
    text, message = BAD[case]
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(str(path))
    assert len(str(caught.value)) < 600


def test_an_empty_section_is_the_defaults(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("kind: vector\nmodel:\n")
    assert read_recipe(str(path))["model"] == {}


# ---------------------------------------------------------------------- the recipes


@pytest.mark.parametrize("training", [{}, {"minutes": 1e4}])
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_parses_and_builds(name, training):
    data = {
        "source": read_recipe(name)["data"]["source"] or ("moons" if name == "table" else "digits")
    }
    recipe = load_recipe(name, data=data, training=training)
    assert recipe.training.minutes or recipe.training.steps or recipe.training.epochs
    if recipe.kind == "vector":
        points = DataConfig(source=recipe.data.source, points=100)
        assert build(recipe, load_data(points)).dim == 2
    else:
        side = max(8, 2**recipe.model.scales)
        options = {**vars(recipe.model), "hidden": 4, "blocks": 1, "steps": 2}
        flow = image_flow((1, side, side), **options)
        x = torch.zeros(2, *flow.shape, dtype=torch.uint8)
        assert all(torch.isfinite(term) for term in flow.loss_terms(x).values())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_says_in_a_line_what_it_is(name):
    summary = recipe_summary(name)
    assert 20 < len(summary) < 110
    assert summary.endswith(".")
    assert ":" not in summary[:8], "the line is a comment, not a setting"


def test_every_data_set_has_its_recipe():
    assert set(source_names()) <= set(recipe_names())


def test_paper_recipes_have_the_papers_settings():
    assert read_recipe("cifar10-paper")["model"] == {"scales": 2, "hidden": 64, "blocks": 8}
    assert read_recipe("celeba-paper")["model"] == {"scales": 5, "hidden": 32, "blocks": 2}
    for name, blocks, scales in (
        ("imagenet32-paper", 4, 4), ("imagenet64-paper", 2, 5), ("lsun-paper", 2, 5)
    ):  # fmt: skip
        assert read_recipe(name)["model"] == {"scales": scales, "hidden": 32, "blocks": blocks}
        assert read_recipe(name)["training"]["epochs"] == 30


def test_variants_differ_from_their_base_only_in_what_they_name():
    circles, moons = read_recipe("circles"), read_recipe("moons")
    assert circles == {**moons, "data": {"source": "circles"}}
    fashion, mnist = load_recipe("fashion-mnist"), load_recipe("mnist")
    assert (fashion.model, fashion.training) == (mnist.model, mnist.training)
    assert fashion.data.source == "fashion-mnist"


def test_an_unknown_name_is_suggested():
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        read_recipe("mnits")


# ---------------------------------------------------------------------- variants of one's own


@pytest.fixture
def mine(tmp_path):
    """Write a recipe of this name, and return its path."""

    def write(text: str, name: str = "mine.yaml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_file_may_be_a_variant_of_a_shipped_recipe(mine):
    recipe = load_recipe(mine("base: moons\nmodel: {hidden: 7}\nseed: 3\n"))
    assert (recipe.model.hidden, recipe.model.couplings, recipe.seed) == (7, 4, 3)


def test_a_file_may_be_a_variant_of_a_file_beside_it(mine):
    mine("base: moons\nmodel: {hidden: 7}\n", "parent.yaml")
    recipe = load_recipe(mine("base: parent.yaml\nmodel: {blocks: 0}\n"))
    assert (recipe.model.hidden, recipe.model.blocks, recipe.model.couplings) == (7, 0, 4)


def test_a_budget_of_a_variant_replaces_those_of_its_base(mine):
    training = load_recipe(mine("base: moons\ntraining: {minutes: 2}\n")).training
    assert (training.minutes, training.steps) == (2, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: mine.yaml", "based on itself"),
        ("base: mnits", "did you mean 'mnist'"),
        ("base: [moons]", "base in recipe .* must be a name"),
        ("base: moons\nkind: image", "kind image, but its base moons of kind vector"),
        ("base: moons\nmodel: {scales: 3}", "unknown setting model.scales"),
        ("kind: vector\nmodel: {hiden: 3}", "did you mean 'model.hidden'"),
        ("kind: vector\ntrainig: {}", "did you mean 'training'"),
        ("model: {hidden: 3}", "must have kind"),
    ],
)
def test_a_variant_that_is_wrong_is_refused(mine, text, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(mine(text))


def test_two_files_that_are_based_on_each_other_are_refused(mine):
    mine("base: mine.yaml", "other.yaml")
    with pytest.raises(ValueError, match="based on itself"):
        read_recipe(mine("base: other.yaml"))


# ---------------------------------------------------------------------- settings by budget


BY_BUDGET = """
kind: vector
model: {hidden: 8}
training: {minutes: 5}
budgets:
  10: {model: {hidden: 16}, training: {lr: 0.5}}
  60: {model: {hidden: 32}}
"""


@pytest.mark.parametrize(
    ("training", "hidden"),
    [
        ({}, 8),
        ({"minutes": 9.9}, 8),
        ({"minutes": 10}, 16),
        ({"minutes": 90}, 32),
        ({"steps": 9}, 8),
    ],
)
def test_a_budget_decides_on_settings(mine, training, hidden):
    path = mine(BY_BUDGET)
    recipe = load_recipe(path, training=training)
    assert recipe.model.hidden == hidden
    assert load_recipe(path, training=training, model={"hidden": 5}).model.hidden == 5
    assert read_recipe(path, training.get("minutes"))["model"]["hidden"] == hidden


def test_a_variant_of_other_data_has_the_budgets_of_its_base_and_one_of_another_model_has_none(
    mine,
):
    mine(BY_BUDGET, "parent.yaml")
    data = mine("base: parent.yaml\ndata: {points: 50}\n", "data.yaml")
    assert read_recipe(data, 60)["model"]["hidden"] == 32
    model = mine("base: parent.yaml\nmodel: {blocks: 2}\n", "model.yaml")
    assert read_recipe(model, 60)["model"] == {"hidden": 8, "blocks": 2}
    own = mine("base: parent.yaml\nbudgets: {20: {model: {hidden: 64}}}\n", "own.yaml")
    assert [read_recipe(own, m)["model"]["hidden"] for m in (10, 20)] == [8, 64]
    assert load_recipe("fashion-mnist", training={"minutes": 60}).data.shift == 1


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ("[1]", "budgets .* section"),
        ("{soon: {}}", "numbers of minutes"),
        ("{true: {}}", "numbers of minutes"),
        ("{-1: {}}", "numbers of minutes"),
        ("{10: 3}", "numbers of minutes"),
        ("{10: {kind: image}}", "numbers of minutes"),
        ("{10: {model: 3}}", "model .* section"),
        ("{10: {model: {hiden: 3}}}", r"did you mean 'model\.hidden'"),
        ("{10: {training: {minutes: 3}}}", "must not change the budget"),
    ],
)
def test_budgets_that_are_wrong_are_refused(mine, budgets, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(mine(f"kind: vector\nbudgets: {budgets}\n"))


# ---------------------------------------------------------------------- replaced settings


def test_a_given_budget_replaces_all_of_the_recipes():
    training = load_recipe("mnist", training={"epochs": 2}).training
    assert (training.minutes, training.epochs) == (None, 2)


def test_settings_replace_those_of_the_recipe():
    recipe = load_recipe("moons", model={"hidden": 5}, data={"points": 50}, seed=9)
    assert (recipe.model.hidden, recipe.data.points, recipe.data.source) == (5, 50, "moons")
    assert recipe.seed == 9
    with pytest.raises(ValueError, match=r"did you mean 'model\.hidden'"):
        load_recipe("moons", model={"hiden": 5})


def test_what_is_saved_of_a_recipe_is_a_recipe(mine):
    recipe = load_recipe("cifar10", seed=5)
    saved = yaml.safe_dump(json.loads(json.dumps(to_dict(recipe))))
    assert load_recipe(mine(saved)) == recipe
