"""Images: arrays of them, and folders of image files, as uint8 tensors `(N, C, H, W)`.

The likelihood of an image is a statement about its exact grey levels, so nothing here changes
them behind the user's back: a file whose 8-bit values are not what the eye sees (16 bits,
transparency, several frames) is refused by name, and images are resized, put on a background or
converted to grey or color only on request.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from realnvp.data.dataset import Parts, Split, parse_labels
from realnvp.utils.distributed import rank
from realnvp.utils.errors import some_of
from realnvp.utils.progress import warn

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from realnvp.config import DataConfig

__all__ = ["UnusableImage", "image_tensor", "read_folder", "read_image", "read_images"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")


_PART_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}


_SHOW_PROGRESS_FROM = 5_000  # files: fewer are read before a bar would have said anything


_NAMED = 10  # unusable files that a message names


class UnusableImage(ValueError):
    """An image file that cannot be read, or not without changing its values.

    Args:
        path: the file.
        reason: what is wrong with it.
        remedy: what else there is to do about it than to replace the file.
    """

    def __init__(self, path: Path, reason: str, remedy: str = "") -> None:
        super().__init__(f"{path}: {reason}{remedy and ': '}{remedy}")
        self.path, self.reason, self.remedy = path, reason, remedy


def image_tensor(array: np.ndarray, where: str, reuse: bool = False) -> torch.Tensor:
    """Turn an array of images into a uint8 tensor `(N, C, H, W)`.

    `(N, H, W)` are grey images. With four axes, the channels are the axis of length 1 or 3: the
    last one, as image libraries store it, or the second, as PyTorch does. Where both fit, the
    second is taken.

    Args:
        array: integers from 0 to 255, `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)`.
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
    if array.dtype.kind == "f":
        scale = "x" if (np.abs(array) > 1).any() else "x * 255"
        raise ValueError(
            f"{where} holds {array.dtype} images, but bits/dim are about integer grey levels: save "
            f"them as uint8 from 0 to 255, for example ({scale}).round().astype(np.uint8)"
        )
    if array.dtype.kind not in "iu":
        raise ValueError(f"{where} holds {array.dtype} values: save images as uint8 from 0 to 255")
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
    """Move the last axis of `(N, H, W, C)` images to the second place."""
    if not (reuse and array.flags.c_contiguous and array.flags.writeable):
        return array.transpose(0, 3, 1, 2)
    moved = array.reshape(len(array), array.shape[3], *array.shape[1:3])  # the same memory
    for start in range(0, len(array), 256):
        moved[start : start + 256] = array[start : start + 256].transpose(0, 3, 1, 2).copy()
    return moved


def read_image(
    path: Path,
    size: int | None = None,
    channels: int | None = None,
    background: str | None = None,
    crop: int | None = None,
) -> np.ndarray:
    """Read one image file as it is shown on a screen (EXIF orientation applied).

    Args:
        path: the file.
        size: cut the largest centered square and resize it to this many pixels (bilinear,
            antialiased); None keeps the image as it is.
        channels: convert the image to grey (1: luma, ITU-R 601-2) or to color (3); None keeps it.
        background: color behind transparent pixels, by name or as "#rrggbb"; None refuses them.
        crop: cut a square of this many pixels from the middle first.

    Returns:
        uint8 `(H, W)` for grey images, `(H, W, 3)` for all others.

    Raises:
        UnusableImage: when the file cannot be read, or not without changing its values.
    """
    image = open_image(path, background)
    if channels is not None:
        image = image.convert("L" if channels == 1 else "RGB")
    if crop is not None:
        if crop > min(image.size):
            raise UnusableImage(path, f"{image.width}x{image.height} pixels are less than the crop")
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if size is not None:
        from PIL import ImageOps
        from PIL.Image import Resampling

        image = ImageOps.fit(image, (size, size), Resampling.BILINEAR)
    return np.asarray(image)


