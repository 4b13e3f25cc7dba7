"""The untrained model of a recipe, and settings that the data decide."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import realnvp
from helpers.rows import normals, vectors
from realnvp.config import TrainingConfig, VectorModel, VectorRecipe
from realnvp.data.dataset import Dataset, Split
from realnvp.training.initialization import build, resolve, smoothing_of


def test_training_settings_are_resolved_by_the_number_of_rows():
    auto = TrainingConfig(steps=1, lr="auto", weight_decay="auto", smoothing="auto", ema="auto")
    few, many = (resolve(auto, vectors(torch.zeros(n, 2))) for n in (100, 100_000))
    assert (few.lr, few.weight_decay, few.smoothing, few.ema) == (0.002, 1.0, 0.1, 0.98)
    assert isinstance(many.lr, float)
    assert many.lr == pytest.approx(0.01)
    images = Dataset(
        "digits", few_images := Split(torch.zeros(4, 1, 8, 8)), few_images, None, (1, 8, 8)
    )
    with pytest.raises(ValueError, match="lr is auto for vectors only"):
        resolve(auto, images)
    given = replace(auto, lr=0.5)
    assert resolve(given, vectors(torch.zeros(9, 2))).lr == 0.5


def test_few_images_are_validated_often_and_until_it_gets_worse():
    auto = TrainingConfig(steps=1, patience="auto")

    def images(n: int) -> Dataset:
        split = Split(torch.zeros(n, 1, 8, 8, dtype=torch.uint8))
        return Dataset("images", split, split, None, (1, 8, 8), levels=256)

    few, many = resolve(auto, images(999)), resolve(auto, images(1000))
    assert (few.patience, few.num_validations) == (5, 100)
    assert (many.patience, many.num_validations) == (None, auto.num_validations)
    with pytest.raises(ValueError, match="patience is auto for images only"):
        resolve(auto, vectors(torch.zeros(9, 2)))


def test_smoothing_has_the_shape_of_the_data_in_any_unit():
    x = normals(100, 2) * torch.tensor([1e-25, 1e20])
    recipe = VectorRecipe(VectorModel(mixture_init=1))
    flow = build(recipe, vectors(x))
    factor = smoothing_of(flow, vectors(x), 0.1, torch.device("cpu"))
    assert factor is not None
    sizes = (factor.double().mT @ factor.double()).diagonal().sqrt() / x.std(0)
    torch.testing.assert_close(sizes, torch.full_like(sizes, 0.1), rtol=0.1, atol=0)


def test_a_saved_flow_keeps_the_unit_of_its_condition(tmp_path):
    c = 1e4 * normals(50, 1) + 2e5
    flow = build(VectorRecipe(VectorModel(mixture_init=1)), vectors(normals(50, 2), c.float()))
    assert flow.condition_scale.item() == pytest.approx(c.std(unbiased=False).item(), rel=1e-4)
    flow.save_pretrained(tmp_path)
    twin = realnvp.load(tmp_path)
    x = torch.zeros(50, 2)
    assert torch.equal(twin.log_prob(x, c.float()), flow.eval().log_prob(x, c.float()))
    assert twin.sample(5, condition=c[:5].float()).isfinite().all()
