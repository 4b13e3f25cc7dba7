"""Files that visitors upload, fitted to a model, with a note of what was done to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from realnvp.columns.impossible import Impossible, impossible_text
from realnvp.config import DataConfig
from realnvp.data import Split, load_examples
from realnvp.data.images import fit_image
from realnvp.data.sources import config_for_source
from realnvp.flow import Flow
from realnvp.pretrained import data_settings, known_columns, with_marks
from realnvp.utils.errors import describe
from realnvp.utils.image_files import SUFFIXES

__all__ = ["read_uploads"]

MOST = 64
"""Largest number of images per upload."""


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
    if flow.levels is None:
        raise ValueError("this is a model of vectors: upload a table, .csv, .npz or .npy")
    with _by_own_name(path):
        return fit_image(path, flow.shape, flow.levels, invert)


@contextmanager
def _by_own_name(path: Path) -> Iterator[None]:
    """Name an upload in errors as its visitor does, not by its temporary path."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(describe(error).replace(str(path), path.name)) from error
