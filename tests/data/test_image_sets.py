"""The image sets that are known by name, and one that is added from outside."""

from __future__ import annotations

import pickle
from functools import partial
from urllib.error import URLError

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from helpers.data_files import (
    LABELS,
    RNG,
    celeba_folder,
    check_split,
    examples,
    idx_bytes,
    load,
    mnist_folder,
    refused,
    save,
    write,
)
from realnvp.config import DataConfig
from realnvp.data import Split, cache, images, load_part, source_names
from realnvp.data.image_sets import IMAGE_SETS, ImageSet, register_image_set
from realnvp.data.images import ImageFiles, image_tensor
from realnvp.data.stored_images import StoredImages
from realnvp.utils.image_files import read_image


def test_digits_have_fixed_parts():
    data = load("digits", condition="label")
    assert (data.shape, data.levels, data.classes, data.kind) == ((1, 8, 8), 17, 10, "image")
    assert (len(data.train), len(data.validation), len(data.test)) == (1283, 257, 257)
    assert data.train.x.dtype == torch.uint8
    assert data.train.x.max() == 16
    assert (data.condition_classes, data.condition_dim) == (10, 0)
    assert torch.equal(load("digits", seed=5).test.x, examples("digits").x)
    check_split(data, image_tensor(load_digits().images.astype(int), "digits"))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw"), ("mnist", "")],
)
def test_mnist_layouts(tmp_path, name, folder, compress):
    images = mnist_folder(tmp_path / folder, compress)
    data = load(name, root=str(tmp_path), validation=3, holdout="last")
    assert torch.equal(torch.cat([data.train.x, data.validation.x]), images)
    assert data.train.labels.tolist() == LABELS[:9].tolist()
    assert torch.equal(data.test.x, images.flip(0))
    assert torch.equal(examples(name, settings={"root": str(tmp_path)}).x, data.test.x)
    by_path = load(tmp_path / folder, validation=3, holdout="last", condition="label")
    assert torch.equal(by_path.test.x, data.test.x)
    assert by_path.validation.condition.tolist() == LABELS[9:].tolist()


def test_the_other_sets_files_are_refused(tmp_path):
    images = np.zeros((10, 28, 28), dtype=np.uint8)
    labels = np.array([int(digit) for digit in "9003027255"], dtype=np.uint8)
    for part in ("train", "t10k"):
        write(tmp_path / f"{part}-images-idx3-ubyte", idx_bytes(images))
        write(tmp_path / f"{part}-labels-idx1-ubyte", idx_bytes(labels))
    assert len(load("fashion-mnist", root=str(tmp_path), validation=2).train) == 8
    with pytest.raises(ValueError, match="of fashion-mnist, not of mnist"):
        load("mnist", root=str(tmp_path), validation=2)


