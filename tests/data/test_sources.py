"""Every source of data: what is read, how it is split, and what is refused with which sentence."""

from __future__ import annotations

import gzip
import pickle
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from helpers.data_files import (
    GREY,
    LABELS,
    RGB,
    RNG,
    TABLE,
    celeba_folder,
    check_split,
    csv_file,
    idx_bytes,
    load,
    mnist_folder,
    npy,
    npz,
    rows,
    save,
    write,
)
from realnvp.data import load_examples, source_names
from realnvp.data.dataset import hold_out
from realnvp.data.images import image_tensor

# --- splitting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("holdout", ["last", "random"])
@pytest.mark.parametrize(("validation", "count"), [(0.1, 10), (7, 7), (0.001, 1), (98, 98)])
def test_hold_out_is_a_partition(holdout, validation, count):
    train, check = hold_out(100, validation, holdout, seed=3)
    assert len(check) == count
    assert torch.equal(torch.cat([train, check]).sort().values, torch.arange(100))
    assert torch.equal(check, hold_out(100, validation, holdout, seed=3)[1])
    if holdout == "last":
        assert int(train.max()) < int(check.min())
    elif count == 10:
        assert not torch.equal(check, hold_out(100, validation, holdout, seed=4)[1])


@pytest.mark.parametrize("validation", [99, 100, 5000, 0.99])
def test_hold_out_leaves_two_to_train_on(validation):
    with pytest.raises(ValueError, match="at least 2"):
        hold_out(100, validation)


# --- named sets --------------------------------------------------------------------------------


def test_digits_have_fixed_parts():
    data = load("digits", condition="label")
    assert (data.shape, data.levels, data.classes, data.kind) == ((1, 8, 8), 17, 10, "image")
    assert (len(data.train), len(data.validation), len(data.test)) == (1283, 257, 257)
    assert data.train.x.dtype == torch.uint8
    assert data.train.x.max() == 16
    assert (data.condition_classes, data.condition_dim) == (10, 0)
    assert torch.equal(load("digits", seed=5).test.x, load_examples("digits").x)
    check_split(data, image_tensor(load_digits().images.astype(int), "digits"))


@pytest.mark.parametrize("name", source_names()[:8])
def test_toy_sets(name):
    data = load(name, points=200, validation=0.25)
    assert (data.kind, data.shape, data.levels, data.classes) == ("vector", (2,), None, None)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [200, 50, 200]
    assert np.isfinite(data.toy.log_density(data.test.x)).all()
    assert torch.equal(data.train.x, load(name, points=200).train.x)
    fresh = load_examples(name, points=300).x
    every = torch.cat([data.train.x, data.validation.x, data.test.x, fresh])
    assert len(rows(every)) == 750


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
    assert torch.equal(load_examples(name, root=str(tmp_path)).x, data.test.x)
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
    assert load_examples("celeba", root=str(tmp_path)).x.shape == (1, 3, 64, 64)


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


# --- arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "shape"),
    [(GREY, (1, 8, 6)), (RGB, (3, 8, 6)), (RGB.transpose(0, 3, 1, 2), (3, 8, 6)),
     (GREY.astype(np.int64), (1, 8, 6)), (GREY[..., None], (1, 8, 6)), (RGB[:, :3], (3, 6, 3))],
)  # fmt: skip
def test_arrays_of_images(tmp_path, array, shape):
    data = load(npy(tmp_path, array))
    assert (data.shape, data.levels, data.test, data.kind) == (shape, 256, None, "image")
    check_split(data, image_tensor(array, "array"))


def test_npz_with_labels_and_test(tmp_path):
    path = npz(tmp_path, x_train=RGB, y_train=LABELS, x_test=RGB[:2], y_test=LABELS[:2])
    data = load(path, condition="label", validation=0.25)
    assert (len(data.train), len(data.validation), len(data.test)) == (9, 3, 2)
    assert data.train.condition.dtype == torch.int64
    assert (data.classes, data.condition_classes) == (3, 3)
    assert len(load_examples(str(path), shape=(3, 8, 6), levels=256)) == 2
    assert load(npz(tmp_path, only=GREY)).shape == (1, 8, 6)
    named = load(npz(tmp_path, x=GREY, y=np.array(["b", "a", "c"] * 4)), condition="label")
    assert named.categories == ("a", "b", "c")
    regression = npz(tmp_path, data=TABLE, targets=TABLE[:, 0])
    assert load(regression).classes is None  # a regression's targets are no classes


def test_vectors_of_an_array(tmp_path):
    data = load(npy(tmp_path, TABLE.astype(">f8")))
    assert (data.kind, data.shape, data.train.x.dtype) == ("vector", (3,), torch.float32)
    check_split(data, torch.from_numpy(TABLE.astype(np.float32)))


