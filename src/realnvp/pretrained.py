"""Saved models: ``config.json`` and ``model.safetensors`` in a folder, never a pickle.

A model may come from anybody, so nothing in it is used before it is verified: the weights carry a
checksum of themselves and of ``config.json``; the builder's arguments are checked like a user's;
and the model is first built without memory, to compare its tensors with those in the file, so that
a huge number in ``config.json`` asks for nothing. During a training ``config.json`` stays as it is,
and the weights are replaced whole: at every moment the folder holds a valid model.

Some models come with the package, in `weights`: ``load("mnist")``.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realnvp import architectures
from realnvp.config import DataConfig, with_new_names
from realnvp.flow import Flow
from realnvp.utils.files import write_atomically
from realnvp.utils.serialization import check_like, parse_json, seal, unseal

__all__ = [
    "cards",
    "load",
    "load_folder",
    "load_shipped",
    "pack",
    "rebuild",
    "save",
    "settings_of",
    "shipped_names",
    "unpack",
]

CONFIG = "config.json"


WEIGHTS = "model.safetensors"


BUILDERS = ("image_flow", "vector_flow")


LAYERS = ("scales", "steps", "couplings", "blocks")  # arguments that count layers


CONFIG_LIMIT = 16_000_000  # bytes


def settings_of(flow: Flow) -> dict[str, Any]:
    """What is saved beside the weights, from which the model can be rebuilt.

    Raises:
        ValueError: if the flow was not made by a builder, so that nothing says how to rebuild it.
    """
    if flow.config is None:
        raise ValueError(
            "only flows made by image_flow or vector_flow can be saved: "
            "nothing tells how to rebuild this one; save its state_dict instead"
        )
    return {"model_type": "realnvp", **flow.config, "trained_on": flow.trained_on}


def save(flow: Flow, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write the model into a folder, which is made if needed.

    Args:
        flow: made by a builder.
        folder: for the two files, which are replaced if they are there.
        weights: to save instead of the flow's own, by the same names.

    Raises:
        ValueError: if the flow was not made by a builder, so that nothing says how to rebuild it.
        OSError: if the files cannot be written.
    """
    settings = settings_of(flow)
    weights = flow.state_dict() if weights is None else weights
    tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    config = json.dumps(settings, indent=2).encode() + b"\n"
    content = seal(tensors, {"config_sha256": hashlib.sha256(config).hexdigest()})
    write_atomically(folder / CONFIG, config)
    write_atomically(folder / WEIGHTS, content)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors, after both files were verified."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no saved model: {name} is missing")
    path = folder / CONFIG
    if path.stat().st_size > CONFIG_LIMIT:
        raise ValueError(f"{path} does not describe a realnvp model: it is too large")
    text = path.read_bytes()
    try:
        config = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} is corrupt: {error}") from error
    try:
        tensors, data = unseal((folder / WEIGHTS).read_bytes())
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be used: {error}") from error
    if hashlib.sha256(text).hexdigest() != data.get("config_sha256"):
        raise ValueError(
            f"{path} does not belong to {WEIGHTS}: by its checksum it was changed, or is another "
            f"model's"
        )
    return config, tensors


def _check_trained_on(value: Any) -> None:
    """What commands read from it is what a training wrote."""
    if value is None:
        return
    lists = [value.get(name) for name in ("columns", "categories")]
    for names in lists:
        if names is not None and not all(isinstance(name, str) for name in names):
            raise ValueError("the names of columns and categories must be text")
    DataConfig(**value["data"])


def load_folder(folder: Path) -> Flow:
    """Rebuild the model saved in a folder, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: if the folder has no saved model.
        ValueError: if its files are corrupt, or do not belong together.
    """
    return rebuild(*_read(folder), f"the model in {folder}")


