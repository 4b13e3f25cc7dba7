"""Settings are validated when they are made."""

from __future__ import annotations

import math

import pytest

from realnvp.config import DataConfig, ImageModel, TrainingConfig, VectorModel
from realnvp.utils.settings import to_dict


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": 0.0}, {"lr": math.nan}, {"batch_size": -1}, {"ema": 1.0}, {"clip": -1.0},
        {"validation_share": 0.0}, {"validation_share": 1.5},
        {"minutes": 0.0}, {"decay_fraction": 0.0}, {"betas": (0.9, 1.0)}, {"warmup": -1},
    ],
)  # fmt: skip
def test_training_settings_are_validated(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrainingConfig(**bad)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (ImageModel, {"scales": 0}), (ImageModel, {"alpha": 0.5}), (ImageModel, {"hidden": "8"}),
        (ImageModel, {"norm": "layer"}), (VectorModel, {"couplings": 0}),
        (VectorModel, {"mixture_init": -1}), (DataConfig, {"source": 3}),
        (DataConfig, {"shift": -1}), (DataConfig, {"validation": 1.5}),
    ],
)  # fmt: skip
def test_model_and_data_settings_are_validated(kind, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        kind(**bad)


def test_settings_are_plain_dicts_for_files():
    assert to_dict(TrainingConfig(steps=3))["steps"] == 3