@pytest.mark.parametrize("dtype", ["u1", "i4"])
def test_single_idx_file_finds_its_labels(tmp_path, dtype):
    write(tmp_path / "t10k-images-idx3-ubyte", idx_bytes(GREY.astype(dtype)))
    write(tmp_path / "t10k-labels-idx1-ubyte.gz", gzip.compress(idx_bytes(LABELS.astype("u1"))))
    data = load(tmp_path / "t10k-images-idx3-ubyte", condition="label", holdout="last")
    assert data.train.condition.tolist() == LABELS[:11].tolist()
    vectors = write(tmp_path / "vectors.idx", idx_bytes(TABLE))
    check_split(load(vectors), torch.from_numpy(TABLE.astype(np.float32)))


# --- image folders -----------------------------------------------------------------------------


def test_folder_of_grey_and_of_colour(tmp_path):
    for i in range(4):
        save(GREY[i], tmp_path / f"{i}.png")
    write(tmp_path / "notes.txt", "ignored")
    write(tmp_path / ".hidden.png", "ignored")
    assert torch.equal(load_examples(str(tmp_path)).x, torch.from_numpy(GREY[:4, None].copy()))
    save(RGB[0], tmp_path / "2a.png")  # one colour image makes all of them three channels
    x = load_examples(str(tmp_path)).x
    assert torch.equal(x[3], torch.from_numpy(RGB[0].transpose(2, 0, 1).copy()))
    assert torch.equal(x[4], torch.from_numpy(np.stack([GREY[3]] * 3)))


def test_subfolders_are_labels(tmp_path):
    for i in range(6):
        save(GREY[i], tmp_path / ("dog" if i % 2 else "cat") / f"{i}.png")
    data = load(tmp_path, condition="label", validation=2, holdout="last")
    assert (data.categories, data.classes) == (("cat", "dog"), 2)
    assert data.train.labels.tolist() == [0, 0, 0, 1]
    other = load_examples(str(tmp_path), condition="label", categories=("dog", "cow", "cat"))
    assert other.condition.tolist() == [2, 2, 2, 0, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_image_files(tmp_path, mode):
    tone = Image.fromarray(np.where(GREY[0] > 127, 255, 0).astype(np.uint8)).convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    tone.save(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.png")  # Pillow goes by content
    x = load_examples(str(tmp_path)).x
    assert x.shape[1] == (1 if mode in ("1", "L", "LA") else 3)
    assert ((x[0, 0] > 127).numpy() == (GREY[0] > 127)).all()


def test_resized_and_rotated(tmp_path):
    save(np.full((20, 10, 3), 9, np.uint8), tmp_path / "a.png")
    save(np.full((12, 30, 3), 9, np.uint8), tmp_path / "b.jpg")
    assert load_examples(str(tmp_path), size=8).x.unique().tolist() == [9]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    image = Image.fromarray(np.zeros((10, 20), np.uint8))
    image.save(tmp_path / "b.jpg", exif=exif)
    assert load_examples(str(tmp_path)).x.shape == (2, 3, 20, 10)


# --- tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolon", "gz", "parquet", "bare"])
def test_kinds_of_tables(tmp_path, kind):
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c d"])
    suffix = {"semicolon": "csv", "gz": "csv.gz", "bare": "csv"}.get(kind, kind)
    path = tmp_path / f"t.{suffix}"
    separator = {"tsv": "\t", "semicolon": ";"}.get(kind, ",")
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep=separator, index=False, header=kind != "bare")
    data = load(path)
    assert data.columns == (("x0", "x1", "x2") if kind == "bare" else ("a", "b", "c d"))
    check_split(data, torch.from_numpy(TABLE.astype(np.float32)))


def test_conditioning_on_a_column(tmp_path):
    frame = pd.DataFrame({"a": TABLE[:, 0], "age": range(12), "b": TABLE[:, 1], "label": LABELS})
    frame["town"] = ["Rome", "Oslo"] * 6
    frame.to_csv(path := tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="town"):
        load(path, condition="age")
    data = load(path, condition="town", validation=2, holdout="last")
    assert data.columns == ("a", "age", "b", "label")
    assert (data.categories, data.condition_classes) == (("Oslo", "Rome"), 2)
    assert data.train.condition.tolist() == [1, 0] * 5
    frame.drop(columns="town").to_csv(path, index=False)
    data = load(path, condition="age", validation=2, holdout="last")
    assert (data.condition_dim, data.condition_classes, data.shape) == (1, 0, (3,))
    assert torch.equal(data.train.condition, torch.arange(10.0)[:, None])
    data = load(path, condition="label")
    assert (data.condition_dim, data.condition_classes, data.shape) == (0, 3, (3,))
    other = load_examples(str(path), shape=(2,), columns=("b", "a"), condition="age")
    assert torch.equal(other.x, torch.from_numpy(TABLE[:, [1, 0]].astype(np.float32)))


def test_header_of_counted_columns(tmp_path):
    header = load_examples(str(csv_file(tmp_path, "0,1\n0.5,2\n1.5,3\n")))
    assert len(header) == 2
    assert len(load_examples(str(csv_file(tmp_path, "0,1\n5,2\n1,3\n")))) == 3
