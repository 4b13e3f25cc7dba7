"""Images: arrays of them, and folders of image files, as uint8 tensors ``(N, C, H, W)``.

The likelihood of an image depends on its exact grey levels, so nothing here changes them silently:
a file whose 8-bit values are not what is displayed (16 bits, transparency, several frames) is
refused by name, and images are resized, put on a background or converted to grey or color only on
request.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from realnvp.columns.text import read_words
from realnvp.data.cache import default_folder, open_cached
from realnvp.data.dataset import Split
from realnvp.data.labels import parse_labels
from realnvp.data.parts import Parts
from realnvp.utils.distributed import rank
from realnvp.utils.errors import describe, some_of
from realnvp.utils.image_files import (
    SUFFIXES,
    ImageStack,
    Reader,
    UnusableImage,
    attempt,
    background_color,
    image_files,
    no_bombs,
    open_image,
    read_image,
    stack,
)
from realnvp.utils.progress import Bar, warn

if TYPE_CHECKING:
    from realnvp.config import DataConfig

_PART_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}


_CACHE_FROM = 2_000  # files: fewer are decoded in seconds


_NAMED = 10  # unusable files that a message names


def image_tensor(array: np.ndarray, where: str, reuse: bool = False) -> torch.Tensor:
    """Turn an array of images into a uint8 tensor ``(N, C, H, W)``.

    ``(N, H, W)`` are grey images. With four axes, the channels are the axis of length 1 or 3: the
    last one, as image libraries store it, or the second, as PyTorch does. Where both fit, the
    second is taken.

    Args:
        array: integers from 0 to 255, ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``.
        where: name of the array, for messages.
        reuse: whether the array's memory may be rearranged, rather than copied.

    Raises:
        ValueError: for other shapes, values and types.

    >>> image_tensor(np.zeros((5, 28, 28, 3), np.uint8), "a").shape
    torch.Size([5, 3, 28, 28])
    >>> image_tensor(np.zeros((5, 28, 28), np.uint8), "a").shape
    torch.Size([5, 1, 28, 28])
    """
    if array.size == 0:
        raise ValueError(f"{where} is empty: its shape is {array.shape}")
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"{where} holds {array.dtype} values, but bits/dim are about integer grey levels: save "
            "images as uint8 from 0 to 255; (255 * x).round().astype(np.uint8) if they are from 0 "
            "to 1"
        )
    if array.dtype != np.uint8:
        if array.min() < 0 or array.max() > 255:
            raise ValueError(
                f"{where} holds values from {array.min()} to {array.max()}: save images as uint8 "
                "from 0 to 255"
            )
        array = array.astype(np.uint8)
    shape = array.shape
    if array.ndim == 3 and shape[2] not in (1, 3, 4):
        array = array[:, None]
    elif array.ndim == 4 and shape[1] in (1, 3):
        pass
    elif array.ndim == 4 and shape[3] in (1, 3):
        array = _channels_first(array, reuse)
    else:
        hint = ""
        if array.ndim == 3:
            hint = "; this looks like one image, so add a first axis"
        elif array.ndim == 4 and 4 in (shape[1], shape[3]):
            hint = "; 4 channels look like RGBA, so drop the transparency"
        raise ValueError(
            f"{where} has shape {shape}: images are (N, H, W), (N, H, W, C) or (N, C, H, W) with "
            f"1 or 3 channels{hint}"
        )
    # np.require copies what torch cannot share: read-only buffers and foreign strides.
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _channels_first(array: np.ndarray, reuse: bool) -> np.ndarray:
    """Move the last axis of ``(N, H, W, C)`` images to the second place."""
    if not (reuse and array.flags.c_contiguous and array.flags.writeable):
        return array.transpose(0, 3, 1, 2)
    moved = array.reshape(len(array), array.shape[3], *array.shape[1:3])  # the same memory
    for start in range(0, len(array), 256):
        moved[start : start + 256] = array[start : start + 256].transpose(0, 3, 1, 2).copy()
    return moved


def read_images(
    files: Sequence[Path], read: Reader = read_image, skip_unreadable: bool = False
) -> tuple[torch.Tensor, list[int]]:
    """Read image files of one size into one tensor.

    Args:
        files: the files, at least one.
        read: reads one of them, as ``read_image`` does.
        skip_unreadable: leave out files that cannot be used, with a warning.

    Returns:
        uint8 ``(M, C, H, W)``, one channel when all the files are grey, otherwise three; and the
        indices of the files that were read.

    Raises:
        ValueError: names the files that cannot be used, or that differ in size from the first.
    """
    found = stack(_decoded(files, read), len(files))
    check_readable(files, found, skip_unreadable)
    return torch.from_numpy(found.images), found.kept


def check_readable(files: Sequence[Path], found: ImageStack, skip_unreadable: bool = False) -> None:
    """Raise ValueError for files that cannot be used, or warn of them if they may be left out.

    Args:
        files: all of the files.
        found: what they hold.
        skip_unreadable: whether files may be left out.
    """
    if found.bad:
        same: dict[str, list[str]] = {}
        for i, (reason, _) in found.bad.items():
            same.setdefault(reason, []).append(f"{files[i]}: {reason}")
        # One of every kind first: a rare fault is not hidden by a frequent one.
        reasons = [one for kinds in zip_longest(*same.values()) for one in kinds if one]
        listed = f"{len(found.bad)} of {len(files)} images cannot be used: "
        if not (skip_unreadable and found.kept):
            listed += some_of(reasons, _NAMED)
            remedies = sorted({remedy for _, remedy in found.bad.values() if remedy})
            remedies.append("--data-skip-unreadable true leaves such files out")
            raise ValueError(f"{listed}; {'; '.join(remedies)}")
        if rank() == 0:
            warn(f"{listed}{some_of(reasons, 3)}: left out")  # in every command
    if found.odd:
        height, width = found.images.shape[2:]
        odd = [f"{files[i]} is {wide}x{high}" for i, (wide, high) in found.odd.items()]
        raise ValueError(
            f"the images differ in size: {files[found.kept[0]]} is {width}x{height} pixels, but "
            f"{len(odd)} of {len(files)} are not: {some_of(odd, _NAMED)}; --data-size N cuts "
            "squares and resizes all to NxN"
        )


def _decoded(files: Sequence[Path], read: Reader) -> Iterator[np.ndarray | UnusableImage]:
    """Read the files in their order; yields the error of one that cannot be used."""
    # Threads, since the codecs release the GIL; chunks, so that decoded images do not accumulate.
    with no_bombs(), ThreadPoolExecutor() as pool, Bar("reading images", main=rank() == 0) as bar:
        for start in range(0, len(files), 256):
            yield from pool.map(partial(attempt, read), files[start : start + 256])
            bar.update(min(start + 256, len(files)) / len(files))


@dataclass(frozen=True)
class ImageFiles:
    """Image files that are decoded when needed; large numbers of them once, into the cache.

    Args:
        folder: folder that holds the files.
        files: the files, at least one.
        read: reads one of them, as ``read_image`` does: a function of a module, whose settings are
            keywords. The cache identifies it by its name and its settings.
        labels: int64 ``(N,)`` labels of the files, if there are any.
        part: name of the part of a set that the files belong to, if other parts have other files.
    """

    folder: Path
    files: Sequence[Path]
    read: partial[np.ndarray]
    labels: torch.Tensor | None = None
    part: str = ""

    def split(self, config: DataConfig) -> Split:
        """Read the images, or open those that the cache holds.

        Args:
            config: settings: ``cache``, ``storage``, ``skip_unreadable``.

        Raises:
            ValueError: names the files that cannot be used.
        """
        x, kept = self._images(config)
        labels = None if self.labels is None else self.labels[kept]
        return Split(x, labels=labels, rows=torch.tensor(kept))

    def _images(self, config: DataConfig) -> tuple[torch.Tensor, list[int]]:
        if len(self.files) < _CACHE_FROM or config.cache == "none":
            return read_images(self.files, self.read, config.skip_unreadable)
        root = default_folder() if config.cache is None else Path(config.cache).expanduser()
        try:
            on_device = config.storage == "auto"
            stored, found = open_cached(
                self.folder, self.files, self.read, root, on_device, self.part
            )
        except OSError as error:
            if config.cache is not None or error.errno == errno.ENOENT:
                raise
            if rank() == 0:
                warn(f"no cache, so the images are decoded at every start: {describe(error)}")
            return read_images(self.files, self.read, config.skip_unreadable)
        check_readable(self.files, found, config.skip_unreadable)
        assert stored is not None  # otherwise there would have been an error
        x = stored.cpu() if config.storage == "memory" else cast("torch.Tensor", stored)
        return x, found.kept


def _column(
    folder: Path, column: str, files: Sequence[Path], optional: bool = False
) -> np.ndarray | None:
    """Return the values of a column of the CSV file in a folder, as text, for each image file.

    Its first column has paths below the folder, or names, with or without their suffix.

    Args:
        folder: the folder.
        column: name of the column.
        files: the image files.
        optional: whether there may be no CSV file with that column; the result is then None.

    Raises:
        ValueError: if there is not one such file, column, or value for each image.
    """
    tables = sorted(folder.glob("*.csv"))
    if optional:  # other files may be there, such as scores
        tables = [path for path in tables if column in read_words(path).columns[1:]]
        if not tables:
            return None
    if len(tables) != 1:
        found = f"{len(tables)}: {some_of([t.name for t in tables], 5)}" if tables else "none"
        raise ValueError(
            f"to condition images on {column!r}, {folder} must hold one CSV file, whose first "
            f"column has the names of the image files; found {found}"
        )
    table = read_words(tables[0])
    if column not in table.columns[1:]:
        others = some_of([*table.columns[1:]], 10) or f"all it has is {table.columns[0]!r}"
        raise ValueError(f"{tables[0]} has no column {column!r}: {others}")
    values = table[[table.columns[0], column]].drop_duplicates()
    several = values[values.duplicated(table.columns[0])]
    if len(several):
        raise ValueError(
            f"{tables[0]} has rows for {several.iloc[0, 0]!r} that differ in {column!r}: keep one"
        )
    # Windows paths, too: "cats\\1.jpg" and "./cats/1.jpg" are "cats/1.jpg".
    rows = {PureWindowsPath(name).as_posix(): value for name, value in values.itertuples(False)}
    paths = [path.relative_to(folder) for path in files]
    keys = [_row_of(path, rows) for path in paths]
    missing = [str(p) for p, key in zip(paths, keys, strict=True) if not rows.get(key or "")]
    if missing:
        raise ValueError(
            f"{tables[0]} has no value of {column!r} for {len(missing)} of {len(files)} images: "
            f"{some_of(missing, _NAMED)}; its first column has {some_of([*rows], 3)}: leave these "
            "images out, or give them a class, such as unknown"
        )
    first: dict[str | None, Path] = {}
    for path, key in zip(paths, keys, strict=True):
        if first.setdefault(key, path) != path:
            raise ValueError(
                f"{tables[0]} has one row, {key!r}, for {first[key]} and {path}: give their paths "
                f"below {folder}"
            )
    return np.array([rows[key] for key in keys if key is not None], dtype=object)


def _row_of(path: Path, rows: Collection[str]) -> str | None:
    """Return which of the names of rows is meant for an image file; the longest one that fits."""
    names = (path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem)
    return next((name for name in names if name in rows), None)


def read_folder(folder: Path, config: DataConfig, categories: Sequence[str] | None = None) -> Parts:
    """Read a folder of image files, recursively, in the order of their sorted paths.

    When all the images lie in subfolders, one level deep, and there are at least two of these,
    their names are the labels; when conditioned on "label", the first level counts, however deep
    the images are. When the data are conditioned on a column, labels are that column's
    values in the CSV file that the folder holds. Without it, there are no labels for a model that
    knows the classes, and its density is the marginal one.

    Args:
        folder: the folder.
        config: settings: ``size``, ``crop``, ``channels``, ``background``, ``skip_unreadable``,
            ``condition``.
        categories: labels that are numbered already, in order.

    Raises:
        ValueError: if there are no images, or they cannot be read as they are.
    """
    if config.background is not None:
        background_color(config.background)
    files = image_files(folder)
    if not files:
        others = sorted(path.name for path in folder.iterdir())
        found = some_of(others, 5) if others else "nothing"
        raise ValueError(
            f"{folder} holds no images ({' '.join(SUFFIXES)}), nor IDX files: found {found}"
        )
    if files.others and rank() == 0:
        count = len(files.others)
        warn(
            f"{count} of {count + len(files)} images in {folder} are left out, since their format "
            f"is not read: {some_of(files.others, 3)}; convert them, for example to PNG"
        )
    inside = [name.rpartition(os.sep)[0] for name in files.names]
    split = {name: Path(name).parts for name in set(inside)}
    tops = sorted({parts[0] for parts in split.values() if parts})
    if len(tops) > 1 and all(top.lower() in _PART_NAMES for top in tops):
        raise ValueError(
            f"{folder} has a folder for each part ({', '.join(tops)}), which would be mixed: give "
            f"one of them, for example {folder / tops[-1]}"
        )
    depths = {len(parts) for parts in split.values()}
    is_labeled = config.condition == "label" and 0 not in depths
    labels, names = None, None
    if config.condition not in (None, "label"):
        values = _column(folder, config.condition, files, optional=categories is not None)
        if values is not None:
            labels, names = parse_labels(values, f"{config.condition!r} of {folder}", categories)
    elif (len(tops) > 1 or categories) and (is_labeled or depths == {1}):
        first = np.array([split[name][0] for name in inside])
        labels, names = parse_labels(first, f"{folder}", categories)

    read = partial(
        read_image,
        size=config.size,
        channels=config.channels,
        background=config.background,
        crop=config.crop,
    )
    content = ImageFiles(folder, files, read, labels)
    return Parts(partial(content.split, config), categories=names)


def fit_image(
    path: Path, shape: Sequence[int], levels: int, invert: bool = False
) -> tuple[Tensor, str]:
    """Return an image in the form that a model takes, and a note of the changes.

    Args:
        path: file of the image.
        shape: channels, height and width of the model's images.
        levels: number of their grey levels.
        invert: exchange dark and light.

    Returns:
        integers ``(1, *shape)``, and a sentence.

    Raises:
        ValueError: if the file is not an image.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    image = open_image(path, background="white")
    done = []
    if image.mode != (mode := "L" if channels == 1 else "RGB"):
        image = image.convert(mode)
        done.append("converted to grey" if mode == "L" else "converted to color")
    if image.size != (width, height):
        done.append(f"fitted from {image.width}x{image.height} to {width}x{height}")
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    if invert:
        image = ImageOps.invert(image)
        done.append("dark and light exchanged")
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if levels != 256:
        # As a grid of images shows them: level 0 is black, the highest one white.
        kind = np.uint8 if levels <= 256 else np.int32
        pixels = np.rint(pixels * ((levels - 1) / 255)).astype(kind)
        done.append(f"rounded to {levels} grey levels")
    note = f"{path.name}: {', '.join(done) or 'taken as it is'}"
    return torch.from_numpy(pixels.copy())[None], note
