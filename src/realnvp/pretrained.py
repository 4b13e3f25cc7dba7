"""Load models from a folder, a run directory, the Hugging Face Hub, or the package itself.

Models are untrusted, so nothing in them is used before it is verified. The builder is a
registered one, whose arguments are checked like a user's. The model is first built without memory,
and its tensors are compared with those in the file's header: a huge number in ``config.json`` or a
huge file allocate nothing. Then the weights are read, compared with their checksum, and checked by
the layers that they are for.

Some models come with the package, in ``weights/``: ``load("mnist")``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from realnvp.config import DataConfig
from realnvp.flow import CONDITION_UNITS, Flow
from realnvp.interop.hub import PREFIX, fetch, parse_address
from realnvp.utils.errors import did_you_mean
from realnvp.utils.model_folder import read_calibration, read_config, read_sizes, read_weights
from realnvp.utils.registry import BUILDERS
from realnvp.utils.rounding import from_nine_bits
from realnvp.utils.serialization import check_like, unseal
from realnvp.utils.settings import as_list

if TYPE_CHECKING:
    from realnvp.columns.impossible import Tolerate
    from realnvp.columns.schema import TableSchema
    from realnvp.data.dataset import Split
    from realnvp.data.tables import KnownColumns

__all__ = [
    "cards",
    "condition_names",
    "data_settings",
    "known_columns",
    "load",
    "load_folder",
    "load_shipped",
    "rebuild",
    "shipped_names",
    "table_of",
    "unpack",
    "with_marks",
]

LAYERS = ("scales", "steps", "couplings", "blocks")
"""Arguments of builders that count layers."""

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


def table_of(flow: Flow, name: str = "table") -> TableSchema | None:
    """Return the columns of the table that a model was trained with, or None."""
    saved = (flow.trained_on or {}).get(name)
    if saved is None:
        return None
    from realnvp.columns.schema import TableSchema  # with pandas, which few models need

    return TableSchema.from_dict(saved)


def data_settings(flow: Flow) -> DataConfig | None:
    """Return the settings of the data that a model was trained with; None if there are none."""
    saved = (flow.trained_on or {}).get("data")
    return DataConfig(**saved) if saved else None


def known_columns(flow: Flow, tolerate: Tolerate | None = None) -> KnownColumns:
    """Return what a model knows about its columns, for functions that read data."""
    from realnvp.data.tables import KnownColumns

    known = flow.trained_on or {}
    return KnownColumns(
        known.get("columns"), known.get("categories"), table_of(flow),
        table_of(flow, "condition_table"), tolerate,
    )  # fmt: skip


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
    found = impossible_values(columns, split.x, flow.column_names, where)
    if not found:
        return split
    if tolerate is None:
        raise ValueError(f"{where} does not fit the model: {impossible_text(found)}")
    tolerate([each.from_row(start, where) for each in found])
    return replace(split, x=columns.mark(split.x))


def condition_names(flow: Flow) -> list[str]:
    """Return the names of the columns that a model of a table is conditioned on."""
    schema = table_of(flow, "condition_table")
    if schema is not None:
        return list(schema.names)
    config = data_settings(flow)
    return [config.condition] if config is not None and config.condition else []


def load_folder(folder: Path) -> Flow:
    """Return the model that is saved in a folder, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: if the folder has no saved model.
        ValueError: if its files are corrupt, or do not belong together.
    """
    config, checksum = read_config(folder)
    what = f"the model in {folder}"
    build = _prepare(config, read_sizes(folder, checksum), what)
    flow = _fill(build, read_weights(folder, checksum), what)
    is_run = (
        folder.absolute().name == "model" and (folder.absolute().parent / "config.yaml").is_file()
    )
    flow.origin, flow.source = "run" if is_run else "folder", str(folder)
    flow.calibration = read_calibration(folder)
    return flow


def rebuild(config: Any, tensors: dict[str, Tensor], what: str) -> Flow:
    """Return the model of some settings and weights, in evaluation mode, on the CPU.

    Args:
        config: the settings, as :meth:`realnvp.Flow.settings` returns them; unverified.
        tensors: the weights by name.
        what: name of the model, for messages.

    Raises:
        ValueError: if they are not those of a model.
    """
    return _fill(_prepare(config, tensors, what), tensors, what)


def check_rebuildable(flow: Flow) -> None:
    """Raise ValueError unless a flow has the layers that its builder makes from its settings.

    Layers that were added or exchanged since would be missing after loading.

    >>> from realnvp import Chain, vector_flow
    >>> flow = vector_flow(2)
    >>> _ = flow.bijection.layers.append(Chain())
    >>> check_rebuildable(flow)
    Traceback (most recent call last):
    ValueError: the flow cannot be saved: it was changed after vector_flow had made it, ...
    """
    settings = {**flow.settings(), "trained_on": None, "made_with": None}
    build = _prepare(json.loads(json.dumps(settings)), flow.state_dict(), "the flow")
    with torch.device("meta"):
        made = build()
    if _layers(flow) != _layers(made):
        raise ValueError(
            f"the flow cannot be saved: it was changed after {flow.settings()['builder']} had made "
            "it, and would be rebuilt without the change; make it by a function of your own with "
            "@realnvp.register_builder"
        )


def _layers(flow: Flow) -> list[tuple[str, type, str]]:
    """Return name, type and mask of each module."""
    named = flow.named_modules()
    return [(name, type(each), str(getattr(each, "mask", ""))) for name, each in named]


def _prepare(config: Any, sizes: dict[str, Tensor], what: str) -> Callable[[], Flow]:
    """Check settings against the sizes of the weights; return what builds the untrained model."""
    if (
        not isinstance(config, dict)
        or not isinstance(config.get("builder"), str)
        or not isinstance(config.get("arguments"), dict)
    ):
        raise ValueError(f"{what} cannot be rebuilt: its config does not describe a realnvp model")

    def build() -> Flow:
        flow: Flow = BUILDERS[config["builder"]](**arguments)
        flow.trained_on, flow.made_with = config.get("trained_on"), config.get("made_with")
        own = flow.state_dict()
        # Of the types that differ, one decides: tensors that are float64 in every flow stay so.
        differ = (
            t.dtype
            for n, t in _with_wide_units(sizes).items()
            if n in own and own[n].dtype != t.dtype
        )
        other = next((d for d in differ if d in (torch.float32, torch.float64)), None)
        return flow if other is None else flow.to(other)

    try:
        arguments = config["arguments"]
        for name in LAYERS:
            counts = as_list(arguments.get(name))
            if sum(n for n in counts if isinstance(n, int)) > len(sizes):
                raise ValueError(f"{name} is more than there are tensors")
        with torch.device("meta"):
            empty = build()
        _check_trained_on(empty)
        check_like(_with_wide_units(sizes), empty.state_dict())
    # What a builder may raise for untrusted arguments; a RuntimeError or an OverflowError
    # for sizes that no memory could have.
    except (
        ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
        ValueError,
    ) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{what} cannot be rebuilt: {reason}") from error
    return build


def _fill(build: Callable[[], Flow], tensors: dict[str, Tensor], what: str) -> Flow:
    """Build the model, and fill in weights whose sizes have been checked."""
    flow = build()
    tensors = _with_wide_units(tensors)
    try:
        check_like(tensors, flow.state_dict())
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ValueError(f"{name} has values that are not finite")
        flow.load_state_dict(tensors)
        for name, module in flow.named_modules():
            check = getattr(module, "check_values", None)
            if check is not None:
                try:
                    check()
                except ValueError as error:
                    where = f"in the layer {name}, " if name else ""  # the flow has checks, too
                    raise ValueError(f"{where}{error}") from error
    except ValueError as error:
        raise ValueError(f"{what} cannot be rebuilt: {error}") from error
    return flow.eval()


def _with_wide_units(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with the units of a condition in float64, which Apple's GPUs do not have."""
    units = {name: tensors[name].double() for name in CONDITION_UNITS if name in tensors}
    return tensors | units


