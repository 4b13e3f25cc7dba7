"""Data sets saved by the library ``datasets`` of Hugging Face: images, or the columns of a table.

``dataset.save_to_disk(folder)`` writes Arrow files, in shards. They are read through that library.
Images are decoded like files, large numbers of them once, into the cache; a set without images is a
table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from realnvp.data.dataset import Part
from realnvp.data.images import ImageFiles
from realnvp.data.labels import parse_labels
from realnvp.data.parts import Parts
from realnvp.data.tables import KnownColumns, table_parts
from realnvp.utils.errors import some_of
from realnvp.utils.image_files import background_color, is_name, open_saved_set, read_saved_image

if TYPE_CHECKING:
    from realnvp.config import DataConfig

__all__ = ["has_images", "is_saved_set", "read_saved_set"]

_NAMES: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""Names of splits by part."""


def is_saved_set(path: Path) -> bool:
    """Return whether a folder is what ``save_to_disk`` writes, of one split or of several."""
    single = ("state.json", "dataset_info.json")
    return (path / "dataset_dict.json").is_file() or all((path / n).is_file() for n in single)


def has_images(path: Path) -> bool:
    """Return whether a saved set has a column of images."""
    return any(
        isinstance(feature, dict) and feature.get("_type") == "Image"
        for feature in _features(path / next(iter(_splits(path).values()))).values()
    )


def _splits(path: Path) -> dict[Part, str]:
    """Return the folders of the parts of a set; "" is that of a single one."""
    if not (path / "dataset_dict.json").is_file():
        return {"train": ""}
    names = _json(path / "dataset_dict.json").get("splits")
    names = names if isinstance(names, list) else []
    # A stranger's set may name folders elsewhere.
    names = [name for name in names if isinstance(name, str) and is_name(name)]
    found: dict[Part, str] = {}
    for part, known in _NAMES.items():
        name = next((name for name in known if name in names), None)
        if name is not None:
            found[part] = name
    if "train" in found:
        return found
    if len(names) == 1:
        return {"train": names[0]}
    raise ValueError(
        f"{path} has no split called train: give one of its folders, {some_of(names) or 'none'}"
    )


def _features(folder: Path) -> dict[str, Any]:
    found = _json(folder / "dataset_info.json").get("features")
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return found if isinstance(found, dict) else {}


def read_saved_set(path: Path, config: DataConfig, known: KnownColumns) -> Parts:
    """Read a set that ``save_to_disk`` has written.

    Splits called train, validation and test are the set's own parts. The labels of images are a
    column of classes, or the column that the density is conditioned on.

    Args:
        path: the folder.
        config: settings, those of images or those of tables.
        known: the columns of a table, and the names of labels, that a model knows.

    Raises:
        ValueError: if the library is not installed, or the set is damaged or cannot be modeled.
    """
    splits = _splits(path)
    if has_images(path):
        return _images(path, splits, config, known.categories)
    frames = {}
    for part, split in splits.items():
        frames[part] = open_saved_set(str(path / split)).to_pandas()
    import pandas as pd

    everything = pd.concat(list(frames.values()), ignore_index=True)
    whole = table_parts(everything, str(path), config, known)
    if len(frames) == 1:
        return whole
    known = known.with_schema(whole)
    read = {
        part: table_parts(frame, f"{path / splits[part]}", config, known).train
        for part, frame in frames.items()
    }
    return replace(
        whole, train=read["train"], validation=read.get("validation"), test=read.get("test")
    )


def _images(
    path: Path, splits: dict[Part, str], config: DataConfig, categories: Sequence[str] | None
) -> Parts:
    if config.background is not None:
        background_color(config.background)
    found, names = {}, None
    known = categories if config.condition is not None else None
    for part, split in splits.items():
        folder = path / split
        features = _features(folder)
        columns = [name for name, f in features.items() if f.get("_type") == "Image"]
        if len(columns) != 1:
            raise ValueError(f"{folder} has {len(columns)} columns of images, not one")
        rows = open_saved_set(str(folder))
        if not len(rows):
            raise ValueError(f"{folder} has no rows")
        read = partial(
            read_saved_image,
            column=columns[0],
            size=config.size,
            channels=config.channels,
            background=config.background,
            crop=config.crop,
        )
        label = _label_column(folder, features, config.condition)
        labels = None
        if label is not None:
            values = _labels(rows, label, features[label].get("names"))
            labels, own = parse_labels(values, f"{label!r} of {folder}", known or names)
            names = own if names is None else names
        files = [folder / str(row) for row in range(len(rows))]
        found[part] = ImageFiles(folder, files, read, labels, version=rows._fingerprint)
    parts = {part: partial(held.split, config) for part, held in found.items()}
    return Parts(parts["train"], parts.get("validation"), parts.get("test"), categories=names)


def _label_column(folder: Path, features: dict[str, Any], condition: str | None) -> str | None:
    """Return the column of labels, if there is one."""
    if condition not in (None, "label"):
        if condition not in features:
            raise ValueError(
                f"{folder} has no column {condition!r}; its columns are {some_of([*features])}"
            )
        return condition
    classes = [name for name, f in features.items() if f.get("_type") == "ClassLabel"]
    if "label" in features:
        return "label"
    return classes[0] if len(classes) == 1 else None


def _labels(rows: Any, label: str, names: Sequence[str] | None) -> np.ndarray:
    values = rows.select_columns([label]).to_pandas()[label].to_numpy()
    if names is None:
        return values
    if (values < 0).any():
        raise ValueError(f"column {label!r} has rows without a label: leave them out")
    return np.array([names[i] for i in values.tolist()], dtype=object)