def test_cifar10_by_torchvision(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import calculate_md5

    images = RNG.integers(0, 256, (4, 3072), dtype=np.uint8)
    folder = tmp_path / "cifar-10-batches-py"
    batch = write(folder / "batch", pickle.dumps({"data": images, "labels": [3, 1, 2, 0]}))
    meta = write(folder / "batches.meta", pickle.dumps({"label_names": list("abcd")}))
    monkeypatch.setattr(CIFAR10, "train_list", [["batch", calculate_md5(batch)]])
    monkeypatch.setattr(CIFAR10, "test_list", [["batch", calculate_md5(batch)]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": calculate_md5(meta)})
    data = load("cifar10", root=str(tmp_path), validation=1)
    assert torch.equal(data.test.x, torch.from_numpy(images.reshape(4, 3, 32, 32)))
    assert data.test.labels.tolist() == [3, 1, 2, 0]
    assert (data.shape, data.levels, len(data.train)) == ((3, 32, 32), 256, 3)


def test_celeba_keeps_its_official_parts(tmp_path):
    celeba_folder(tmp_path)
    data = load("celeba", root=str(tmp_path), flip=True)
    assert (data.shape, data.levels, data.flip, data.classes) == ((3, 64, 64), 256, True, None)
    levels = [s.x[:, 0, 32, 32].tolist() for s in (data.train, data.validation, data.test)]
    assert levels == [[0, 40, 160], [80], [120]]
    assert data.test.x[:, :, 2:-2, 2:-2].max() < 130
    assert load("celeba", root=str(tmp_path), size=32).shape == (3, 32, 32)
    assert examples("celeba", settings={"root": str(tmp_path)}).x.shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("name", "cls", "expected"),
    [
        ("mnist", "MNIST", "MNIST/raw/train-images-idx3-ubyte.gz"),
        ("fashion-mnist", "FashionMNIST", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
        ("cifar10", "CIFAR10", "cifar-10-python.tar.gz"),
        ("celeba", "CelebA", "celeba/img_align_celeba"),
    ],
)
def test_a_set_that_cannot_be_downloaded(tmp_path, monkeypatch, name, cls, expected):
    from torchvision import datasets

    def download(self) -> None:
        (tmp_path / "data" / cls).mkdir(parents=True)  # as torchvision leaves behind
        raise URLError("no network,\nnone at all")

    monkeypatch.setattr(getattr(datasets, cls), "download", download)
    with pytest.raises(FileNotFoundError) as caught:
        load(name, root=str(tmp_path / "data"))
    assert expected in str(caught.value)
    assert "no network" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_of_celeba_are_decoded_once(tmp_path, monkeypatch):
    celeba_folder(tmp_path)
    config = {"root": str(tmp_path), "cache": str(tmp_path / "cache"), "size": 16}
    known = load("celeba", **{**config, "cache": "none"})
    assert isinstance(known.train.x, torch.Tensor)
    monkeypatch.setattr(images, "_CACHE_FROM", 1)
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    first = load("celeba", **config)
    monkeypatch.setattr(cache, "write_stack", None)  # nothing is decoded again
    for found in (first, load("celeba", **config)):
        for part in ("train", "validation", "test"):
            assert isinstance(getattr(found, part).x, StoredImages)
            assert torch.equal(getattr(found, part).x[:], getattr(known, part).x)
        assert found.fingerprint == known.fingerprint
    assert len([*(tmp_path / "cache/images").iterdir()]) == 3
    held = load("celeba", **config, storage="memory")
    assert torch.equal(held.test.x, known.test.x)


def test_a_set_of_files_with_labels_of_their_own(tmp_path, monkeypatch):
    files = [tmp_path / f"files/{i}.png" for i in range(20)]
    for i, path in enumerate(files):
        save(np.full((4, 4), 12 * i, np.uint8), path)

    def read(root, part, size):
        reader = partial(read_image, size=size)
        return ImageFiles(root / "files", files, reader, torch.arange(20) % 2)

    monkeypatch.setattr(images, "_CACHE_FROM", 1)
    register_image_set(ImageSet("mine", 256, read, parts=("train",), resizable=True))
    try:
        config = {"root": str(tmp_path), "cache": str(tmp_path / "cache"), "condition": "label"}
        data = load("mine", **config, size=2)
        assert isinstance(data.train.x, StoredImages)
        assert (data.shape, data.classes) == ((1, 2, 2), 2)
        assert torch.equal(data.train.condition, data.train.x[:][:, 0, 0, 0] // 12 % 2)
    finally:
        del IMAGE_SETS["mine"]


def test_a_set_is_added_by_one_entry():
    asked = []

    def read(root, part, size):
        asked.append((str(root), part, size))
        x = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 1, 4, 4).clone()
        return Split(x, labels=torch.arange(20) % 2)

    register_image_set(ImageSet("mine", levels=32, read=read, resizable=True))
    try:
        assert "mine" in source_names()
        data = load("mine", root="here", size=4, condition="label")
        assert (data.levels, data.classes, len(data.train), len(data.test)) == (32, 2, 18, 20)
        assert asked == [("here", "train", 4), ("here", "test", 4)]
        with pytest.raises(ValueError, match="32 grey levels, but the model is of 256"):
            examples("mine", levels=256)
        asked.clear()
        load_part(DataConfig("mine", condition="label"), "test", data.fingerprint)
        assert asked == [("data", "test", None)]
        with pytest.raises(ValueError, match="already"):
            register_image_set(ImageSet("mine", levels=2, read=read))
    finally:
        del IMAGE_SETS["mine"]
    refused("mine", "neither a data set")


def test_levels_of_a_named_set_must_be_the_models():
    with pytest.raises(ValueError, match="not comparable"):
        examples("digits", levels=256)


def test_one_part_is_all_that_is_read(tmp_path):
    celeba_folder(tmp_path)
    for name in ("000000.jpg", "000001.jpg", "000004.jpg"):  # those of the training part
        write(tmp_path / "celeba/img_align_celeba" / name, b"damaged")
    config = DataConfig("celeba", root=str(tmp_path))
    assert load_part(config)[1].x.shape == (1, 3, 64, 64)
    assert load_part(config, "validation")[0] == "validation"
    refused("celeba", "3 of 3 images cannot be used", root=str(tmp_path))
