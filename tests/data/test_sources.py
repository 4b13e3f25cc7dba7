"""From a name or a path to data, and what of it fits a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.data_files import (
    GREY,
    LABELS,
    RGB,
    TABLE,
    csv_file,
    examples,
    load,
    mnist_folder,
    npy,
    npz,
    refused,
    rows,
    save,
    write,
)
from realnvp.config import DataConfig
from realnvp.data import Split, as_dataset, load_part, source_names
from realnvp.data.sources import config_for_source

BAD = {
    "unknown name": (lambda p: "mnst", "did you mean 'mnist'"),
    "missing file": (lambda p: p / "no.csv", "no file or folder"),
    "unknown kind": (lambda p: write(p / "a.bin", b"abcdefgh"), "cannot tell"),
    "archive": (lambda p: write(p / "a.zip", b"PK"), "extract it"),
    "pickle": (lambda p: write(p / "a.pt", b"PK"), "can run code"),
    "single image": (lambda p: save(GREY[0], p / "a.png"), "folder that holds"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    make, message = BAD[case]
    refused(make(tmp_path), message)


@pytest.mark.parametrize("name", source_names()[:8])
def test_toy_sets(name):
    data = load(name, points=200, validation=0.25)
    assert (data.kind, data.shape, data.levels, data.classes) == ("vector", (2,), None, None)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [200, 50, 200]
    assert np.isfinite(data.toy.log_density(data.test.x)).all()
    assert torch.equal(data.train.x, load(name, points=200).train.x)
    fresh = examples(name, settings={"points": 300}).x
    every = torch.cat([data.train.x, data.validation.x, data.test.x, fresh])
    assert len(rows(every)) == 750


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "digits", "condition": "age"}, "'age'"),
        ({"source": "moons", "size": 8}, "size"),
        ({"source": "digits", "keep_range": True}, "keep_range is for the columns of a table"),
        ({"source": "digits", "size": 8}, "size"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    refused(**settings, message=message)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"shape": (3, 8, 6)}, "1x8x6 images .grey., but the model is of 3x8x6"),
        ({"shape": (2,)}, "vectors of 2 columns"),
        ({"levels": 17}, "17 levels"),
        ({"settings": {"condition": "label"}}, "no labels"),
    ],
)
def test_examples_must_fit_the_model(tmp_path, model, message):
    with pytest.raises(ValueError, match=message):
        examples(npy(tmp_path, GREY), **model)


def test_only_one_file_of_a_folder_is_read_for_one_part(tmp_path):
    images = mnist_folder(tmp_path, compress=True)
    write(tmp_path / "train-images-idx3-ubyte.gz", b"damaged")
    name, split = load_part(DataConfig(str(tmp_path)))
    assert name == "test"
    assert torch.equal(split.x, images.flip(0))


def test_only_one_array_is_read_for_one_part(tmp_path):
    objects = np.array([{}] * 3, dtype=object)
    path = npz(tmp_path, x=objects, x_test=GREY)
    assert len(load_part(DataConfig(str(path)))[1]) == 12
    refused(path, "objects")


def test_settings_for_another_source(tmp_path):
    save(GREY[0], tmp_path / "f/a.png")
    config = DataConfig("x", size=8, channels=1, background="white", skip_unreadable=True, test=3)
    folder = config_for_source(config, str(tmp_path / "f"))
    assert (folder.size, folder.channels, folder.background) == (8, 1, "white")
    table = config_for_source(config, str(csv_file(tmp_path, "a,b\n1,2\n")))
    assert (table.size, table.channels, table.background) == (None, None, None)
    assert not table.skip_unreadable
    assert config_for_source(config, "celeba").size == 8
    assert config_for_source(config, "moons").test is None
    with pytest.raises(ValueError, match="empty"):
        config_for_source(config, "")


def test_a_reported_part_has_the_shape_of_the_others(tmp_path):
    refused(npz(tmp_path, x=TABLE, x_test=TABLE[:, :2]), "differ")


def test_data_in_memory_are_left_as_they_are():
    for array in (GREY, RGB, TABLE.astype(np.float32)):
        before = array.copy()
        data = as_dataset(array, DataConfig("rows", validation=4, test=3))
        assert (array == before).all()
        assert [len(s) for s in (data.train, data.validation, data.test)] == [5, 4, 3]
        split = Split(torch.from_numpy(array))
        as_dataset(split, DataConfig("rows", validation=4))
        assert (array == before).all()
        assert as_dataset(data, DataConfig("rows")) is data
    classes = as_dataset(TABLE, DataConfig("rows", validation=4), condition=LABELS)
    assert (classes.condition_classes, classes.condition_dim) == (3, 0)
    numbers = as_dataset(TABLE, DataConfig("rows", validation=4), condition=TABLE[:, :2])
    assert (numbers.condition_classes, numbers.condition_dim) == (0, 2)
    with pytest.raises(ValueError, match="12 examples, but 3 conditions"):
        as_dataset(TABLE, DataConfig("rows"), condition=LABELS[:3])


def test_a_condition_that_float32_cannot_tell_apart_is_refused():
    x = np.random.default_rng(0).normal(size=(50, 2))
    fine = np.arange(100.0).reshape(50, 2)
    assert as_dataset(x, DataConfig("rows"), condition=fine).condition_dim == 2
    with pytest.raises(ValueError, match=r"of the condition varies by .* subtract its mean first"):
        as_dataset(x, DataConfig("rows"), condition=1.7e9 + np.arange(50.0)[:, None])