def _check_trained_on(flow: Flow) -> None:
    """Raise ValueError unless the notes on a model's data have the form that commands expect."""
    for name, notes in (("made_with", flow.made_with), ("trained_on", flow.trained_on)):
        if notes is not None and not isinstance(notes, dict):
            raise ValueError(f"{name} must be a mapping, got a {type(notes).__name__}")
    for value in (flow.made_with or {}).values():
        if value is not None and not (isinstance(value, str) and len(value) <= 200):
            raise ValueError("the notes of made_with must be short text")
    if flow.trained_on is None:
        return
    data = flow.trained_on.get("data")
    if not isinstance(data, dict):
        raise ValueError("trained_on must have the settings of the data")
    DataConfig(**data)
    fingerprint = flow.trained_on.get("fingerprint") or {}
    if not isinstance(fingerprint, dict) or not all(
        isinstance(value, str) for value in fingerprint.values()
    ):
        raise ValueError("the fingerprint of trained_on must be text by part of the data")
    counts = {"columns": flow.dim if len(flow.shape) == 1 else None, "categories": flow.classes}
    for name, count in counts.items():
        values = flow.trained_on.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"the {name} of trained_on must be a list of text")
        if count is not None and len(values) != count:
            raise ValueError(f"trained_on must name {count} {name}, got {len(values)}")


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
    own = f"{model}.safetensors"
    return own if own in _files() else SHARED


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
