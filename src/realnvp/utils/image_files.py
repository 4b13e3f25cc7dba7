"""Image files: finding them, and reading their pixels as they are displayed.

Neither PyTorch nor a flow is imported here, so that processes that only decode images start
quickly.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from realnvp.utils.files import replacing, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Reader = Callable[[Path], np.ndarray]
"""Function that reads one image file, as :func:`read_image` does."""

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".avif", ".gif", ".tif", ".tiff", ".ppm",
    ".pgm",
)  # fmt: skip


_OTHERS = (
    ".heic", ".heif", ".jxl", ".jp2", ".j2k", ".tga", ".svg", ".psd", ".exr", ".dcm", ".dng",
    ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
)  # fmt: skip
"""Suffixes of pictures that are not read."""


class UnusableImage(ValueError):
    """An image file that cannot be read, or not without changing its values.

    Args:
        path: the file.
        reason: what is wrong with it.
        remedy: alternative to replacing the file.
    """

    def __init__(self, path: Path, reason: str, remedy: str = "") -> None:
        super().__init__(f"{path}: {reason}{remedy and ': '}{remedy}")
        self.path, self.reason, self.remedy = path, reason, remedy


def read_image(
    path: Path,
    size: int | None = None,
    channels: int | None = None,
    background: str | None = None,
    crop: int | None = None,
) -> np.ndarray:
    """Read one image file as it is displayed (EXIF orientation applied).

    Args:
        path: the file.
        size: crop the largest centered square and resize it to this many pixels (bilinear,
            antialiased); None keeps the image as it is.
        channels: convert the image to grey (1: luma, ITU-R 601-2) or to color (3); None keeps it.
        background: color behind transparent pixels, by name or as "#rrggbb"; None refuses them.
        crop: first crop a square of this many pixels from the middle.

    Returns:
        uint8 ``(H, W)`` for grey images, ``(H, W, 3)`` for all others.

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
    """Return the image of a file in mode "L" or "RGB"; see ``read_image``."""
    from PIL import Image, ImageOps

    # What Pillow's plugins raise for broken files, in addition to OSError.
    unreadable = (
        OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error,
        OverflowError, MemoryError, RuntimeError, AttributeError, ZeroDivisionError,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    )  # fmt: skip
    try:
        if not path.stat().st_size:
            raise OSError("it is empty")
        with Image.open(path) as image:
            # A phone's MPO holds a preview next to its picture: several frames, but not an
            # animation.
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            deep = _is_reduced(image)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except unreadable as error:
        reason = " ".join(str(error).split()).replace(f" {str(path)!r}", "")
        raise UnusableImage(path, reason or f"damaged file ({type(error).__name__})") from error
    if frames > 1:
        raise UnusableImage(path, f"animated ({frames} frames)")
    if deep or image.mode.startswith(("I", "F")):
        raise UnusableImage(path, "more than 8 bits per channel")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise UnusableImage(path, f"color mode {image.mode}, neither RGB nor grey")
    grey = image.mode in ("1", "L", "LA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        return _opaque(image.convert("RGBA"), path, background, grey)
    return image.convert("L" if grey else "RGB")


def _is_reduced(image: PILImage) -> bool:
    """Return whether loading an image would silently reduce its values of 16 bits to 8.

    Pillow does that to colors. Its plan of how to read the file names the type of the values there.
    """
    plan: Any = getattr(image, "tile", ())
    arguments = [entry[3] if isinstance(entry[3], tuple) else (entry[3],) for entry in plan]
    if image.format == "PPM":
        return any(isinstance(value, int) and value > 255 for args in arguments for value in args)
    return image.format in ("PNG", "TIFF") and any(";16" in str(args[0]) for args in arguments)


def _opaque(image: PILImage, path: Path, background: str | None, grey: bool) -> PILImage:
    """Return an RGBA image without transparency, in front of the background where it has any."""
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


class FileList(Sequence[Path]):
    """Files below a folder, whose paths are made on demand.

    Making the paths of a million files takes seconds, and a second start does not need them.

    Args:
        folder: the folder.
        names: paths of the files, relative to it.
        others: paths of the pictures next to them whose format is not read, such as HEIC.

    >>> files = FileList(Path("photos"), ["a/1.png", "a/2.png", "b/1.png"])
    >>> files[1].name, len(files[:2]), [*files][2] == Path("photos/b/1.png")
    ('2.png', 2, True)
    """

    def __init__(self, folder: Path, names: Sequence[str], others: Sequence[str] = ()) -> None:
        self.folder, self.names, self.others = folder, names, others

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> FileList: ...

    def __getitem__(self, index: int | slice) -> Path | FileList:
        if isinstance(index, slice):
            return FileList(self.folder, self.names[index])
        return Path(self.folder, self.names[index])


def image_files(folder: Path) -> FileList:
    """Return the image files in a folder and its subfolders, sorted, without hidden ones.

    Links are followed, unless they lead back to a folder that they are in. A folder that cannot be
    read is left out, with a warning.
    """
    images: list[str] = []
    others: list[str] = []

    def look(inside: str, above: tuple[str, ...]) -> None:
        try:
            with os.scandir(folder / inside) as entries:
                here = sorted(entries, key=lambda entry: os.path.normcase(entry.name))
        except OSError as error:
            from realnvp.utils.progress import warn

            warn(f"{folder / inside} is left out, as it cannot be read: {error.strerror}")
            return
        for entry in here:
            if entry.name.startswith("."):
                continue
            if entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                images.append(inside + entry.name)
            elif entry.name.lower().endswith(_OTHERS):
                others.append(inside + entry.name)
            elif entry.is_dir():
                target = os.path.realpath(entry.path) if entry.is_symlink() else ""
                if not target or target not in above:
                    within = target or f"{above[-1]}{os.sep}{entry.name}"
                    look(inside + entry.name + os.sep, (*above, within))

    look("", (os.path.realpath(folder),))
    return FileList(folder, images, others)


@dataclass
class ImageStack:
    """The content of a sequence of image files: images of the size of the first one, stacked.

    Attributes:
        images: uint8 ``(M, C, H, W)``, one channel if all of them are grey, otherwise three.
        kept: indices of the files that they are from.
        bad: what is wrong with each file that cannot be used, and the alternative remedy, by index.
        odd: width and height of each image of another size, by index.
    """

    images: np.ndarray
    kept: list[int] = field(default_factory=list)
    bad: dict[int, tuple[str, str]] = field(default_factory=dict)
    odd: dict[int, tuple[int, int]] = field(default_factory=dict)


def stack(images: Iterable[np.ndarray | UnusableImage], count: int) -> ImageStack:
    """Stack images one by one, in memory of the size of the result.

    Args:
        images: ``(H, W)`` or ``(H, W, 3)``, or why a file cannot be used.
        count: number of images.

    >>> stacked = stack([np.zeros((4, 6), np.uint8), np.ones((4, 6, 3), np.uint8)], 2)
    >>> stacked.images.shape, stacked.kept, stacked.images[:, 0, 0, 0]
    ((2, 3, 4, 6), [0, 1], array([0, 1], dtype=uint8))
    """
    stacked = ImageStack(np.empty((0, 1, 0, 0), np.uint8))
    for i, image in enumerate(images):
        if isinstance(image, UnusableImage):
            stacked.bad[i] = image.reason, image.remedy
            continue
        pixels = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        kept = len(stacked.kept)
        if not kept:
            stacked.images = np.empty((count, *pixels.shape), np.uint8)
        if pixels.shape[1:] != stacked.images.shape[2:]:
            stacked.odd[i] = pixels.shape[2], pixels.shape[1]
            continue
        if len(pixels) > stacked.images.shape[1]:  # the first color image among grey ones
            grey, stacked.images = stacked.images, np.empty((count, *pixels.shape), np.uint8)
            stacked.images[:kept] = grey[:kept]
        stacked.images[kept] = pixels
        stacked.kept.append(i)
    stacked.images = stacked.images[: len(stacked.kept)]
    return stacked


def write_stack(files: Sequence[Path], path: Path, read: Reader) -> int:
    """Write the stacked images of files atomically, and return their number.

    Args:
        files: the files.
        path: file to write, without its suffixes: ``.npy`` has the images, and ``.json``, which is
            written last, the rest of ``ImageStack``.
        read: reads one of the files.
    """
    with no_bombs():
        stacked = stack((attempt(read, file) for file in files), len(files))
    with replacing(path.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
        # np.save loses the error of a full disk, if it occurs with the last bytes.
        header = np.lib.format.header_data_from_array_1_0(stacked.images)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(stacked.images.data)
    about = {"kept": stacked.kept, "bad": stacked.bad, "odd": stacked.odd}
    write_atomically(path.with_suffix(".json"), json.dumps(about).encode())
    return len(files)


def end_with(parent: int) -> None:
    """End this process soon after its parent, which cannot stop it if the parent itself is killed.

    Args:
        parent: id of the parent's process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    if hasattr(os, "fork"):  # elsewhere the id of the parent never changes
        threading.Thread(target=watch, daemon=True).start()


def attempt(read: Reader, path: Path) -> np.ndarray | UnusableImage:
    """Read an image file; returns the error of one that cannot be used."""
    try:
        return read(path)
    except UnusableImage as error:
        return error


@contextlib.contextmanager
def no_bombs() -> Iterator[None]:
    """Silence Pillow's warnings of odd metadata; files that would fill the memory are errors."""
    from PIL.Image import DecompressionBombWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DecompressionBombWarning)
        yield
