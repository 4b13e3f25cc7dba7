"""From the name of a set, or a path, to data: the one place that knows all the sources."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch

from realnvp.data import arrays, images, tables
from realnvp.data.dataset import Dataset, Parts, Split, assemble, conditioned, validation_count
from realnvp.data.image_sets import NAMED, Part, levels_of, read_named
from realnvp.utils.errors import some_of

if TYPE_CHECKING:
    from realnvp.config import DataConfig

__all__ = ["load_data", "load_examples", "resizes", "source_names"]

_FILES = "NPZ, NPY, CSV, TSV, Parquet and IDX files, and folders of images"


def source_names() -> list[str]:
    """The sets that are known by name, toy sets first.

    >>> source_names()[-2:]
    ['cifar10', 'celeba']
    """
    from realnvp.data.toy import TOY

    return [*TOY, *NAMED]


def load_data(config: DataConfig) -> Dataset:
    """Load a data set into memory and split it.

    A name of a known set goes before a file of the same name, which `./name` reaches. Sets with an
    official validation part (digits, celeba) keep it; of all others, `config.validation` of the
    training part is held out. The test part is the set's own: toy sets draw one, a `.npz` file has
    it as `x_test`, a folder of MNIST's IDX files as `t10k-*`, and other files have none.

    Args:
        config: source and settings.

    Returns:
        The data: uint8 `(N, C, H, W)` images or float32 `(N, D)` vectors.

    Raises:
        ValueError: when the source is unknown, damaged or not fit for a density model, or a
            setting does not fit it.
        FileNotFoundError: when there is no such file, or a named set cannot be downloaded.

    >>> from realnvp.config import DataConfig
    >>> data = load_data(DataConfig("digits"))
    >>> data.shape, data.levels, len(data.train), len(data.validation), len(data.test)
    ((1, 8, 8), 17, 1283, 257, 257)
    """
    if config.seed < 0:
        raise ValueError(f"data.seed must be 0 or more, got {config.seed}")
    name = config.source
    if name in NAMED:
        _only_label(name, config.condition)
        train = read_named(name, config.root, "train", config.size)
        assert train is not None  # every named set has a training part
        validation = read_named(name, config.root, "validation", config.size)
        test = read_named(name, config.root, "test", config.size)
        parts = Parts(train, validation, test, levels_of(name))
    elif name in source_names():
        _only_label(name, config.condition)
        _no_size(name, config.size)
        parts = _toy_parts(name, config)
    else:
        parts = _read_path(name, config.condition, config.size)
    return assemble(parts, config)


def load_examples(
    source: str,
    *,
    shape: Sequence[int] | None = None,
    levels: int | None = None,
    condition: str | None = None,
    classes: int | None = None,
    columns: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    root: str = "data",
    size: int | None = None,
    points: int = 10_000,
    seed: int = 0,
) -> Split:
    """Load examples to evaluate a model on, and check that they fit it.

    Of a named set, and of a file that brings a test part, that is the test part; of a toy set a
    fresh sample, which shares nothing with the ones that `load_data` draws; of any other file or
    folder everything in it.

    Args:
        source: a named set or a path, as in `DataConfig.source`.
        shape: shape of the model's data, `(C, H, W)` or `(D,)`; None takes any.
        levels: number of grey levels of the model; None takes any.
        condition: what the model is conditioned on: None, "label" or a table's column.
        classes: number of classes of a model that is conditioned on classes.
        columns: names of the table's columns that the model knows, in its order; others are
            ignored.
        categories: names of the classes in the model's order (`Dataset.categories`).
        root: folder of the named sets.
        size: resize the images of a folder to this many pixels.
        points: how many points to draw of a toy set.
        seed: seed of the model's data; a toy set draws other points than its training data.

    Raises:
        ValueError: when the data do not fit the model, and as `load_data` does.
        FileNotFoundError: as `load_data` does.

    >>> load_examples("digits", shape=(1, 8, 8), levels=17).x.shape
    torch.Size([257, 1, 8, 8])
    >>> load_examples("moons", shape=(1, 8, 8))
    Traceback (most recent call last):
    ValueError: moons holds vectors of 2 columns, but the model is of 1x8x8 images
    """
    if source in NAMED:
        _only_label(source, condition)
        part = read_named(source, root, "test", size)
        assert part is not None  # every named set has a test part
        found: int | None = levels_of(source)
        if levels is not None and found != levels:
            raise ValueError(
                f"{source} has {found} grey levels, but the model is of {levels}: bits/dim of "
                "different levels are not comparable"
            )
    elif source in source_names():
        _only_label(source, condition)
        _no_size(source, size)
        part = Split(_sample(source, points, seed, "examples"))
    else:
        parts = _read_path(source, condition, size, columns, categories)
        part = parts.test or parts.train
    split = conditioned(part, condition, source)
    _check_fit(source, split, shape, levels)
    if classes is not None and split.condition is not None:
        _check_classes(source, split.condition, classes)
    return split


def _check_fit(source: str, split: Split, shape: Sequence[int] | None, levels: int | None) -> None:
    """Raise ValueError unless a model of that shape and number of levels can take the split."""
    got = tuple(split.x.shape[1:])
    if shape is not None and got != tuple(shape):
        hint = ""
        if resizes(source) and len(shape) == 3 and shape[1] == shape[2]:
            hint = f"; --data-size {shape[1]} resizes the images"
        raise ValueError(
            f"{source} holds {_describe(got)}, but the model is of {_describe(tuple(shape))}{hint}"
        )
    if levels is not None and len(got) == 3 and int(split.x.max()) >= levels:
        raise ValueError(
            f"{source} has grey levels up to {int(split.x.max())}, but the model is of {levels} "
            f"levels, 0 to {levels - 1}"
        )


def _check_classes(source: str, condition: torch.Tensor, classes: int) -> None:
    known = f"the model knows {classes} classes, 0 to {classes - 1}"
    if condition.is_floating_point():
        raise ValueError(f"the condition in {source} is a column of numbers, but {known}")
    if int(condition.max()) >= classes:
        raise ValueError(f"{source} has labels up to {int(condition.max())}, but {known}")


def _describe(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"vectors of {shape[0]} columns"
    return f"{'x'.join(str(n) for n in shape)} images"


def _only_label(source: str, condition: str | None) -> None:
    if condition not in (None, "label"):
        raise ValueError(
            f"{source} has no columns, so it cannot be conditioned on {condition!r}: "
            "data.condition can be 'label' where there are labels"
        )


def resizes(source: str) -> bool:
    """Whether `size` is for a source: for folders of images, and of the named sets for CelebA.

    >>> resizes("celeba"), resizes("mnist"), resizes("no-such-folder")
    (True, False, False)
    """
    if source in source_names():
        return source == "celeba"
    path = Path(source).expanduser()
    return path.is_dir() and not arrays.idx_files(path)


def _no_size(source: str, size: int | None) -> None:
    if size is not None:
        raise ValueError(f"data.size resizes the images of a folder, which {source} is not")


_Draw = Literal["train", "validation", "test", "examples"]


def _sample(name: str, n: int, seed: int, part: _Draw) -> torch.Tensor:
    from realnvp.data.toy import TOY

    # Each part of each seed has a seed of its own, so no two parts are ever the same points.
    draws = get_args(_Draw)
    return torch.from_numpy(TOY[name].sample(n, seed * len(draws) + draws.index(part)))


def _toy_parts(name: str, config: DataConfig) -> Parts:
    from realnvp.data.toy import TOY

    counts: dict[Part, int] = {
        "train": config.points,
        "validation": validation_count(config.points, config.validation),
        "test": config.points,
    }
    train, validation, test = (
        Split(_sample(name, n, config.seed, part)) for part, n in counts.items()
    )
    return Parts(train, validation, test, toy=TOY[name])


def _read_path(
    source: str,
    condition: str | None,
    size: int | None = None,
    columns: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
) -> Parts:
    """Read a file or a folder, whichever kind it is."""
    path = Path(source).expanduser()
    if not path.exists():
        raise _not_found(source, path)
    if not (path.is_file() or path.is_dir()):  # a pipe or a device may never end
        raise ValueError(f"{source} is neither a file nor a folder: save the data to a file")
    name = path.name.lower().removesuffix(".gz")
    if not path.is_dir() and name.endswith((".csv", ".tsv", ".parquet")):
        _no_size(source, size)
        return tables.read_table(path, condition, columns, categories)
    _only_label(source, condition)
    named = categories if condition is not None else None  # only then must names be known ones
    if resizes(source):
        return images.read_folder(path, size, named)
    _no_size(source, size)
    if path.is_dir():
        files = arrays.idx_files(path)
        read = {part: arrays.read_idx_file(file, condition) for part, file in files.items()}
        parts = read.get("train") or read["test"]
        test = read["test"].train if len(read) == 2 else None
        return Parts(parts.train, test=test, levels=parts.levels)
    if name.endswith((".npz", ".npy")):
        return arrays.read_array_file(path, condition, named)
    if name.endswith(images.SUFFIXES):
        raise ValueError(f"{source} is a single image: give the folder that holds the images")
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith((b"\x1f\x8b", b"\0\0")) or "-ubyte" in name or ".idx" in name:
        return arrays.read_idx_file(path, condition)
    raise ValueError(f"cannot tell what {source} is: data are {_FILES}")


def _not_found(source: str, path: Path) -> Exception:
    names = source_names()
    close = difflib.get_close_matches(source.lower(), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if os.sep in source or "/" in source or path.suffix:
        return FileNotFoundError(f"there is no file or folder {path.absolute()}")
    return ValueError(
        f"{source!r} is no data set and no file or folder: {hint}The sets are "
        f"{some_of(names)}; paths may be {_FILES}"
    )