def rebuild(config: Any, tensors: dict[str, Tensor], what: str) -> Flow:
    """The model of some settings and weights, in evaluation mode, on the CPU.

    Args:
        config: of :func:`settings_of`; it may come from anybody.
        tensors: the weights by name.
        what: it is, for messages.

    Raises:
        ValueError: if they are not those of a model.
    """
    if (
        not isinstance(config, dict)
        or config.get("builder") not in BUILDERS
        or not isinstance(config.get("arguments"), dict)
    ):
        raise ValueError(f"{what} cannot be rebuilt: its config does not describe one of realnvp")
    build, arguments = (
        getattr(architectures, config["builder"]),
        with_new_names(config["arguments"], config["builder"].partition("_")[0]),
    )
    double = any(t.dtype == torch.float64 for t in tensors.values())
    try:
        for name in LAYERS:
            if isinstance(arguments.get(name), int) and arguments[name] > len(tensors):
                raise ValueError(f"{name} is more than there are tensors")
        _check_trained_on(config.get("trained_on"))
        with torch.device("meta"):
            empty = build(**arguments)
        # RuntimeError and OverflowError: sizes that no memory could have
        check_like(tensors, (empty.double() if double else empty).state_dict(), "the tensor")
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ValueError(f"{name} has values that are not finite")
        flow: Flow = build(**arguments)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{what} cannot be rebuilt: {reason}") from error
    flow = flow.double() if double else flow
    flow.load_state_dict(tensors)
    flow.trained_on = config.get("trained_on")
    return flow.eval()


def load(model: str | Path) -> Flow:
    """The model of a run folder or of a saved model folder, or a shipped one, in evaluation mode.

    Args:
        model: a folder that a training left, or one that ``save_pretrained`` wrote; or the name of
            a model that comes with the package, if there is no such folder.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if its files are corrupt.
    """
    folder = Path(model)
    if not folder.exists():
        from realnvp.pretrained import load_shipped, shipped_names

        names = shipped_names()
        if str(model) in names:
            return load_shipped(str(model))
        raise FileNotFoundError(
            f"there is no model {str(model)!r}: give a run folder, a saved model folder, or one "
            f"of {', '.join(names)}"
        )
    run_model = folder / "model"
    return load_folder(run_model if run_model.is_dir() else folder)


def pack(models: dict[str, tuple[Flow, dict[str, Any]]]) -> bytes:
    """The content of a file of models.

    Args:
        models: by name, each with its card.
    """
    tensors: dict[str, Tensor] = {}
    data: dict[str, Any] = {}
    for name, (flow, card) in models.items():
        for key, tensor in flow.state_dict().items():
            narrow = tensor.ndim > 1 and tensor.dtype == torch.float32
            tensors[f"{name}/{key}"] = (tensor.half() if narrow else tensor).contiguous()
        data[name] = {"settings": settings_of(flow), "card": card}
    return seal(tensors, {"models": data})


def unpack(content: bytes) -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """The inverse of :func:`pack`: settings with card, and tensors in float32, by name."""
    tensors, data = unseal(content)
    found = {}
    for name, entry in data["models"].items():
        prefix = f"{name}/"
        own = {k[len(prefix) :]: t for k, t in tensors.items() if k.startswith(prefix)}
        wide = {k: t.float() if t.dtype == torch.float16 else t for k, t in own.items()}
        found[name] = (entry, wide)
    return found


@cache
def _contents() -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """Settings with card, and tensors, of every model."""
    found = {}
    for file in (files("realnvp") / "weights").iterdir():
        if file.name.endswith(".safetensors"):
            found.update(unpack(file.read_bytes()))
    return dict(sorted(found.items()))


def shipped_names() -> list[str]:
    """The names that :func:`realnvp.load` knows."""
    return list(_contents())


def cards() -> dict[str, dict[str, Any]]:
    """The card of every model, by name."""
    return {name: entry["card"] for name, (entry, _) in _contents().items()}


def load_shipped(name: str) -> Flow:
    """The model of this name, in evaluation mode."""
    entry, tensors = _contents()[name]
    return rebuild(entry["settings"], tensors, f"the shipped model {name}")
