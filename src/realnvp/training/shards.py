"""Checkpoints of sharded runs: every process writes and reads its own shards.

Such a checkpoint is a file that holds everything but the sharded tensors, and a folder next to it
with one file of shards per process, which ``torch.distributed.checkpoint`` writes as safetensors
and combines for any number of processes, sharded or not. So no process holds more than its part.
The file is written last, and has the checksums of those in the folder, so that an incomplete
checkpoint is detected.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from realnvp.utils.files import hash_file, sync_folder

if TYPE_CHECKING:
    from realnvp.training.launch import Processes

__all__ = ["check_shards", "check_shared", "read_shards", "remove_shards", "write_shards"]

PREFIX = "shards-"


@torch.no_grad()
def write_shards(state: dict[str, Any], folder: Path, processes: Processes) -> dict[str, Any]:
    """Write the sharded tensors of a state. All processes must call it.

    Args:
        state: nested dictionaries, some of whose tensors are sharded.
        folder: where a folder with the shards is made, on a disk that all processes share.
        processes: the processes.

    Returns:
        the state with None in place of sharded tensors, and an entry "shards" with their location;
        or, if a process could not write them, the error.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageWriter, save
    from torch.distributed.checkpoint.api import CheckpointException

    tensors: dict[str, Tensor] = {}
    rest = _take(state, "", tensors)
    name = (processes.broadcast(f"{PREFIX}{secrets.token_hex(8)}".encode()) or b"").decode()
    place = folder / name
    writer = HuggingFaceStorageWriter(str(place), save_distributed=True)
    try:
        save(tensors, storage_writer=writer, process_group=processes.group)
    except CheckpointException as error:  # in every process, if one fails
        causes = [cause for cause, _ in error.failures.values()]
        found = next((cause for cause in causes if isinstance(cause, OSError)), None)
        if found is None:
            raise RuntimeError(f"the shards of {place} were not written: {causes[0]}") from error
        return {**rest, "shards": found}
    sync_folder(place)
    own = {path.name: _checksum(path) for path in place.glob(f"shard-{processes.rank + 1:05d}-*")}
    files = {file: checksum for each in processes.gather(own) for file, checksum in each.items()}
    return {**rest, "shards": {"folder": name, "files": files, "tensors": [*tensors]}}


def read_shards(state: dict[str, Any], folder: Path, like: dict[str, Tensor]) -> dict[str, Any]:
    """Return a state with the tensors that were sharded when it was written.

    Args:
        state: what :func:`write_shards` returned.
        folder: the folder that it was given.
        like: the tensors that the state is loaded into, sharded or not, by their names without the
            first part: "moments/0/exp_avg" is that of "now/moments/0/exp_avg".

    Raises:
        ValueError: if this process cannot access them, or they belong to other tensors.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageReader, load
    from torch.distributed.checkpoint.api import CheckpointException

    place = folder / state["shards"]["folder"]
    check_shared(place)
    try:
        tensors = {
            name: torch.empty_like(like[name.partition("/")[2]], requires_grad=False)
            for name in state["shards"]["tensors"]
        }
        with warnings.catch_warnings():  # about each process reading by itself
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            load(tensors, storage_reader=HuggingFaceStorageReader(str(place)), no_dist=True)
    except (CheckpointException, KeyError) as error:
        raise ValueError(
            f"the shards in {place} do not fit the settings: resume a run with the model it began "
            "with"
        ) from error
    return _put(state, "", tensors)


def check_shared(folder: Path) -> None:
    """Raise unless this process can access a folder that another one has made."""
    if not folder.is_dir():
        raise ValueError(
            f"there is no {folder} here: a run with --strategy fsdp must be on a disk that all "
            "machines share"
        )


def check_shards(state: dict[str, Any], folder: Path) -> None:
    """Compare shards with their checksums.

    Raises:
        ValueError: if files are missing or damaged.
    """
    about = state.get("shards")
    if about is None:
        return
    for name, checksum in about["files"].items():
        path = folder / about["folder"] / name
        if not path.is_file():
            raise ValueError(f"its shards {path} are missing")
        if _checksum(path) != checksum:
            raise ValueError(f"{path} does not match its checksum: it is damaged, or was changed")


def remove_shards(folder: Path, but: Iterable[str] = ()) -> None:
    """Remove all shards in a folder but those in folders of these names."""
    for path in folder.glob(f"{PREFIX}*"):
        if path.name not in but:
            shutil.rmtree(path, ignore_errors=True)


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    hash_file(path, digest)
    return digest.hexdigest()


def _take(value: Any, name: str, taken: dict[str, Tensor]) -> Any:
    """Return a state without its sharded tensors, which are put into ``taken``."""
    if isinstance(value, dict):
        rest = {key: _take(v, f"{name}/{key}" if name else key, taken) for key, v in value.items()}
        return rest if any(rest[key] is not value[key] for key in rest) else value
    if hasattr(value, "full_tensor"):
        taken[name] = value
        return None
    return value


def _put(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Invert :func:`_take`."""
    if isinstance(value, dict):
        return {key: _put(v, f"{name}/{key}" if name else key, tensors) for key, v in value.items()}
    return tensors.get(name, value)
