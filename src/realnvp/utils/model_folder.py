"""The files of a saved model: ``config.json`` and ``model.safetensors``, never a pickle.

The settings describe how to build the model, and the weights fill it. The weights carry a checksum
of themselves and of ``config.json``, so that files that do not belong together are detected. A
folder may come from an untrusted source: no weights are read before their size is known to match
the settings.

A third file, ``calibration.safetensors``, belongs to the weights whose checksum it carries; with
other weights it is ignored.

During training ``config.json`` does not change, and the weights are replaced atomically: the folder
holds a valid model at every moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realnvp.utils.files import hash_file, write_atomically
from realnvp.utils.serialization import parse_json, peek, seal, unseal

__all__ = [
    "made_with",
    "physical_memory",
    "read_calibration",
    "read_config",
    "read_sizes",
    "read_weights",
    "write_calibration",
    "write_model",
]

CONFIG = "config.json"


WEIGHTS = "model.safetensors"


CALIBRATION = "calibration.safetensors"


CONFIG_LIMIT = 4_000_000
"""Largest ``config.json`` in bytes: parsed, it takes about twenty times as much memory."""


CALIBRATION_LIMIT = 256_000_000
"""Largest ``calibration.safetensors`` in bytes."""


def write_model(
    folder: Path,
    settings: dict[str, Any],
    weights: dict[str, Tensor],
    calibration: dict[str, Tensor] | None = None,
) -> None:
    """Write the files of a model, each atomically.

    If the folder has the same settings already, their note ``made_with`` is kept.

    Args:
        folder: folder to write into, made if needed.
        settings: JSON.
        weights: tensors by name, on any device.
        calibration: tensors of a calibration, if there is one.

    Raises:
        ValueError: if the settings are not JSON.
        OSError: if the files cannot be written.
    """
    if settings.get("made_with") is None:
        settings = {**settings, "made_with": _note_in(folder, settings) or made_with()}
    try:
        config = json.dumps(settings, indent=2).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the model's settings are not JSON: {error}") from error
    if len(config) > CONFIG_LIMIT:
        raise ValueError(
            f"the model's settings take {len(config):,} bytes, more than the {CONFIG_LIMIT:,} that "
            f"can be read: shorten what is kept in trained_on"
        )
    tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    content = seal(tensors, {"config_sha256": hashlib.sha256(config).hexdigest()})
    write_atomically(folder / CONFIG, config)
    write_atomically(folder / WEIGHTS, content)
    if calibration is not None:
        write_calibration(folder, calibration)


def write_calibration(folder: Path, calibration: dict[str, Tensor]) -> None:
    """Write the calibration of the model in a folder.

    Raises:
        OSError: if it cannot be written, or there is no model.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in calibration.items()}
    content = seal(tensors, {"weights_sha256": _sha256(folder / WEIGHTS)})
    write_atomically(folder / CALIBRATION, content)


def read_calibration(folder: Path) -> dict[str, Tensor] | None:
    """Return the calibration of the model in a folder; None if its weights have none.

    Raises:
        ValueError: if the file is damaged, or too large.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    if path.stat().st_size > CALIBRATION_LIMIT:
        raise ValueError(f"{path} cannot be used: it is too large")
    try:
        tensors, data = unseal(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    return tensors if data.get("weights_sha256") == _sha256(folder / WEIGHTS) else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    hash_file(path, digest)
    return digest.hexdigest()


def _note_in(folder: Path, settings: dict[str, Any]) -> Any:
    """Return the note ``made_with`` of a folder with the same settings, or None."""
    try:
        saved, _ = read_config(folder)
        same = json.loads(json.dumps({**settings, "made_with": None}))
    except (OSError, TypeError, ValueError, RecursionError):
        return None
    if not isinstance(saved, dict) or {**saved, "made_with": None} != same:
        return None
    return saved.get("made_with")


def read_config(folder: Path) -> tuple[Any, str]:
    """Return the settings of a saved model, not yet checked, and the checksum of their text.

    Raises:
        FileNotFoundError: if the folder has no saved model.
        ValueError: if the file is not JSON, or too large.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no saved model: {name} is missing")
    path = folder / CONFIG
    with path.open("rb") as file:
        text = file.read(CONFIG_LIMIT + 1)
    if len(text) > CONFIG_LIMIT:
        raise ValueError(f"{path} does not describe a realnvp model: it is too large")
    try:
        return parse_json(text), hashlib.sha256(text).hexdigest()
    except ValueError as error:
        raise ValueError(f"{path} is corrupt: {error}") from error


def read_sizes(folder: Path, config_sha256: str) -> dict[str, Tensor]:
    """Return the weights of a saved model without their values, on the meta device.

    Args:
        folder: folder of the model.
        config_sha256: checksum of the settings' text.

    Raises:
        ValueError: if the file is damaged, or belongs to other settings.
    """
    path = folder / WEIGHTS
    try:
        sizes, data = peek(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    _check_belongs(folder, data, config_sha256)
    return sizes


def read_weights(folder: Path, config_sha256: str) -> dict[str, Tensor]:
    """Return the weights of a saved model, verified.

    Args:
        folder: folder whose :func:`read_sizes` was found to be the sizes of the model.
        config_sha256: checksum of the settings' text.

    Raises:
        ValueError: if the file is damaged, larger than memory, or belongs to other settings.
    """
    path = folder / WEIGHTS
    size, memory = path.stat().st_size, physical_memory()
    if memory is not None and 3 * size > memory:  # the file, its tensors and the model's own
        raise ValueError(
            f"{path} holds {size / 2**30:,.1f} GiB of weights, and this machine has "
            f"{memory / 2**30:,.1f} GiB of memory: load it on a larger one"
        )
    with path.open("rb") as file:
        content = file.read(size)
    try:
        tensors, data = unseal(content)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    _check_belongs(folder, data, config_sha256)
    return tensors


def _check_belongs(folder: Path, data: dict[str, Any], config_sha256: str) -> None:
    if data.get("config_sha256") != config_sha256:
        raise ValueError(
            f"{folder / CONFIG} does not belong to {WEIGHTS}: its checksum shows that it was "
            f"changed, or is another model's"
        )


def physical_memory() -> int | None:
    """Return the memory of this machine in bytes; None where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def made_with() -> dict[str, str | None]:
    """Return versions, kind of machine and date, to be saved with a model.

    >>> sorted(made_with())
    ['commit', 'date', 'machine', 'python', 'realnvp', 'torch']
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_initialized() else "CPU"
    return {
        "realnvp": version("realnvp"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {device}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from; None if it is installed."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():  # not a repository that happens to contain the environment
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