def open_image(path: Path, background: str | None = None) -> PILImage:
    """Return the image of a file in mode "L" or "RGB"; see `read_image`."""
    from PIL import Image, ImageOps

    # What Pillow's plugins raise for broken files, beside OSError.
    unreadable = (
        OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error,
        OverflowError, MemoryError, RuntimeError, AttributeError, ZeroDivisionError,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    )  # fmt: skip
    try:
        with path.open("rb") as file:
            header = file.read(25)
        if not header:
            raise OSError("it is empty")
        with Image.open(path) as image:
            # A phone's MPO holds a preview beside its picture: several frames, not a film.
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except unreadable as error:
        reason = " ".join(str(error).split()).replace(f" {str(path)!r}", "")
        raise UnusableImage(path, reason or f"damaged file ({type(error).__name__})") from error
    if frames > 1:
        raise UnusableImage(path, f"animated ({frames} frames)")
    # Pillow cuts 16-bit color PNGs to 8 bits silently, so their header is asked for the depth.
    deep = header.startswith(b"\x89PNG") and header[24:] == b"\x10"
    if deep or image.mode.startswith(("I", "F")):
        raise UnusableImage(path, "more than 8 bits per channel")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise UnusableImage(path, f"color mode {image.mode}, neither RGB nor grey")
    grey = image.mode in ("1", "L", "LA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        return _opaque(image.convert("RGBA"), path, background, grey)
    return image.convert("L" if grey else "RGB")


def _opaque(image: PILImage, path: Path, background: str | None, grey: bool) -> PILImage:
    """Return an RGBA image without its transparency, in front of the background if it has some."""
    from PIL import Image

    if np.asarray(image.getchannel("A")).min() < 255:
        if background is None:
            raise UnusableImage(
                path, "transparent pixels", "--data-background white puts a color behind them"
            )
        behind = Image.new("RGBA", image.size, background_color(background))
        image = Image.alpha_composite(behind, image)
        red, green, blue = background_color(background)[:3]
        grey = grey and red == green == blue
    image = image.convert("RGB")
    return image.getchannel(0) if grey else image


def background_color(name: str) -> tuple[int, int, int, int]:
    """Return the opaque RGBA color of a name, or of "#rrggbb".

    >>> background_color("white")
    (255, 255, 255, 255)
    """
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise ValueError(
            f'data.background is a color by name, or "#rrggbb", got {name[:50]!r}'
        ) from error
    return red, green, blue, 255


def read_images(
    files: Sequence[Path],
    read: Callable[[Path], np.ndarray] = read_image,
    skip_unreadable: bool = False,
) -> tuple[torch.Tensor, list[int]]:
    """Read image files of one size into one tensor.

    Args:
        files: the files, at least one.
        read: reads one of them, as `read_image` does.
        skip_unreadable: leave out files that cannot be used, with a warning.

    Returns:
        uint8 `(M, C, H, W)`, one channel when all the files are grey, otherwise three; and the
        indices of the files that were read.

    Raises:
        ValueError: names the files that cannot be used, or that differ in size from the first.
    """
    images = np.empty((0, 1, 0, 0), np.uint8)
    kept: list[int] = []
    bad: list[UnusableImage] = []
    odd: list[str] = []
    for i, image in enumerate(_decoded(files, read)):
        if isinstance(image, UnusableImage):
            bad.append(image)
            continue
        pixels = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        if not kept:
            images = np.empty((len(files), *pixels.shape), np.uint8)
        if pixels.shape[1:] != images.shape[2:]:
            odd.append(f"{files[i]} is {pixels.shape[2]}x{pixels.shape[1]}")
            continue
        if len(pixels) > images.shape[1]:  # the first color image among grey ones
            grey, images = images, np.empty((len(files), *pixels.shape), np.uint8)
            images[: len(kept)] = grey[: len(kept)]
        images[len(kept)] = pixels
        kept.append(i)
    if bad and skip_unreadable and kept:
        if rank() == 0:
            warn(f"{_listed(bad, len(files))}: left out")
    elif bad:
        remedies = sorted({error.remedy for error in bad if error.remedy})
        remedies.append("--data-skip-unreadable true leaves such files out")
        raise ValueError(f"{_listed(bad, len(files))}; {'; '.join(remedies)}")
    if odd:
        height, width = images.shape[2:]
        raise ValueError(
            f"the images differ in size: {files[kept[0]]} is {width}x{height} pixels, but "
            f"{len(odd)} of {len(files)} are not: {some_of(odd, _NAMED)}; --data-size N cuts "
            "squares and resizes all to NxN"
        )
    return torch.from_numpy(images[: len(kept)]), kept


def _listed(bad: Sequence[UnusableImage], total: int) -> str:
    named = some_of([f"{error.path}: {error.reason}" for error in bad], _NAMED)
    return f"{len(bad)} of {total} images cannot be used: {named}"


def _decoded(
    files: Sequence[Path], read: Callable[[Path], np.ndarray]
) -> Iterator[np.ndarray | UnusableImage]:
    """Read the files in their order; yields the error of one that cannot be used."""

    def attempt(path: Path) -> np.ndarray | UnusableImage:
        try:
            return read(path)
        except UnusableImage as error:
            return error

    from PIL.Image import DecompressionBombWarning
    from rich.console import Console
    from rich.progress import Progress

    # Threads, since the codecs release the GIL; chunks, so that decoded images do not pile up.
    chunks = [files[i : i + 256] for i in range(0, len(files), 256)]
    console = Console(stderr=True)  # stdout may carry --json
    hidden = len(files) < _SHOW_PROGRESS_FROM or not console.is_terminal
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor() as pool,
        Progress(console=console, transient=True, disable=hidden) as bar,
    ):
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata
        warnings.simplefilter("error", DecompressionBombWarning)
        task = bar.add_task("reading images", total=len(files))
        for chunk in chunks:
            yield from pool.map(attempt, chunk)
            bar.advance(task, len(chunk))


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted, without hidden ones."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _column(folder: Path, column: str, files: Sequence[Path]) -> np.ndarray:
    """Return the values of a column of the CSV file in a folder, as text, for each image file.

    Raises:
        ValueError: when there is not one such file, column or row.
    """
    import pandas as pd

    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        found = f"{len(tables)}: {some_of([t.name for t in tables], 5)}" if tables else "none"
        raise ValueError(
            f"to condition images on {column!r}, {folder} must hold one CSV file, whose first "
            f"column has the names of the image files; found {found}"
        )
    try:
        table = pd.read_csv(tables[0], dtype=str, keep_default_na=False)
    except (ValueError, UnicodeError) as error:
        raise ValueError(f"{tables[0]} is no CSV file: {error}") from error
    if column not in table.columns[1:]:
        raise ValueError(
            f"{tables[0]} has no column {column!r}: {some_of([*table.columns[1:]], 10)}"
        )
    rows = dict(zip(table.iloc[:, 0], table[column], strict=True))
    paths = [path.relative_to(folder) for path in files]
    values = [rows.get(path.as_posix(), rows.get(path.name)) for path in paths]
    missing = [str(path) for path, value in zip(paths, values, strict=True) if value is None]
    if missing:
        raise ValueError(
            f"{tables[0]} has no row for {len(missing)} of {len(files)} images: "
            f"{some_of(missing, _NAMED)}"
        )
    return np.array(values, dtype=object)


