"""Array files: `.npy`, `.npz` and IDX (the format of MNIST), of images or of vectors.

An array says by its type and shape what it holds: uint8 with three or four axes are images, two
axes of floating-point or whole numbers are vectors. Files are never unpickled, because a pickle
can run anything.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from realnvp.data.dataset import Parts, Split, parse_labels
from realnvp.data.images import image_tensor
from realnvp.data.tables import vector_tensor
from realnvp.utils.errors import some_of

__all__ = ["array_split", "idx_files", "read_array_file", "read_idx", "read_idx_file"]

# Names under which data are found in .npz files, in the field and in the documentation of numpy,
# Keras and scikit-learn.
_DATA = ("images", "x", "X", "data", "x_train", "X_train", "train", "train_images", "arr_0")


_LABELS = ("labels", "label", "y", "targets", "target", "y_train", "train_labels")


_TEST = ("x_test", "X_test", "test", "test_images")


_TEST_LABELS = ("y_test", "test_labels", "labels_test", "targets_test")


# What numpy raises for damaged files.
_DAMAGED = (
    OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error,
    NotImplementedError,
)  # fmt: skip


# https://yann.lecun.com/exdb/mnist: the third byte of an IDX file is the type of its values.
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def array_split(
    array: np.ndarray,
    where: str,
    labels: np.ndarray | None = None,
    condition: str | None = None,
    categories: Sequence[str] | None = None,
) -> tuple[Split, tuple[str, ...] | None]:
    """Turn an array, with labels or without, into a split of images or of vectors.

    Args:
        array: images (see `image_tensor`) or `(N, D)` vectors.
        where: what the array is, for messages.
        labels: one label per example. Numbers that are no classes (a regression's targets) count
            as no labels, unless they are to be conditioned on.
        condition: "label" when the labels are to be conditioned on, else None.
        categories: names of the labels that are numbered already, in order.

    Returns:
        The split, and the names of the labels where they are names.

    Raises:
        ValueError: for arrays that are neither, and for labels that do not fit.

    >>> split, _ = array_split(np.zeros((4, 8, 8), np.uint8), "a", np.array([0, 1, 2, 2]))
    >>> split.x.shape, split.labels
    (torch.Size([4, 1, 8, 8]), tensor([0, 1, 2, 2]))
    """
    if array.ndim <= 1:
        raise ValueError(
            f"{where} has shape {array.shape}: give images (N, H, W), or vectors (N, D) with at "
            "least two columns, since a coupling transforms one part of them given the rest"
        )
    x = vector_tensor(array, where) if array.ndim == 2 else image_tensor(array, where)
    if labels is None:
        return Split(x), None
    if labels.shape[:1] != array.shape[:1]:
        raise ValueError(
            f"{where} has {len(array)} examples, but labels of shape {labels.shape}: give one "
            "label per example"
        )
    try:
        classes, names = parse_labels(labels, f"the labels of {where}", categories)
    except ValueError:
        if condition is not None:
            raise
        return Split(x), None
    return Split(x, labels=classes), names


def read_array_file(
    path: Path, condition: str | None = None, categories: Sequence[str] | None = None
) -> Parts:
    """Read a `.npy` file, or a `.npz` file with arrays of common names.

    The data are `images`, `x`, `X`, `data`, `x_train`, `train`, ... or the only array; labels
    are `labels`, `y`, `targets`, `y_train`, ...; a test part is `x_test` or `test`, with `y_test`.

    Args:
        path: the file.
        condition: "label" when the labels are to be conditioned on, else None.
        categories: names of the labels that are numbered already, in order.

    Raises:
        ValueError: when the file is damaged, or it is unclear which array is meant.
    """
    # Opened here, because numpy leaves the file open when it is no archive.
    with path.open("rb") as file:
        with _reading(path):
            loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            split, names = array_split(loaded, f"{path}", None, condition, categories)
            return Parts(split, levels=_levels(split))
        held = list(loaded.files)
        alone = len(held) == 1
        key = held[0] if alone else _pick(held, _DATA, path)
        test_key = None if alone else _pick(held, _TEST, path)
        if key is None:
            raise ValueError(
                f"{path} has the arrays {some_of(sorted(held)) or '(none)'}: name the data "
                "'images' or 'x', and labels 'labels'"
            )
        # Only what is needed is read: other arrays may be large, or Python objects.
        wanted = {
            "data": key,
            "labels": None if alone else _pick(held, _LABELS, path),
            "test": test_key,
            "test labels": _pick(held, _TEST_LABELS, path) if test_key else None,
        }
        with _reading(path):
            found = {what: loaded[name] for what, name in wanted.items() if name is not None}
    train, names = array_split(
        found["data"], f"{key!r} of {path}", found.get("labels"), condition, categories
    )
    test = None
    if test_key:
        where = f"{test_key!r} of {path}"
        labels = found.get("test labels")
        test, _ = array_split(found["test"], where, labels, condition, categories or names)
    return Parts(train, test=test, levels=_levels(train), categories=names)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        if "pickle" in str(error):
            raise ValueError(
                f"{path} holds Python objects, or is no array file: save one plain array of "
                "numbers with np.save or np.savez"
            ) from error
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def _pick(held: Sequence[str], names: Sequence[str], path: Path) -> str | None:
    found = [name for name in names if name in held]
    if len(found) > 1:
        raise ValueError(f"{path} has several arrays for one thing, {', '.join(found)}: keep one")
    return found[0] if found else None


def _levels(split: Split) -> int | None:
    return 256 if split.x.ndim == 4 else None


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file, compressed by gzip or not.

    Raises:
        ValueError: when the file is damaged or of another format.
    """
    try:
        raw = path.read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or cut off ({error}): fetch it again") from error
    kind, ndim = raw[2:4] if len(raw) >= 4 else (0, 0)
    start = 4 + 4 * ndim
    if raw[:2] != b"\0\0" or kind not in _IDX_TYPES or not ndim or len(raw) < start:
        raise ValueError(f"{path} is not an IDX file: its header is {raw[:4].hex(' ') or 'empty'}")
    shape = tuple(int(n) for n in np.frombuffer(raw[4:start], ">u4"))
    dtype = np.dtype(_IDX_TYPES[kind])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise ValueError(
            f"{path} is damaged or cut off: {len(raw)} bytes, but its header announces shape "
            f"{shape}, which makes {expected}"
        )
    array = np.frombuffer(raw, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def find_idx(folder: Path, name: str) -> Path | None:
    """The IDX file of that name in a folder, extracted or compressed.

    >>> find_idx(Path("no-such-folder"), "train-images-idx3-ubyte") is None
    True
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def read_idx_file(
    path: Path, condition: str | None = None, categories: Sequence[str] | None = None
) -> Parts:
    """Read one IDX file of images or vectors, and the file of labels beside it.

    The labels of `train-images-idx3-ubyte` are `train-labels-idx1-ubyte`, compressed or not.
    """
    stem = path.name.removesuffix(".gz")
    name = stem.replace("images", "labels").replace("idx3", "idx1")
    beside = find_idx(path.parent, name) if name != stem else None
    labels = None if beside is None else read_idx(beside)
    split, _ = array_split(read_idx(path), f"{path}", labels, condition, categories)
    return Parts(split, levels=_levels(split))


def idx_files(folder: Path) -> dict[str, Path]:
    """The IDX images of a folder in MNIST's naming: "train" and "test", where they are there.

    >>> idx_files(Path("no-such-folder"))
    {}
    """
    names = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
    found = {part: find_idx(folder, name) for part, name in names.items()}
    return {part: path for part, path in found.items() if path is not None}
