"""Saved models: ``config.json`` and ``model.safetensors`` in a folder, never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

import realnvp.builders
from realnvp.models import Flow

__all__ = ["load", "load_folder", "save", "write_atomically"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
BUILDERS = ("image_flow", "vector_flow")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file such that whatever happens, there is the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save(flow: Flow, folder: Path) -> None:
    """Write the model into a folder, which is made if needed.

    Raises:
        ValueError: if the flow was not made by a builder, so that nothing says how to rebuild it.
    """
    if flow.config is None:
        raise ValueError(
            "only flows made by image_flow or vector_flow can be saved: "
            "nothing tells how to rebuild this one; save its state_dict instead"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in flow.state_dict().items()
    }
    content = to_bytes(tensors)
    config = {
        "model_type": "realnvp",
        **flow.config,
        "trained_on": flow.trained_on,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(folder / WEIGHTS, content)
    write_atomically(folder / CONFIG, json.dumps(config, indent=2).encode() + b"\n")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: the model folder is corrupt") from error
    if (
        not isinstance(config, dict)
        or config.get("builder") not in BUILDERS
        or not isinstance(config.get("arguments"), dict)
    ):
        raise ValueError(f"{path} does not describe a realnvp model")
    return config


def load_folder(folder: Path) -> Flow:
    """Rebuild the model saved in a folder, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: if the folder has no saved model.
        ValueError: if its files are corrupt, or do not belong together.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no saved model: {name} is missing")
    config = _read_config(folder)
    content = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != config.get("sha256"):
        raise ValueError(
            f"{folder / WEIGHTS} does not match the checksum in {CONFIG}: it is corrupt, "
            f"or belongs to another model"
        )
    arguments = config["arguments"]
    try:
        flow: Flow = getattr(realnvp.builders, config["builder"])(**arguments)
        tensors = from_bytes(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the model in {folder} cannot be rebuilt: {error}") from error
    if any(t.dtype == torch.float64 for t in tensors.values()):
        flow = flow.double()
    try:
        flow.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"the weights in {folder} do not fit its {CONFIG}: {reason}") from error
    flow.trained_on = config.get("trained_on")
    return flow.eval()


def load(model: str | Path) -> Flow:
    """The model of a run folder or of a saved model folder, in evaluation mode.

    Args:
        model: a folder that a training left, or one that ``save_pretrained`` wrote.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if its files are corrupt.
    """
    folder = Path(model)
    if not folder.exists():
        raise FileNotFoundError(
            f"there is no model {str(model)!r}: give a run folder or a saved model folder"
        )
    run_model = folder / "model"
    return load_folder(run_model if run_model.is_dir() else folder)
