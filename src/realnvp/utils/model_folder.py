"""The files of a saved model: ``config.json`` and ``model.safetensors``, never a pickle.

The settings describe how to build the model, and the weights fill it. The weights carry a checksum
of themselves and of ``config.json``, so that files that do not belong together are detected.

A folder may come from an untrusted source, so nothing in it is used before it is verified. The
builder is a registered one, whose arguments are checked like a user's. The model is first built
without memory, and its tensors are compared with the tensors in the file's header: a huge number in
``config.json`` or a huge file allocate nothing. Then the weights are read, compared with their
checksum, and checked by the layers that they are for.

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
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from realnvp.utils.files import sha256_of, write_atomically
from realnvp.utils.registry import BUILDERS
from realnvp.utils.serialization import check_like, parse_json, peek, seal, unseal
from realnvp.utils.settings import as_list

T = TypeVar("T")

CONFIG = "config.json"


WEIGHTS = "model.safetensors"


CALIBRATION = "calibration.safetensors"


DETECTOR = "detector.safetensors"
"""File of a :class:`realnvp.estimator.RealNVPOutlierDetector`, whose flows are folders beside
it."""


FORMAT = 1
"""Version of the settings' format; it grows when earlier versions could not read them. Settings
without one are of the first."""


CONFIG_LIMIT = 4_000_000
"""Largest ``config.json`` in bytes: parsed, it takes about twenty times as much memory."""


LAYERS = ("scales", "steps", "couplings", "blocks")
"""Arguments of builders that count layers."""


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
    content = seal(tensors, {"weights_sha256": sha256_of(folder / WEIGHTS)})
    write_atomically(folder / CALIBRATION, content)


def _read_calibration(folder: Path) -> dict[str, Tensor] | None:
    """Return the calibration of the model in a folder; None if its weights have none."""
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    if path.stat().st_size > CALIBRATION_LIMIT:
        raise ValueError(f"{path} cannot be used: it is too large")
    tensors, data = _usable(path, _unsealed)
    return tensors if data.get("weights_sha256") == sha256_of(folder / WEIGHTS) else None


def _note_in(folder: Path, settings: dict[str, Any]) -> Any:
    """Return the note ``made_with`` of a folder with the same settings, or None."""
    try:
        saved, _ = _read_config(folder)
        same = json.loads(json.dumps({**settings, "made_with": None}))
    except (OSError, TypeError, ValueError, RecursionError):
        return None
    if not isinstance(saved, dict) or {**saved, "made_with": None} != same:
        return None
    return saved.get("made_with")


def _read_config(folder: Path) -> tuple[Any, str]:
    """Return the settings of a saved model, not yet checked, and the checksum of their text.

    Raises:
        FileNotFoundError: if the folder has no saved model.
        ValueError: if the file is not JSON, or too large.
    """
    if (folder / DETECTOR).is_file():
        raise ValueError(
            f"{folder} is a saved RealNVPOutlierDetector, which realnvp score and "
            "RealNVPOutlierDetector.load read; its densities are the folders flow-0, ... in it"
        )
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


def _usable(path: Path, read: Callable[[Path], T]) -> T:
    """Return what is read from a file, naming it in errors."""
    try:
        return read(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def _unsealed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return unseal(path.read_bytes())


def _check_belongs(folder: Path, data: dict[str, Any], config_sha256: str) -> None:
    if data.get("config_sha256") != config_sha256:
        raise ValueError(
            f"{folder / CONFIG} does not belong to {WEIGHTS}: its checksum shows that it was "
            f"changed, or is another model's"
        )


def load_folder(folder: Path) -> Any:
    """Return the model that is saved in a folder, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: if the folder has no saved model.
        ValueError: if its files are corrupt, or do not belong together.
    """
    config, checksum = _read_config(folder)
    path, what = folder / WEIGHTS, f"the model in {folder}"
    sizes, data = _usable(path, peek)
    _check_belongs(folder, data, checksum)
    build = _prepare(config, sizes, what)
    size, memory = path.stat().st_size, physical_memory()
    if memory is not None and 3 * size > memory:  # the file, its tensors and the model's own
        raise ValueError(
            f"{path} holds {size / 2**30:,.1f} GiB of weights, and this machine has "
            f"{memory / 2**30:,.1f} GiB of memory: load it on a larger one"
        )
    tensors, data = _usable(path, _unsealed)
    _check_belongs(folder, data, checksum)  # it may have been replaced meanwhile
    flow = _fill(build, tensors, what)
    is_run = (
        folder.absolute().name == "model" and (folder.absolute().parent / "config.yaml").is_file()
    )
    flow.origin, flow.source = "run" if is_run else "folder", str(folder)
    flow.calibration = _read_calibration(folder)
    return flow


def rebuild(config: Any, tensors: dict[str, Tensor], what: str) -> Any:
    """Return the model of some settings and weights, in evaluation mode, on the CPU.

    Args:
        config: the settings, as :meth:`realnvp.Flow.settings` returns them; unverified.
        tensors: the weights by name.
        what: name of the model, for messages.

    Raises:
        ValueError: if they do not make a model.
    """
    return _fill(_prepare(config, tensors, what), tensors, what)


def check_rebuildable(flow: Any) -> None:
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


def _layers(flow: Any) -> list[tuple[str, type, str]]:
    """Return name, type and mask of each module."""
    named = flow.named_modules()
    return [(name, type(each), str(getattr(each, "mask", ""))) for name, each in named]


def _prepare(config: Any, sizes: dict[str, Tensor], what: str) -> Callable[[], Any]:
    """Check settings against the sizes of the weights; return what builds the untrained model."""
    if (
        not isinstance(config, dict)
        or not isinstance(config.get("builder"), str)
        or not isinstance(config.get("arguments"), dict)
    ):
        raise ValueError(f"{what} cannot be rebuilt: its config does not describe a realnvp model")
    if config.get("format", FORMAT) not in range(1, FORMAT + 1):
        raise ValueError(
            f"{what} has the format {config['format']!r}, and this version of realnvp reads "
            f"formats up to {FORMAT}: install a newer one"
        )

    def build() -> Any:
        flow = BUILDERS[config["builder"]](**arguments)
        flow.read_notes(config)
        built = flow.state_dict()
        # The first type that differs decides: tensors that are float64 in every flow stay so.
        types = (t.dtype for n, t in sizes.items() if n in built and built[n].dtype != t.dtype)
        other = next((t for t in types if t in (torch.float32, torch.float64)), None)
        return flow if other is None else flow.to(other)

    try:
        arguments = config["arguments"]
        for name in LAYERS:
            counts = as_list(arguments.get(name))
            if sum(n for n in counts if isinstance(n, int)) > len(sizes):
                raise ValueError(f"{name} is more than there are tensors")
        with torch.device("meta"):
            empty = build()
        check_like(sizes, empty.state_dict())
    # What a builder may raise for untrusted arguments; a RuntimeError or an OverflowError
    # for sizes that no memory could have.
    except (
        ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
        ValueError,
    ) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{what} cannot be rebuilt: {reason}") from error
    return build


def _fill(build: Callable[[], Any], tensors: dict[str, Tensor], what: str) -> Any:
    """Build the model, and fill in weights whose sizes have been checked."""
    flow = build()
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
