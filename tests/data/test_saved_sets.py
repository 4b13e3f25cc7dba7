"""Sets that Hugging Face's library saves: what it writes is read as the same files would be."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers.data_files import load, refused
from realnvp.data import cache, images
from realnvp.data.saved_sets import has_images, is_saved_set
from realnvp.data.sources import is_image_folder
from realnvp.data.stored_images import StoredImages
from realnvp.utils import image_files
from realnvp.utils.image_files import UnusableImage, read_saved_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 8, 6, 3), dtype=np.uint8)
LABELS = np.arange(30) % 3


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_folder_without_the_library(tmp_path, monkeypatch):
    folder = tmp_path / "set"
    folder.mkdir()
    assert not is_saved_set(folder)
    (folder / "state.json").write_text("{}")
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a"]}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    assert is_saved_set(folder)
    assert has_images(folder)
    assert is_image_folder(str(folder))
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(folder, r"data set of Hugging Face's library: pip install '\.\[datasets\]'")
    (folder / "dataset_info.json").write_text("{")
    refused(folder, "cannot read .*dataset_info.json")
    (folder / "dataset_dict.json").write_text('{"splits": ["en", "fr"]}')
    refused(folder, "no split called train: give one of its folders, en, fr")


@pytest.fixture
def datasets():
    library = pytest.importorskip("datasets")
    library.disable_progress_bars()
    return library


@pytest.fixture
def pictures(datasets, tmp_path):
    """Save 30 images in three shards, of which one part is to test; classes in no sorted order."""
    features = datasets.Features({
        "picture": datasets.Image(), "kind": datasets.ClassLabel(names=["ox", "ant", "cat"]),
    })  # fmt: skip
    rows = {"picture": [{"bytes": png(p), "path": None} for p in PIXELS], "kind": LABELS.tolist()}
    whole = datasets.Dataset.from_dict(rows, features)
    parts = {"train": whole.select(range(20)), "test": whole.select(range(20, 30))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set", num_shards={"train": 3, "test": 1})
    return tmp_path / "set"


def test_images_are_its_pixels(pictures, monkeypatch, tmp_path):
    data = load(pictures, validation=5, holdout="last", condition="label")
    expected = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy())
    assert torch.equal(torch.cat([data.train.x, data.validation.x]), expected[:20])
    assert torch.equal(data.test.x, expected[20:])
    assert data.categories == ("ant", "cat", "ox")
    names = [["ox", "ant", "cat"][i] for i in LABELS[20:]]
    assert [data.categories[i] for i in data.test.condition.tolist()] == names
    assert load(pictures, size=4, channels=1).shape == (1, 4, 4)
    assert load(pictures / "train", condition="kind").classes == 3
    refused(pictures, "no column 'colour'", condition="colour")
    # many are decoded once
    monkeypatch.setattr(images, "_CACHE_FROM", 1)
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    settings = {"validation": 5, "holdout": "last", "condition": "label"}
    for _ in range(2):
        found = load(pictures, cache=str(tmp_path / "cache"), **settings)
        assert isinstance(found.train.x, StoredImages)
        assert found.fingerprint == data.fingerprint
        monkeypatch.setattr(cache, "write_stack", None)


def test_a_strangers_path_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "private.png"
    path.write_bytes(png(PIXELS[0]))
    rows = [{"image": {"bytes": None, "path": str(path)}}]
    monkeypatch.setattr(image_files, "_undecoded", lambda folder, column: rows)
    with pytest.raises(UnusableImage, match="there is no image in this row"):
        read_saved_image(tmp_path / "set" / "0", "image")


@pytest.mark.parametrize("name", ["../private", "/private", ".."])
def test_splits_and_files_elsewhere_are_refused(tmp_path, monkeypatch, name):
    folder, opened = tmp_path / "set", []
    folder.mkdir()
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    refused(folder, "has no split called train: give one of its folders, none")
    library = SimpleNamespace(load_from_disk=opened.append)
    monkeypatch.setitem(sys.modules, "datasets", library)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": f"{name}/a"}]}))
    with pytest.raises(ValueError, match="is not a file in it"):
        image_files.open_saved_set(str(folder))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a"}]}))
    image_files.open_saved_set(str(folder))
    assert opened == [str(folder)]


def test_an_image_that_is_not_there_is_named(datasets, tmp_path):
    features = datasets.Features({"image": datasets.Image()})
    rows = [{"bytes": png(PIXELS[0]), "path": None}, None, {"bytes": b"none", "path": None}]
    datasets.Dataset.from_dict({"image": rows}, features).save_to_disk(tmp_path / "set")
    said = refused(tmp_path / "set", "2 of 3 images cannot be used")
    assert f"{tmp_path / 'set' / '1'}: there is no image in this row" in said
    assert f"{tmp_path / 'set' / '2'}: cannot identify image file" in said


def test_a_table_has_its_columns(datasets, tmp_path):
    frame = pd.DataFrame({
        "a": RNG.normal(size=60), "town": RNG.choice(["Rome", "Oslo"], 60),
        "b": RNG.integers(0, 900, 60),
    })  # fmt: skip
    frame.loc[59, "town"] = "Lima"  # in the validation part only
    parts = {"train": frame[:50], "validation": frame[50:]}
    datasets.DatasetDict({
        part: datasets.Dataset.from_pandas(rows, preserve_index=False)
        for part, rows in parts.items()
    }).save_to_disk(tmp_path / "set")  # fmt: skip
    data = load(tmp_path / "set", test=0)
    assert (len(data.train), len(data.validation), data.test) == (50, 10, None)
    assert data.columns == ("a", "town", "b")
    assert data.train.x[:, 0].tolist() == frame["a"][:50].tolist()
    assert data.validation.x[-1, 1] == data.schema.columns[1].categories.index("Lima")
    refused(tmp_path / "set", "data.size resizes the images of a folder", size=4)