def read_folder(folder: Path, config: DataConfig, categories: Sequence[str] | None = None) -> Parts:
    """Read a folder of image files, recursively, in the order of their sorted paths.

    When all the images lie in subfolders, one level deep, and there are at least two of these,
    their names are the labels. When the data are conditioned on a column, labels are that column's
    values in the CSV file that the folder holds.

    Args:
        folder: the folder.
        config: settings: `size`, `crop`, `channels`, `background`, `skip_unreadable`, `condition`.
        categories: labels that are numbered already, in order.

    Raises:
        ValueError: when there are no images, or they cannot be read as they are.
    """
    if config.background is not None:
        background_color(config.background)
    files = image_files(folder)
    if not files:
        inside = sorted(path.name for path in folder.iterdir())
        found = some_of(inside, 5) if inside else "nothing"
        raise ValueError(
            f"{folder} holds no images ({' '.join(SUFFIXES)}), nor IDX files: found {found}"
        )
    groups = [path.relative_to(folder).parts[:-1] for path in files]
    tops = sorted({group[0] for group in groups if group})
    if len(tops) > 1 and all(top.lower() in _PART_NAMES for top in tops):
        raise ValueError(
            f"{folder} has a folder for each part ({', '.join(tops)}), which would be mixed: give "
            f"one of them, for example {folder / tops[-1]}"
        )
    labels, names = None, None
    if config.condition not in (None, "label"):
        values = _column(folder, config.condition, files)
        labels, names = parse_labels(values, f"{config.condition!r} of {folder}", categories)
    elif {len(group) for group in groups} == {1} and (len(tops) > 1 or categories):
        labels, names = parse_labels(
            np.array([group[0] for group in groups]), f"{folder}", categories
        )

    def train() -> Split:
        x, kept = read_images(
            files,
            lambda path: read_image(
                path, config.size, config.channels, config.background, config.crop
            ),
            config.skip_unreadable,
        )
        return Split(x, labels=None if labels is None else labels[kept], rows=torch.tensor(kept))

    return Parts(train, categories=names)
