"""The page of the recipes: what it says was measured."""

from __future__ import annotations

import pytest

import recipes_page
from realnvp.pretrained import cards
from realnvp.recipes import recipe_names


def test_every_measurement_is_under_its_recipe():
    found = {name: recipes_page.measured(name) for name in recipe_names()}
    shown = "\n".join(row[0] for rows in found.values() for row in rows)
    for model, card in cards().items():
        assert f"`{model}`: `realnvp train " in shown
        assert any(f"{card['value']:.4f}" in row[1] for row in found[recipes_page.recipe_of(card)])
    assert [row[0].partition(",")[0] for row in found["mnist-paper"]] == [
        "10 minutes", "30 minutes", "5 minutes",
    ]  # fmt: skip
    assert not found["celeba-paper"]


@pytest.mark.parametrize("name", ["moons", "mnist-multiscale", "celeba"])
def test_curves_are_those_of_the_cards(name):
    models = [model for model, card in cards().items() if recipes_page.recipe_of(card) == name]
    figure = recipes_page.curves(name)
    if not models:
        assert figure is None
        return
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == set(models)
    for model, line in lines.items():
        minutes, loss = cards()[model]["curve"][-1]
        sign = -1 if cards()[model]["unit"] == "nats" else 1
        assert line.get_xydata()[-1] == pytest.approx((minutes, sign * loss))


def test_the_page_has_all_of_it():
    text = recipes_page.page()
    for name in recipe_names():
        assert f"\n## {name}\n" in text
    with_curves = {recipes_page.recipe_of(card) for card in cards().values()}
    assert text.count('src="data:image/png;base64,') == len(with_curves) >= 10
