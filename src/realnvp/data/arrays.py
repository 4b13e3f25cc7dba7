"""Array files: ``.npy``, ``.npz`` and IDX (the format of MNIST), of images or of vectors.

The type and shape of an array determine what it holds: uint8 with three or four axes are images,
two axes of floating-point numbers or integers are vectors. Files are never unpickled, because a
pickle can run arbitrary code.
"""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from realnvp.data.dataset import Split
from realnvp.data.images import image_tensor
from realnvp.data.labels import parse_labels
from realnvp.data.parts import Parts
from realnvp.data.tables import vector_tensor
from realnvp.utils.errors import some_of
from realnvp.utils.files import readable

# Names of data in .npz files, as used in practice and in the documentation of numpy, Keras and
# scikit-learn.
_DATA = ("images", "x", "X", "data", "x_train", "X_train", "train", "train_images", "arr_0")


_LABELS = ("labels", "label", "y", "targets", "target", "y_train", "train_labels")


_TEST = ("x_test", "X_test", "test", "test_images")


_TEST_LABELS = ("y_test", "test_labels", "labels_test", "targets_test")


# https://yann.lecun.com/exdb/mnist: the third byte of an IDX file is the type of its values.
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def array_split(
    array: np.ndarray,
    where: str,
    labels: torch.Tensor | None = None,
    reuse: bool = False,
    least: int = 2,
) -> Split:
    """Turn an array, with labels or without, into a split of images or of vectors.

    Args:
        array: images (see ``image_tensor``) or ``(N, D)`` vectors; its memory is shared if
            possible.
        where: name of the array, for messages.
        labels: int64 ``(N,)`` classes; see ``class_labels``.
        reuse: whether the array's memory may be rearranged, rather than copied.
        least: smallest number of columns of vectors.

    Raises:
        ValueError: for arrays that are neither, and for labels that do not match.

    >>> split = array_split(np.zeros((4, 8, 8), np.uint8), "a", torch.tensor([0, 1, 2, 2]))
    >>> split.x.shape, split.labels
    (torch.Size([4, 1, 8, 8]), tensor([0, 1, 2, 2]))
    """
    if array.ndim <= 1:
        raise ValueError(
            f"{where} has shape {array.shape}: give images (N, H, W), or vectors (N, D) with at "
            "least two columns, since a coupling transforms one part of them given the rest"
        )
    if labels is not None and len(labels) != len(array):
        raise ValueError(
            f"{where} has {len(array)} examples, but {len(labels)} labels: give one label per "
            "example"
        )
    if array.ndim == 2:
        return Split(vector_tensor(array, where, least=least), labels=labels)
    return Split(image_tensor(array, where, reuse), labels=labels)


def class_labels(
    labels: np.ndarray | None,
    where: str,
    condition: str | None = None,
    categories: Sequence[str] | None = None,
) -> tuple[torch.Tensor | None, tuple[str, ...] | None]:
    """Return the classes in the labels of an array, and their names where the labels are names.

    Args:
        labels: one label per example, or None. Numbers that are not classes (the targets of a
            regression) are ignored, unless the density is to be conditioned on them.
        where: name of the array, for messages.
        condition: "label" when the labels are to be conditioned on, else None.
        categories: names of the labels that are numbered already, in order.

    Raises:
        ValueError: for labels that are not classes, where classes are needed.
    """
    if labels is None:
        return None, None
    try:
        return parse_labels(labels, f"the labels of {where}", categories)
    except ValueError:
        if condition is not None:
            raise
        return None, None


