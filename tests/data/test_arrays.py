"""Array files: `.npy`, `.npz` and IDX, whole, strange, damaged, and larger than they look."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from helpers.data_files import (
    GREY,
    LABELS,
    RGB,
    TABLE,
    check_split,
    examples,
    idx_bytes,
    load,
    npy,
    npz,
    refused,
    write,
)
from realnvp.data.arrays import read_idx
from realnvp.data.images import image_tensor

BAD = {
    "one axis": (lambda p: npy(p, np.zeros(9)), "two columns"),
    "damaged npz": (lambda p: write(p / "a.npz", b"PK\3\4 and then nothing"), "cannot read"),
    "not an array": (lambda p: write(p / "a.npy", b"hello"), "no array file"),
    "keys": (lambda p: npz(p, foo=GREY, bar=GREY), "bar, foo"),
    "several keys": (lambda p: npz(p, x=GREY, data=GREY), "x, data: keep one"),
    "labels differ": (lambda p: npz(p, x=GREY, y=LABELS[1:]), "12 examples"),
    "idx cut off": (lambda p: write(p / "a.idx", idx_bytes(GREY)[:-1]), "announces"),
    "idx gz cut off": (
        lambda p: write(p / "a.gz", gzip.compress(idx_bytes(GREY))[:-9]),
        "cannot read.*ended",
    ),
    "not idx": (lambda p: write(p / "a-idx3-ubyte", b"hello"), "not an IDX"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    make, message = BAD[case]
    refused(make(tmp_path), message)


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}, 2], dtype=object), allow_pickle=True)
    refused(tmp_path / "a.npy", "Python objects")
    objects = np.array([{"a": 1}] * 12, dtype=object)
    refused(npz(tmp_path, x=GREY, y=objects), "'y' of .* holds Python objects")
    assert len(load(npz(tmp_path, x=GREY, extra=objects)).train) == 11  # what is not read is let be


@pytest.mark.parametrize(
    ("array", "shape"),
    [(GREY, (1, 8, 6)), (RGB, (3, 8, 6)), (RGB.transpose(0, 3, 1, 2), (3, 8, 6)),
     (GREY.astype(np.int64), (1, 8, 6)), (GREY[..., None], (1, 8, 6)), (RGB[:, :3], (3, 6, 3)),
     (np.asfortranarray(RGB), (3, 8, 6))],
)  # fmt: skip
@pytest.mark.parametrize("save", [npy, lambda path, array: npz(path, x=array)])
def test_arrays_of_images(tmp_path, array, shape, save):
    data = load(save(tmp_path, array))
    assert (data.shape, data.levels, data.test, data.kind) == (shape, 256, None, "image")
    check_split(data, image_tensor(array, "array"))


def test_npz_with_labels_and_test(tmp_path):
    path = npz(tmp_path, x_train=RGB, y_train=LABELS, x_test=RGB[:2], y_test=LABELS[:2])
    data = load(path, condition="label", validation=0.25)
    assert (len(data.train), len(data.validation), len(data.test)) == (9, 3, 2)
    assert data.train.condition.dtype == torch.int64
    assert (data.classes, data.condition_classes) == (3, 3)
    assert len(examples(path, shape=(3, 8, 6), levels=256)) == 2
    assert load(npz(tmp_path, only=GREY)).shape == (1, 8, 6)
    named = npz(
        tmp_path, x=GREY, y=np.array(["b", "a", "c"] * 4), x_test=GREY[:2], y_test=["c"] * 2
    )
    data = load(named, condition="label")
    assert data.categories == ("a", "b", "c")
    assert data.test.condition.tolist() == [2, 2]
    regression = npz(tmp_path, data=TABLE, targets=TABLE[:, 0])
    assert load(regression).classes is None  # a regression's targets are no classes


def test_compressed_npz(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=GREY)
    check_split(load(tmp_path / "a.npz"), image_tensor(GREY, "array"))


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


# --- files that are larger than they look ------------------------------------------------------


def zip_of(path, name: str, content: bytes, **options) -> str:
    with zipfile.ZipFile(path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content, **options)
    return str(path / "a.npz")


def header(shape: tuple, dtype: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def test_members_that_are_no_arrays(tmp_path):
    refused(zip_of(tmp_path, "x.npy", b"no array"), "'x' of .* is not an array file")
    refused(zip_of(tmp_path, "x", b"no array"), "'x' of .* is not an array file")


reads_what_there_is = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 1 takes -1 for what there is"
)


@pytest.mark.parametrize(
    "shape",
    [(2**40, 8, 8), pytest.param((-1, 8, 8), marks=reads_what_there_is), (2**70, 8, 8), (13, 8, 6)],
)
def test_headers_that_announce_more_than_there_is(tmp_path, shape):
    refused(write(tmp_path / "a.npy", header(shape) + GREY.tobytes()), "cannot read")
    refused(zip_of(tmp_path, "x.npy", header(shape) + GREY.tobytes()), "cannot read")


def test_sizes_that_the_archive_makes_up(tmp_path):
    path = zip_of(tmp_path, "x.npy", header((2**30, 2, 2)) + GREY.tobytes())
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("x.npy").file_size
    content = (tmp_path / "a.npz").read_bytes()
    forged = content.replace(size.to_bytes(4, "little"), (2**32 - 9).to_bytes(4, "little"))
    refused(write(tmp_path / "a.npz", forged), "cannot read")


def test_an_idx_file_is_inflated_as_far_as_its_header_goes(tmp_path):
    bomb = gzip.compress(idx_bytes(np.zeros((4, 8, 8), np.uint8)) + bytes(2**27), 9)
    path = write(tmp_path / "a.gz", bomb)
    tracemalloc.start()
    refused(path, "there are more")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**24
    refused(write(tmp_path / "b.gz", gzip.compress(b"\0\0\x08\x03" + b"\x7f" * 12)), "announces")


def test_idx_types(tmp_path):
    for dtype in ("u1", "i2", "i4", "f4", "f8"):
        array = (10 * TABLE).astype(dtype)
        found = read_idx(write(tmp_path / "a.idx", idx_bytes(array)))
        assert found.dtype == array.dtype
        assert (found == array).all()
