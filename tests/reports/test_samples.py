"""Samples as files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from realnvp import load, vector_flow
from realnvp.columns.schema import TableSchema
from realnvp.config import DataConfig
from realnvp.model_info import ModelInfo
from realnvp.reports.samples import (
    condition_values,
    picture_of_rows,
    table_of_rows,
    write_samples,
)


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
    [(None, [1, 0]), (ModelInfo(DataConfig(condition="color"), categories=["red", "blue"]),
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


def towns() -> tuple[pd.DataFrame, TableSchema]:
    """Return a table whose first numbers are a code and a status, and its columns."""
    size = np.arange(60) / 4 + 0.1
    frame = pd.DataFrame({
        "town": ["Rome", "Oslo", "Bonn"] * 20,
        "size": np.where(np.arange(60) % 6 == 0, np.nan, size),
        "cost": [f"{10 * i},50" for i in range(60)],
        "born": [f"{1 + i % 28:02}/03/2021" for i in range(60)],
    })  # fmt: skip
    return frame, TableSchema.of(frame)


def test_rows_of_a_table_have_its_own_values():
    frame, schema = towns()
    x = torch.as_tensor(schema.encode(frame)[0])
    rows = table_of_rows(x, [], schema)
    assert rows["town"].tolist() == frame["town"].tolist()
    assert rows["cost"].tolist() == [10 * i + 0.5 for i in range(60)]
    assert rows["born"].max() == pd.Timestamp("2021-03-28")
    assert int(rows["size"].isna().sum()) == 10
    x[3, 0] = torch.nan
    x[4, 2] = torch.inf
    assert len(table_of_rows(x, [], schema)) == 58, "rows that overflow are left out"


def test_pictures_of_tables_show_columns_of_many_values_in_their_unit():
    frame, schema = towns()
    x = torch.as_tensor(schema.encode(frame)[0])
    data, samples = picture_of_rows(x[:30], x, schema=schema).axes
    assert [samples.get_xlabel(), data.get_ylabel()] == ["size", "cost"]
    assert data.get_ylim()[1] > 500


def test_pictures_of_vectors_without_a_table():
    (axes,) = picture_of_rows(torch.randn(20, 3)).axes
    assert [axes.get_xlabel(), axes.get_ylabel()] == ["x1", "x2"]
    (axes,) = picture_of_rows(torch.randn(20, 1), torch.randn(9, 1), columns=["age"]).axes
    assert axes.get_title() == "age"