def read_array_file(
    path: Path, condition: str | None = None, categories: Sequence[str] | None = None
) -> Parts:
    """Read a ``.npy`` file, or a ``.npz`` file with arrays of common names.

    The data are ``images``, ``x``, ``X``, ``data``, ``x_train``, ``train``, ... or the only array;
    labels are ``labels``, ``y``, ``targets``, ``y_train``, ...; a test part is ``x_test`` or
    ``test``, with ``y_test``.

    Args:
        path: the file.
        condition: "label" when the labels are to be conditioned on, else None.
        categories: names of the labels that are numbered already, in order.

    Raises:
        ValueError: if the file is damaged, or it is unclear which array is meant.
    """
    with path.open("rb") as file:
        zipped = file.read(4) in (b"PK\3\4", b"PK\5\6")
    if not zipped:
        return Parts(lambda: array_split(_load(path), f"{path}", reuse=True))
    with readable(path), zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
    alone = len(keys) == 1
    key = keys[0] if alone else _pick(keys, _DATA, path)
    test_key = None if alone else _pick(keys, _TEST, path)
    if key is None:
        raise ValueError(
            f"{path} has the arrays {some_of(sorted(keys)) or '(none)'}: name the data "
            "'images' or 'x', and labels 'labels'"
        )
    # Arrays are read only when they are needed: others may be large, or hold Python objects.
    member = partial(_load, path)

    def labels(names: Sequence[str], of: str, classes: Sequence[str] | None) -> tuple:
        label_key = None if alone else _pick(keys, names, path)
        values = None if label_key is None else member(label_key)
        return class_labels(values, f"{of!r} of {path}", condition, classes)

    classes, named = labels(_LABELS, key, categories)

    def train() -> Split:
        return array_split(member(key), f"{key!r} of {path}", classes, reuse=True)

    def test() -> Split:
        assert test_key is not None  # it is only called if there is one
        test_classes, _ = labels(_TEST_LABELS, test_key, categories or named)
        return array_split(member(test_key), f"{test_key!r} of {path}", test_classes, reuse=True)

    return Parts(train, test=test if test_key else None, categories=named)


def _pick(keys: Sequence[str], names: Sequence[str], path: Path) -> str | None:
    matches = [name for name in names if name in keys]
    if len(matches) > 1:
        raise ValueError(f"{path} has several arrays for one thing, {', '.join(matches)}: keep one")
    return matches[0] if matches else None


def _load(path: Path, name: str | None = None) -> np.ndarray:
    """Read a ``.npy`` file, or one array of a ``.npz`` file, without unpickling anything."""
    with readable(path if name is None else f"{name!r} of {path}"):
        loaded = np.load(path)
        if name is None:
            return loaded
        with loaded:
            array = loaded[name]
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name!r} is not an array file: save one array with np.save")
        return array


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file, compressed by gzip or not.

    Raises:
        ValueError: if the file is damaged or of another format.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with readable(path), gzip.open(path) if zipped else path.open("rb") as file:
        head = file.read(4)
        kind, ndim = head[2:4] if len(head) == 4 else (0, 0)
        sizes = file.read(4 * ndim)
        if head[:2] != b"\0\0" or kind not in _IDX_TYPES or not ndim or len(sizes) < 4 * ndim:
            raise ValueError(f"it is not an IDX file: its header is {head.hex(' ') or 'empty'}")
        shape, dtype = tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(_IDX_TYPES[kind])
        expected = math.prod(shape) * dtype.itemsize
        # No more is read than the header announces, or than a compressed file can hold: by the
        # format, one compressed byte becomes at most 1,032.
        most = (1_032 if zipped else 1) * path.stat().st_size
        content = file.read(expected + 1) if expected <= most else b""
        if len(content) != expected:
            raise ValueError(
                f"it is damaged or cut off: its header announces shape {shape}, {expected} bytes, "
                f"but there are {'more' if len(content) > expected else 'fewer'}"
            )
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the IDX file of that name in a folder, extracted or compressed; None if there is none.

    >>> find_idx(Path("no-such-folder"), "train-images-idx3-ubyte") is None
    True
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def read_idx_file(path: Path, condition: str | None = None) -> Parts:
    """Read one IDX file of images or vectors, and the file of labels next to it.

    The labels of ``train-images-idx3-ubyte`` are ``train-labels-idx1-ubyte``, compressed or not.
    """

    def train() -> Split:
        stem = path.name.removesuffix(".gz")
        name = stem.replace("images", "labels").replace("idx3", "idx1")
        labeled = find_idx(path.parent, name) if name != stem else None
        values = None if labeled is None else read_idx(labeled)
        labels, _ = class_labels(values, f"{path}", condition)
        return array_split(read_idx(path), f"{path}", labels, reuse=True)

    return Parts(train)


def idx_files(folder: Path) -> dict[str, Path]:
    """Return the IDX images of a folder in MNIST's naming, as "train" and "test".

    >>> idx_files(Path("no-such-folder"))
    {}
    """
    names = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
    paths = {part: find_idx(folder, name) for part, name in names.items()}
    return {part: path for part, path in paths.items() if path is not None}
