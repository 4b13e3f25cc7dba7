"""Files that visitors upload, fitted to a model, with a note of what was done to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from realnvp.columns.impossible import Impossible, impossible_text
from realnvp.config import DataConfig
from realnvp.data import Split, load_examples
from realnvp.data.sources import config_for_source
from realnvp.flow import Flow
from realnvp.pretrained import data_settings, known_columns, with_marks
from realnvp.utils.errors import describe
from realnvp.utils.image_files import SUFFIXES, open_image

__all__ = ["fit_image", "read_uploads"]

MOST = 64
"""Largest number of images per upload."""


def fit_image(path: Path, flow: Flow, invert: bool = False) -> tuple[Tensor, str]:
    """Return an image in the form that a model takes, and a note of the changes.

    Args:
        path: file of the image.
        flow: model of images.
        invert: exchange dark and light.

    Returns:
        integers ``(1, *shape)``, and a sentence.

    Raises:
        ValueError: if the file is not an image, or the model is not one of images.
    """
    if flow.levels is None:
        raise ValueError("this is a model of vectors: upload a table, .csv, .npz or .npy")
    channels, height, width = flow.shape
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
    if flow.levels != 256:
        # As a grid of images shows them: level 0 is black, the highest one white.
        kind = np.uint8 if flow.levels <= 256 else np.int32
        pixels = np.rint(pixels * ((flow.levels - 1) / 255)).astype(kind)
        done.append(f"rounded to {flow.levels} grey levels")
    note = f"{path.name}: {', '.join(done) or 'taken as it is'}"
    return torch.from_numpy(pixels.copy())[None], note


def read_uploads(
    files: Sequence[str], flow: Flow, invert: bool = False
) -> tuple[Split, list[str], str]:
    """Return uploaded examples, a name for each, and what was done to them.

    Args:
        files: paths of images, or of one table or array.
        flow: model that is to take them.
        invert: exchange dark and light in images.

    Raises:
        ValueError: if there are none, or they do not fit the model, with the message of ``realnvp
            score``.
    """
    if not files:
        raise ValueError("upload a file first")
    paths = [Path(file) for file in files]
    if all(path.suffix.lower() in SUFFIXES for path in paths):
        fitted = [_fitted(path, flow, invert) for path in paths[:MOST]]
        x = torch.cat([image for image, _ in fitted])
        notes = [note for _, note in fitted]
        if len(paths) > MOST:
            notes.append(f"the other {len(paths) - MOST:,} images are left out, {MOST} is the most")
        return Split(x), [path.name for path in paths[:MOST]], "; ".join(notes)
    if len(paths) > 1:
        raise ValueError("upload images, or one table or array")
    config = config_for_source(data_settings(flow) or DataConfig(), str(paths[0]))
    impossible: list[Impossible] = []
    with _by_own_name(paths[0]):
        split = load_examples(
            config,
            known_columns(flow, impossible.extend),
            shape=flow.shape,
            levels=flow.levels,
            classes=flow.classes,
        )
        split = with_marks(flow, split, paths[0].name, impossible.extend)
    note = f"{len(split):,} examples"
    if impossible:
        note += f"; some have a likelihood of 0: {impossible_text(impossible)}"
    rows = range(len(split)) if split.rows is None else split.rows.tolist()
    return split, [f"row {i}" for i in rows], note.replace(str(paths[0]), paths[0].name)


def _fitted(path: Path, flow: Flow, invert: bool) -> tuple[Tensor, str]:
    with _by_own_name(path):
        return fit_image(path, flow, invert)


@contextmanager
def _by_own_name(path: Path) -> Iterator[None]:
    """Name an upload in errors as its visitor does, not by its temporary path."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(describe(error).replace(str(path), path.name)) from error
