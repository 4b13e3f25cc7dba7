"""Which rows of each row group are held out."""

from __future__ import annotations

import numpy as np
import pytest

from realnvp.data.row_groups import Division


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("sizes", [[7, 1, 30, 12], [50]])
def test_a_division_is_one(sizes, last):
    division = Division(np.array(sizes), 9, 13, 11, last, seed=4)
    found = [division.of(i) for i in range(len(sizes))]
    for size, rows, count in zip(sizes, found, division.train, strict=True):
        parts = [rows[part] for part in ("test", "validation", "train")]
        assert sorted(np.concatenate(parts).tolist()) == list(range(size))
        assert len(rows["train"]) == count
        assert set(rows["sample"]) <= set(rows["train"])
    counts = {part: sum(len(rows[part]) for rows in found) for part in found[0]}
    assert counts == {"test": 13, "validation": 9, "train": 28, "sample": 11}
    if last:
        starts = np.cumsum([0, *sizes])
        test = np.concatenate([rows["test"] + start for rows, start in zip(found, starts)])  # noqa: B905
        assert test.tolist() == list(range(37, 50))
    else:
        other = Division(np.array(sizes), 9, 13, 11, seed=5).of(0)["train"].tolist()
        assert other != found[0]["train"].tolist()
