"""Loading of data by the name of a set, or a path: the one place that knows all sources."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike

from realnvp.columns.impossible import Impossible
from realnvp.data import arrays, images, tables
from realnvp.data.dataset import Dataset, Part, Split, check_fingerprint
from realnvp.data.image_sets import IMAGE_SETS
from realnvp.data.parquet import ParquetRows, parquet_files
from realnvp.data.parts import Parts, assemble, condition_on_labels, held_out_count, read_part
from realnvp.data.tables import NEW_DATA, UNREAD, KnownColumns
from realnvp.data.toy import TOY
from realnvp.utils.distributed import rank
from realnvp.utils.errors import did_you_mean, some_of
from realnvp.utils.image_files import SUFFIXES
from realnvp.utils.progress import warn

if TYPE_CHECKING:
    from realnvp.config import DataConfig

_FILES = (
    "CSV, TSV, Parquet, Feather, JSON, .xlsx, NPZ, NPY and IDX files, and folders of images or of "
    "Parquet files"
)


_NO_SOURCES = {
    **{suffix[1:]: "a single image: give the folder that holds the images" for suffix in SUFFIXES},
    **dict.fromkeys(
        ("zip", "tar", "tgz", "7z", "rar"), "an archive: extract it, and give the folder"
    ),
    **{ending: f"{what}: save it as CSV, TSV, Parquet or .npy" for ending, what in UNREAD.items()},
}
"""What is wrong with files that are no source, by their endings."""


_LARGE = 1 << 30
"""Bytes of the numbers of a Parquet table of which training reads a random sample, not all."""

_OF_FOLDERS = {
    "size": "resizes",
    "crop": "cuts",
    "channels": "converts",
    "background": "is behind",
    "skip_unreadable": "is about",
}


def source_names() -> list[str]:
    """Return the sets that are known by name, toy sets first.

    >>> source_names()[-2:]
    ['cifar10', 'celeba']
    """
    return [*TOY, *IMAGE_SETS]


def check_source(source: str) -> None:
    """Raise unless a source is the name of a set, or a file or folder that exists.

    Raises:
        ValueError: if it is neither a name nor a path.
        FileNotFoundError: if there is no such file or folder.
    """
    path = Path(source).expanduser()
    if source not in source_names() and not path.exists():
        if os.sep in source or "/" in source or path.suffix:
            raise FileNotFoundError(f"there is no file or folder {path.absolute()}")
        names = source_names()
        raise ValueError(
            f"{source!r} is neither a data set nor a file or folder: "
            f"{did_you_mean(source.lower(), names)}The sets are {some_of(names)}; paths may be "
            f"{_FILES}"
        )


def load_data(config: DataConfig, known: KnownColumns = NEW_DATA) -> Dataset:
    """Load a data set into memory and split it.

    The name of a known set takes precedence over a file of the same name, which can be given as
    ``./name``. Sets with an official validation part (digits, celeba) keep it; of all others,
    ``config.validation`` of the training part is held out. The test part is the set's own: toy sets
    draw one, a ``.npz`` file has it as ``x_test``, a folder of MNIST's IDX files as ``t10k-*``. Of
    other files, ``config.test`` is held out.

    Args:
        config: source and settings.
        known: the columns and classes that a model knows, if training continues from one.

    Returns:
        The data: uint8 ``(N, C, H, W)`` images or float32 ``(N, D)`` vectors.

    Raises:
        ValueError: if the source is unknown, damaged or not suited to a density model, or a
            setting does not apply to it.
        FileNotFoundError: if there is no such file, or a named set cannot be downloaded.

    >>> from realnvp.config import DataConfig
    >>> data = load_data(DataConfig("digits"))
    >>> data.shape, data.levels, len(data.train), len(data.validation), len(data.test)
    ((1, 8, 8), 17, 1283, 257, 257)
    """
    return assemble(_read_for_training(config, known), config)


def load_part(
    config: DataConfig,
    part: Part | None = None,
    fingerprint: Mapping[str, str] | None = None,
    known: KnownColumns = NEW_DATA,
) -> tuple[Part, Split]:
    """Load one part of what ``load_data`` loads, and only what is needed for it.

    Args:
        config: source and settings.
        part: name of the part; None for the one that is reported, which is the test part where
            there is one, and else the validation part.
        fingerprint: fingerprint of the data that a model was trained with
            (``Dataset.fingerprint``).
        known: the columns that a model knows.

    Returns:
        The name of the part, and its examples.

    Raises:
        ValueError: if there is no such part, or it is not the one of the fingerprint, since a
            file or a setting has changed; and as ``load_data`` does.
        FileNotFoundError: as ``load_data`` does.

    >>> from realnvp.config import DataConfig
    >>> name, split = load_part(DataConfig("digits"))
    >>> name, len(split)
    ('test', 257)
    """
    parts = _read_for_training(config, known)
    name, split = read_part(parts, config, part)
    if fingerprint is not None and config.source not in TOY:
        check_fingerprint(fingerprint, {name: split.fingerprint}, config.source)
    return name, split


def as_dataset(
    data: Dataset | Split | ArrayLike | torch.Tensor,
    config: DataConfig,
    condition: ArrayLike | torch.Tensor | None = None,
    levels: int | None = None,
    least: int = 2,
) -> Dataset:
    """Return examples in memory as a data set, some of them held out.

    Args:
        data: a data set, which is returned as it is; a split; or an array of images (see
            ``image_tensor``) or vectors, which is left as it is.
        config: settings of the split; the source names the data in messages.
        condition: labels ``(N,)``, or vectors ``(N, K)``, that the density is conditioned on.
        levels: number of grey levels of images; 256 if left out.
        least: smallest number of columns of vectors.

    Raises:
        ValueError: if they are not examples, or too few.

    >>> import numpy as np
    >>> from realnvp.config import DataConfig
    >>> rows = np.random.default_rng(0).normal(size=(50, 2))
    >>> data = as_dataset(rows, DataConfig("rows", validation=5))
    >>> len(data.train), len(data.validation)
    (45, 5)
    """
    if isinstance(data, Dataset):
        return data
    split = as_split(data, condition, least)
    return assemble(Parts(lambda: split, levels=levels, owned=False), config)


def as_split(
    data: Split | ArrayLike | torch.Tensor,
    condition: ArrayLike | torch.Tensor | None = None,
    least: int = 2,
) -> Split:
    """Return examples in memory, with their condition, as a split.

    Args:
        data: a split, or an array of images (see ``image_tensor``) or vectors, which is left as it
            is.
        condition: labels ``(N,)``, or vectors ``(N, K)``, that the density is conditioned on.
        least: smallest number of columns of vectors.

    Raises:
        ValueError: if they are not examples, or there is not one condition for each.

    >>> as_split(np.zeros((5, 8, 8), np.uint8), [0, 1, 1, 0, 1]).labels
    tensor([0, 1, 1, 0, 1])
    """
    if not isinstance(data, Split):
        values = data.detach().cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
        data = arrays.array_split(values, "the array", least=least)
    if condition is None:
        return data
    try:
        numbers = torch.as_tensor(condition)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"conditions are numbers, or classes 0, 1, 2, ...: {error}; of names, give "
            "np.unique(names, return_inverse=True)[1]"
        ) from error
    count = len(numbers) if numbers.ndim else 1
    if numbers.ndim == 0 or count != len(data):
        raise ValueError(f"there are {len(data)} examples, but {count} conditions")
    if numbers.is_floating_point():
        if numbers.ndim == 2:
            array = numbers.detach().cpu().numpy()
            numbers = tables.vector_tensor(array, "the condition", least=1)
        return replace(data, condition=numbers.float())
    labels = numbers.long()
    return replace(data, condition=labels, labels=labels)


def load_examples(
    config: DataConfig,
    known: KnownColumns = NEW_DATA,
    *,
    shape: Sequence[int] | None = None,
    levels: int | None = None,
    classes: int | None = None,
) -> Split:
    """Load examples to evaluate a model on, and check that they fit it.

    For a named set, and for a file that has a test part, that is the test part; for a toy set a
    fresh sample, which shares nothing with those that ``load_data`` draws; for any other file or
    folder everything in it.

    Args:
        config: source and settings, such as the condition; see ``config_for_source``.
        known: the columns that the model knows.
        shape: shape of the model's data, ``(C, H, W)`` or ``(D,)``; None takes any.
        levels: number of grey levels of the model; None takes any.
        classes: number of classes of a model that is conditioned on classes; data without labels
            have no condition then.

    Raises:
        ValueError: if the data do not fit the model, and as ``load_data`` does.
        FileNotFoundError: as ``load_data`` does.

    >>> from realnvp.config import DataConfig
    >>> load_examples(DataConfig("digits"), shape=(1, 8, 8), levels=17).x.shape
    torch.Size([257, 1, 8, 8])
    >>> load_examples(DataConfig("moons"), shape=(1, 8, 8))
    Traceback (most recent call last):
    ValueError: moons holds vectors of 2 columns, but the model is of 1x8x8 images (grey)
    """
    if classes is not None and config.source.lower().endswith((".npz", ".npy")):
        # An array has no column of that name, but may have labels, as samples of the model do.
        config = replace(config, condition=config.condition and "label")
    parts = _read(config, known)
    return _fitting(config, parts, shape, levels, classes)


def stream_examples(
    config: DataConfig,
    rows: int,
    known: KnownColumns,
    *,
    shape: Sequence[int] | None = None,
    classes: int | None = None,
) -> tuple[int, Iterator[Split]]:
    """Return the rows of Parquet files as ``load_examples`` does, in parts.

    Args:
        config: source and settings.
        rows: number of rows of each part but the last.
        known: as in ``load_examples``.
        shape: as in ``load_examples``.
        classes: as in ``load_examples``.

    Returns:
        the number of all rows, and the parts.
    """
    whole = ParquetRows(parquet_files(Path(config.source).expanduser()))
    tolerate = known.tolerate

    def parts() -> Iterator[Split]:
        for i, frame in enumerate(whole.blocks(rows)):
            start = i * rows

            def in_the_file(impossible: list[Impossible], start: int = start) -> None:
                assert tolerate is not None
                tolerate([each.from_row(start, config.source) for each in impossible])

            of_block = replace(known, tolerate=None if tolerate is None else in_the_file)
            where = f"{config.source} from row {start:,} on" if start else config.source
            block = tables.table_parts(frame, where, config, of_block)
            yield _fitting(config, block, shape, None, classes)

    return len(whole), parts()


def _fitting(
    config: DataConfig,
    parts: Parts,
    shape: Sequence[int] | None,
    levels: int | None,
    classes: int | None,
) -> Split:
    """Return the examples of a source, checked against a model; see ``load_examples``."""
    source = config.source
    if None not in (levels, parts.levels) and parts.levels != levels:
        raise ValueError(
            f"{source} has {parts.levels} grey levels, but the model is of {levels}: bits/dim of "
            "different levels are not comparable"
        )
    if parts.toy is not None:
        part = _draw(source, config.points, config.seed, "examples")
    else:
        part = (parts.test or parts.train)()
    # Without labels, the density of a class-conditional model is the marginal one.
    unlabelled = classes is not None and part.labels is None
    split = part if unlabelled else condition_on_labels(part, config.condition, source)
    _check_fit(source, split, shape, levels)
    if classes is not None and split.condition is not None:
        _check_classes(source, split.condition, classes)
    return split


def config_for_source(config: DataConfig, source: str) -> DataConfig:
    """Return the settings for another source, without those that are for folders of images only.

    >>> from realnvp.config import DataConfig
    >>> config_for_source(DataConfig("celeba", size=32), "digits").size is None
    True
    """
    config = replace(config, source=source, test=None)
    if not is_image_folder(source):
        size = config.size if resizes(source) else None
        config = replace(
            config, size=size, crop=None, channels=None, background=None, skip_unreadable=False
        )
    return config


def resizes(source: str) -> bool:
    """Return whether ``size`` is for a source: for folders of images, and for CelebA.

    >>> resizes("celeba"), resizes("mnist"), resizes("no-such-folder")
    (True, False, False)
    """
    if source in source_names():
        return source in IMAGE_SETS and IMAGE_SETS[source].resizable
    return is_image_folder(source)


def is_image_folder(source: str) -> bool:
    """Return whether a source is a folder of images, rather than a named set or another path."""
    if not source or source in source_names():
        return False
    path = Path(source).expanduser()
    return path.is_dir() and not (arrays.idx_files(path) or parquet_files(path))


def _read(config: DataConfig, known: KnownColumns) -> Parts:
    """Return the parts of a source, which are read when they are needed."""
    name = config.source
    if name in source_names():
        _no_table_settings(config)
        _no_images_settings(config)
        return _toy_parts(config) if name in TOY else _set_parts(config)
    return _path_parts(config, known)


def _read_for_training(config: DataConfig, known: KnownColumns) -> Parts:
    """Return the parts of a source; those of a large table are of a random sample of its rows."""
    files = parquet_files(Path(config.source).expanduser())
    if config.source in source_names() or not files or config.storage == "memory":
        return _read(config, known)
    rows = ParquetRows(files)
    count = _LARGE // (8 * len(rows.columns))
    if len(rows) <= count:
        return _read(config, known)
    _no_images_settings(config)
    where = f"a random sample of {count:,} of {len(rows):,} rows of {config.source}"
    if rank() == 0:
        warn(f"the data are {where}: --data-storage memory reads all of them")
    return tables.table_parts(rows.sample(count, config.seed), where, config, known)


def _set_parts(config: DataConfig) -> Parts:
    image_set = IMAGE_SETS[config.source]
    read = {part: partial(image_set.split, config, part) for part in image_set.parts}
    return Parts(read["train"], read.get("validation"), read.get("test"), image_set.levels)


_Draw = Literal["train", "validation", "test", "examples"]


def _draw(name: str, n: int, seed: int, part: _Draw) -> Split:
    # Each part of each seed has a seed of its own, so no two parts are ever the same points.
    draws = get_args(_Draw)
    points = TOY[name].sample(n, seed * len(draws) + draws.index(part))
    return Split(torch.from_numpy(points))


def _toy_parts(config: DataConfig) -> Parts:
    draw = partial(_draw, config.source)
    validation = held_out_count(config.points, config.validation)
    return Parts(
        partial(draw, config.points, config.seed, "train"),
        partial(draw, validation, config.seed, "validation"),
        partial(draw, config.points, config.seed, "test"),
        toy=TOY[config.source],
    )


def _path_parts(config: DataConfig, known: KnownColumns) -> Parts:
    """Read a file or a folder, of any kind."""
    source, condition = config.source, config.condition
    # Names of labels must be known ones only if the density is conditioned on them.
    categories = None if condition is None else known.categories
    path = Path(source).expanduser()
    check_source(source)
    if not (path.is_file() or path.is_dir()):  # a pipe or a device may never end
        raise ValueError(f"{source} is neither a file nor a folder: save the data to a file")
    if known.schema is not None and (is_image_folder(source) or path.suffix.lower() in SUFFIXES):
        raise ValueError(
            f"{source} holds images, and the model is of a table: give a CSV, TSV, Parquet, "
            "Feather, JSON or .xlsx file"
        )
    if is_image_folder(source):
        return images.read_folder(path, config, categories)
    _no_images_settings(config)
    name = path.name.lower().removesuffix(".gz")
    if parquet_files(path) or (path.is_file() and name.endswith(tables.ENDINGS)):
        return tables.read_table(path, config, known)
    _no_table_settings(config)
    if path.is_dir():
        files = arrays.idx_files(path)
        read = {part: arrays.read_idx_file(file, condition) for part, file in files.items()}
        test = read["test"].train if len(read) == 2 else None
        return Parts((read.get("train") or read["test"]).train, test=test)
    if name.endswith((".npz", ".npy")):
        return arrays.read_array_file(path, condition, categories)
    if what := _NO_SOURCES.get(name.rpartition(".")[2]):
        raise ValueError(f"{source} is {what}")
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith((b"\x1f\x8b", b"\0\0")) or "-ubyte" in name or ".idx" in name:
        return arrays.read_idx_file(path, condition)
    raise ValueError(f"cannot tell what {source} is: data are {_FILES}")


def _no_table_settings(config: DataConfig) -> None:
    if config.condition not in (None, "label"):
        raise ValueError(
            f"{config.source} has no columns, so it cannot be conditioned on "
            f"{config.condition!r}: data.condition can be 'label' where there are labels, and the "
            "column of a CSV file in a folder of images"
        )
    if config.keep_range:
        raise ValueError(
            f"data.keep_range is for the columns of a table, which {config.source} is not: leave "
            "it out"
        )


def _no_images_settings(config: DataConfig) -> None:
    for option, does in _OF_FOLDERS.items():
        if getattr(config, option) and not (option == "size" and resizes(config.source)):
            raise ValueError(
                f"data.{option} {does} the images of a folder, which {config.source} is not: leave "
                "it out"
            )


def _check_fit(source: str, split: Split, shape: Sequence[int] | None, levels: int | None) -> None:
    """Raise ValueError unless a model of that shape and number of levels can take the split."""
    got = tuple(split.x.shape[1:])
    if shape is not None and got != tuple(shape):
        hints = []
        if resizes(source) and len(shape) == 3:
            if got[0] != shape[0] and is_image_folder(source):
                hints.append(f"--data-channels {shape[0]} converts the images")
            if got[1:] != tuple(shape[1:]) and shape[1] == shape[2]:
                hints.append(f"--data-size {shape[1]} resizes the images")
        raise ValueError(
            f"{source} holds {_describe(got)}, but the model is of {_describe(tuple(shape))}"
            + "".join(f"; {hint}" for hint in hints)
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
    kind = {1: " (grey)", 3: " (color)"}.get(shape[0], "")
    return f"{'x'.join(str(n) for n in shape)} images{kind}"
