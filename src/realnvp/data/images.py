"""Images: arrays of them, and folders of image files, as uint8 tensors `(N, C, H, W)`.

The likelihood of an image is a statement about its exact grey levels, so nothing here changes
them behind the user's back: a file whose 8-bit values are not what the eye sees (16 bits,
transparency, several frames) is refused by name, and images are resized only on request.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from realnvp.data.dataset import Parts, Split, parse_labels
from realnvp.utils.errors import some_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

__all__ = ["image_tensor", "read_folder", "read_image", "read_images"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")


_PART_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}


_SHOW_PROGRESS_FROM = 5_000  # files: fewer are read before a bar would have said anything


def image_tensor(array: np.ndarray, where: str) -> torch.Tensor:
    """Turn an array of images into a uint8 tensor `(N, C, H, W)`.

    `(N, H, W)` are grey images. With four axes, the channels are the axis of length 1 or 3: the
    last one, as image libraries store it, or the second, as PyTorch does. Where both fit, the
    second is taken.

    Args:
        array: whole numbers from 0 to 255, `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)`.
        where: what the array is, for messages.

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
            f"{where} holds {array.dtype} images, but bits/dim are about whole grey levels: save "
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
        array = array.transpose(0, 3, 1, 2)
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


def read_image(path: Path, size: int | None = None) -> np.ndarray:
    """Read one image file as it is shown on a screen (EXIF orientation applied).

    Args:
        path: the file.
        size: cut the largest centred square and resize it to this many pixels (bilinear,
            antialiased); None keeps the image as it is.

    Returns:
        uint8 `(H, W)` for grey images, `(H, W, 3)` for all others.

    Raises:
        ValueError: names the file, when it cannot be read, or not without changing its values.
    """
    from PIL import ImageOps

    image = open_image(path)
    if size is not None:
        from PIL.Image import Resampling

        image = ImageOps.fit(image, (size, size), Resampling.BILINEAR)
    return np.asarray(image)


def open_image(path: Path) -> PILImage:
    """The image of a file in mode "L" or "RGB"; for `Raises` see `read_image`."""
    from PIL import Image, ImageOps

    # What Pillow's plugins raise for broken files, beside OSError.
    unreadable = (
        OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error,
        Image.DecompressionBombError,
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
        raise ValueError(f"cannot read the image {path}: {reason or 'damaged file'}") from error
    if frames > 1:
        raise ValueError(f"{path} is animated ({frames} frames): save the frames as images")
    # Pillow cuts 16-bit colour PNGs to 8 bits silently, so their header is asked for the depth.
    deep = header.startswith(b"\x89PNG") and header[24] == 16
    if deep or image.mode.startswith(("I", "F")):
        raise ValueError(f"{path} has more than 8 bits per channel: save it with 8 bits")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise ValueError(f"{path} has colour mode {image.mode}: save it as RGB or grey")
    grey = image.mode in ("1", "L", "LA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            raise ValueError(
                f"{path} has transparent pixels, whose colour depends on what is behind them: "
                "save it on a background"
            )
        image = image.convert("RGB")
        return image.getchannel(0) if grey else image
    return image.convert("L" if grey else "RGB")


def read_images(
    files: Sequence[Path], read: Callable[[Path], np.ndarray] = read_image
) -> torch.Tensor:
    """Read image files of one size into one tensor.

    Args:
        files: the files, at least one.
        read: reads one of them, as `read_image` does.

    Returns:
        uint8 `(N, C, H, W)`; one channel when all the files are grey, otherwise three.

    Raises:
        ValueError: names two files when their sizes differ.
    """
    images = np.empty((0, 1, 0, 0), np.uint8)
    for i, image in enumerate(_decoded(files, read)):
        pixels = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        if i == 0:
            images = np.empty((len(files), *pixels.shape), np.uint8)
        if pixels.shape[1:] != images.shape[2:]:
            (height, width), (h, w) = images.shape[2:], pixels.shape[1:]
            raise ValueError(
                f"the images differ in size: {files[0]} is {width}x{height} pixels, {files[i]} is "
                f"{w}x{h}; --data-size N cuts squares and resizes all to NxN"
            )
        if len(pixels) > images.shape[1]:  # the first colour image among grey ones
            images = np.repeat(images, 3, axis=1)
        images[i] = pixels
    return torch.from_numpy(images)


def _decoded(files: Sequence[Path], read: Callable[[Path], np.ndarray]) -> Iterator[np.ndarray]:
    # Threads, since the codecs release the GIL; chunks, so that decoded images do not pile up and
    # an error is not held back by the rest of the queue.
    chunks = [files[i : i + 256] for i in range(0, len(files), 256)]
    with ThreadPoolExecutor() as pool:
        if len(files) < _SHOW_PROGRESS_FROM:
            for chunk in chunks:
                yield from pool.map(read, chunk)
            return
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)  # stdout may carry --json
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("reading images", total=len(files))
            for chunk in chunks:
                yield from pool.map(read, chunk)
                bar.advance(task, len(chunk))


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def read_folder(
    folder: Path, size: int | None = None, categories: Sequence[str] | None = None
) -> Parts:
    """Read a folder of image files, recursively, in the order of their sorted paths.

    When all the images lie in subfolders, one level deep, and there are at least two of these,
    their names are the labels.

    Args:
        folder: the folder.
        size: resize to this many pixels; see `read_image`.
        categories: subfolder names that are numbered already, in order.

    Raises:
        ValueError: when there are no images, or they cannot be read as they are.
    """
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
    if {len(group) for group in groups} == {1} and (len(tops) > 1 or categories):
        labels, names = parse_labels(
            np.array([group[0] for group in groups]), f"{folder}", categories
        )
    x = read_images(files, lambda path: read_image(path, size))
    return Parts(Split(x, labels=labels), levels=256, categories=names)
