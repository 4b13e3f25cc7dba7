"""Columns that grow block by block."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from realnvp.utils import spool as module
from realnvp.utils.spool import Spool


@pytest.mark.parametrize("suffix", module.SUFFIXES)
def test_a_table_is_written_in_blocks(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(module, "BLOCK", 3)
    names = np.array([f"file {i}" * (i + 1) for i in range(8)])
    path = tmp_path / f"t{suffix}"
    with Spool.temporary(["x", "y"]) as spool:
        spool.append({"y": np.arange(5.0), "x": np.ones(5)})
        spool.append({"y": np.arange(5.0, 8.0), "x": np.zeros(3)})
        assert np.array_equal(spool.column("y"), np.arange(8.0))
        spool.write(path, {"image": list(names)}, {"mark": np.arange(8)})
    if suffix == ".npz":
        read = dict(np.load(path))
    else:
        read = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
        assert list(read.columns) == ["image", "x", "y", "mark"]
    assert list(read["image"]) == list(names)
    assert np.array_equal(read["y"], np.arange(8.0))
    assert np.array_equal(read["mark"], np.arange(8))


def test_names_of_files_that_are_not_text_are_escaped(tmp_path):
    name = os.fsdecode(b"\xff.png")
    with Spool.temporary(["x"]) as spool:
        spool.append({"x": np.ones(1)})
        for path, read in (
            (tmp_path / "t.csv", pd.read_csv),
            (tmp_path / "t.parquet", pd.read_parquet),
        ):
            spool.write(path, {"image": [name]}, {})
            assert list(read(path)["image"]) == ["\\udcff.png"]
