"""Fingerprints of data sets: what changes them, and what a changed one refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from helpers.data_files import (
    GREY,
    LABELS,
    TABLE,
    load,
    npz,
)
from realnvp.config import DataConfig
from realnvp.data import load_data, load_part
from realnvp.data.dataset import check_fingerprint

LONG = np.random.default_rng(1).normal(size=(2000, 3))


def change(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    if what == "appended":
        return pd.concat([frame, frame.iloc[:1] + 0.5])
    if what == "removed":
        return frame.iloc[:-1]
    if what == "permuted":
        return frame.iloc[::-1]
    frame = frame.copy()
    frame.iloc[:, 0] = np.nextafter(frame.iloc[:, 0], np.inf, dtype=np.float32)
    return frame


@pytest.mark.parametrize("what", ["appended", "removed", "permuted", "changed"])
def test_a_file_that_changed_is_no_longer_evaluated(tmp_path, what):
    frame = pd.DataFrame(LONG[:200].astype(np.float32), columns=["a", "b", "c"])
    frame.to_csv(path := tmp_path / "t.csv", index=False)
    config = DataConfig(str(path))
    known = load_data(config).fingerprint
    assert set(known) == {"train", "validation"}
    name, split = load_part(config, fingerprint=known)
    assert (name, len(split)) == ("validation", 20)
    change(frame, what).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"t.csv has changed .* --data, or train again") as caught:
        load_part(config, fingerprint=known)
    assert "\n" not in str(caught.value)
    load_part(config, fingerprint=None)  # of a model that saved none


@pytest.mark.parametrize(
    "settings", [{"validation": 30}, {"seed": 1}, {"holdout": "last"}, {"test": 5}]
)
def test_another_split_is_another_fingerprint(tmp_path, settings):
    path = npz(tmp_path, x=TABLE, y=LABELS)
    known, other = load(path, validation=3).fingerprint, DataConfig(str(path), **settings)
    with pytest.raises(ValueError, match=r"has changed|leaves"):
        load_part(other, "validation", known)


def test_labels_count(tmp_path):
    known = load(npz(tmp_path, x=GREY, y=LABELS)).fingerprint
    with pytest.raises(ValueError, match="validation part"):
        load_part(DataConfig(str(npz(tmp_path, x=GREY, y=LABELS[::-1]))), fingerprint=known)


def test_toy_sets_are_drawn_not_read():
    assert load("moons", points=20).fingerprint == {}
    load_part(DataConfig("moons", points=20), fingerprint={"test": "of another machine"})


@pytest.mark.parametrize("known", [None, [], "text", {"validation": 3}, {"test": [1]}])
def test_fingerprints_may_be_anybodys(known):
    if isinstance(known, dict):
        part = next(iter(known))
        with pytest.raises(ValueError, match="changed"):
            check_fingerprint(known, {part: "ab"}, "t.csv")
    else:
        check_fingerprint(known, {"validation": "ab"}, "t.csv")


def test_parts_of_a_file_know_their_rows(tmp_path):
    path = npz(tmp_path, x=LONG)
    data = load(path)
    _, train = load_part(DataConfig(str(path)), "train")
    for split in (data.train, data.validation, data.test, train):
        assert split is not None
        assert np.array_equal(LONG[split.rows].astype(np.float32), split.x)
