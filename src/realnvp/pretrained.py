"""Load models from a folder, a run directory, the Hugging Face Hub, or the package itself.

Models are untrusted: :mod:`realnvp.utils.model_folder` verifies them before they are used. Some
models come with the package, in ``weights/``: ``load("mnist")``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from realnvp.config import DataConfig
from realnvp.flow import Flow
from realnvp.interop.hub import PREFIX, fetch, parse_address
from realnvp.utils.errors import did_you_mean
from realnvp.utils.model_folder import load_folder, rebuild
from realnvp.utils.rounding import from_nine_bits
from realnvp.utils.serialization import unseal

if TYPE_CHECKING:
    from realnvp.columns.impossible import Tolerate
    from realnvp.columns.schema import TableSchema
    from realnvp.data.dataset import Part, Split
    from realnvp.data.tables import KnownColumns

__all__ = [
    "cards",
    "condition_names",
    "data_settings",
    "known_columns",
    "load",
    "load_folder",
    "load_shipped",
    "part_of_data",
    "rebuild",
    "shipped_names",
    "table_of",
    "unpack",
    "with_marks",
]

SHARED = "toy.safetensors"
"""File of the small models; each of the others has a file of its name, and only that is read."""

CALIBRATION = "#calibration/"
"""Separator of a shipped model's name and the names of its calibration's tensors."""


def load(model: str | Path) -> Flow:
    """Return a saved model, in evaluation mode, on the CPU.

    Args:
        model: a run directory, or a folder that ``save_pretrained`` wrote; or, if there is no such
            folder, the name of a model that comes with the package; or ``hf://owner/name``, or
            ``hf://owner/name@revision`` (a branch, a tag or a commit), of the Hugging Face Hub.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if its files are corrupt, or refer to a module that is not imported.
        OSError: if the hub cannot be reached.
        ModuleNotFoundError: for the hub, without ``pip install '.[hub]'``.

    >>> load("moons").sample(3).shape
    torch.Size([3, 2])
    """
    if str(model).startswith(PREFIX):
        folder = fetch(str(model))
        flow = load_folder(folder)
        repo, _ = parse_address(str(model))
        flow.origin, flow.source = "hub", f"{PREFIX}{repo}@{folder.name}"
        return flow
    folder = Path(model)
    if not folder.exists():
        if str(model) in _contents(_file_of(str(model))):
            return load_shipped(str(model))
        hint = did_you_mean(str(model), shipped_names())
        raise FileNotFoundError(
            f"there is no model {str(model)!r}: {hint}give a run directory, a saved model folder, "
            f"hf://owner/name, or one of {', '.join(shipped_names())}"
        )
    run_model = folder / "model"
    return load_folder(run_model if run_model.is_dir() else folder)


def table_of(flow: Flow, name: Literal["table", "condition_table"] = "table") -> TableSchema | None:
    """Return the columns of the table that a model was trained with, or None."""
    saved = None if flow.trained_on is None else getattr(flow.trained_on, name)
    if saved is None:
        return None
    from realnvp.columns.schema import TableSchema  # with pandas, which few models need

    return TableSchema.from_dict(saved)


def data_settings(flow: Flow) -> DataConfig | None:
    """Return the settings of the data that a model was trained with; None if there are none."""
    return None if flow.trained_on is None else flow.trained_on.data


def known_columns(flow: Flow, tolerate: Tolerate | None = None) -> KnownColumns:
    """Return what a model knows about its columns, for functions that read data."""
    from realnvp.data.tables import KnownColumns

    categories = None if flow.trained_on is None else flow.trained_on.categories
    tables = table_of(flow), table_of(flow, "condition_table")
    return KnownColumns(categories, *tables, tolerate)


def part_of_data(
    flow: Flow, part: Part | None = None, data: DataConfig | None = None
) -> tuple[Part, Split]:
    """Return the name and the examples of a part of the data that a model was trained with.

    Args:
        flow: the model.
        part: name of the part; None for the one that is reported.
        data: settings by which the data are found now; None for the recorded ones.

    Raises:
        ValueError: if the model does not record its data, or they have changed since.
        FileNotFoundError: if they are no longer where they were.
    """
    from realnvp.data import load_part

    if flow.trained_on is None:
        raise ValueError("the model does not record what it was trained on")
    data = data or flow.trained_on.data
    return load_part(data, part, flow.trained_on.fingerprint, known_columns(flow))


def with_marks(
    flow: Flow, split: Split, where: str, tolerate: Tolerate | None, start: int = 0
) -> Split:
    """Return rows in which values that a model of a table cannot have are marked.

    Args:
        flow: the model.
        split: the rows, as :func:`realnvp.data.load_examples` returns them.
        where: name of the table, for messages.
        tolerate: called with such values, if there are any; None raises.
        start: index of the first row in the table.

    Raises:
        ValueError: if there are such values, and nothing to be called with them.
    """
    from realnvp.columns.impossible import impossible_text
    from realnvp.inputs import impossible_values

    columns = flow.columns
    if columns is None:
        return split
    impossible = impossible_values(columns, split.x, flow.column_names, where)
    if not impossible:
        return split
    if split.rows is not None:  # of the file
        impossible = [replace(e, rows=split.rows[list(e.rows)].tolist()) for e in impossible]
    if tolerate is None:
        raise ValueError(f"{where} does not fit the model: {impossible_text(impossible)}")
    tolerate([each.from_row(start, where) for each in impossible])
    return replace(split, x=columns.mark(split.x))


def condition_names(flow: Flow) -> list[str]:
    """Return the names of the columns that a model of a table is conditioned on."""
    schema = table_of(flow, "condition_table")
    if schema is not None:
        return list(schema.names)
    config = data_settings(flow)
    return [config.condition] if config is not None and config.condition else []


def unpack(content: bytes) -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """Return the models of a file that ``tools/ship.py`` wrote.

    Returns:
        settings with card, and tensors in float32, by name. The entry "calibration" holds the
        tensors of the calibration, or None.
    """
    tensors, data = unseal(content)

    def below(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}

    models = {}
    for name, entry in data["models"].items():
        wide = {
            key: tensor.float() if tensor.dtype == torch.float16 else tensor
            for key, tensor in from_nine_bits(below(f"{name}/")).items()
        }
        models[name] = {**entry, "calibration": below(f"{name}{CALIBRATION}") or None}, wide
    return models


def _files() -> list[str]:
    """Return the names of the files of models that come with the package."""
    names = [file.name for file in (files("realnvp") / "weights").iterdir()]
    return [name for name in names if name.endswith(".safetensors")]


def _file_of(model: str) -> str:
    """Return the name of the file that a shipped model is in, if there is such a model."""
    file = f"{model}.safetensors"
    return file if file in _files() else SHARED


@cache
def _contents(file: str) -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """Return settings with card, and tensors, of the models in a shipped file."""
    return unpack((files("realnvp") / "weights" / file).read_bytes())


def shipped_names() -> list[str]:
    """Return the names of the models that come with the package.

    >>> "moons" in shipped_names()
    True
    """
    return sorted(name for file in _files() for name in _contents(file))


def cards() -> dict[str, dict[str, Any]]:
    """Return the card of every shipped model: data, quality, training and curve, by name."""
    return {name: _contents(_file_of(name))[name][0]["card"] for name in shipped_names()}


def load_shipped(name: str) -> Flow:
    """Return a model that comes with the package, in evaluation mode."""
    entry, tensors = _contents(_file_of(name))[name]
    flow = rebuild(entry["settings"], tensors, f"the shipped model {name}")
    flow.origin, flow.source = "shipped", name
    flow.calibration = entry["calibration"]
    return flow


def quality(card: dict[str, Any]) -> str:
    """Return the result on the card of a shipped model, with its standard error.

    >>> quality(cards()["moons"]).split()[0]
    'KL'
    """
    name, kl = ("KL ", "kl") if "kl" in card else ("", "value")
    error = card["kl_standard_error" if name else "standard_error"]
    return f"{name}{card[kl]:.4f} ± {error:.4f} {card['unit']}"
