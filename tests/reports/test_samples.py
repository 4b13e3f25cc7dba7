"""Samples as files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from realnvp import load, vector_flow
from realnvp.reports.samples import condition_values, write_samples


def test_a_file_is_what_its_ending_says(tmp_path):
    flow = load("digits")
    x = flow.sample(3, generator=torch.Generator().manual_seed(0))
    for ending in ("png", "npz", "npy"):
        write_samples(flow, x, None, tmp_path / f"s.{ending}")
    with Image.open(tmp_path / "s.png") as image:
        assert image.width > image.height
    assert (np.load(tmp_path / "s.npz")["images"] == x.numpy()).all()
    assert (np.load(tmp_path / "s.npy") == x.numpy()).all()


@pytest.mark.parametrize(
    ("trained_on", "expected"),
    [(None, [1, 0]), ({"categories": ["red", "blue"], "data": {"condition": "color"}},
                      ["blue", "red"])],
)  # fmt: skip
def test_classes_are_written_by_name_where_they_have_one(tmp_path, trained_on, expected):
    flow = vector_flow(2, classes=2)
    flow.trained_on = trained_on
    labels = torch.tensor([1, 0])
    assert condition_values(flow, labels).tolist() == expected
    for ending in ("csv", "npz"):
        write_samples(flow, torch.zeros(2, 2), labels, tmp_path / f"s.{ending}")
    name = "condition" if trained_on is None else "color"
    table = pd.read_csv(tmp_path / "s.csv")
    assert list(table.columns) == ["x1", "x2", name]
    assert list(table[name]) == expected
    assert np.load(tmp_path / "s.npz")["labels"].tolist() == expected
