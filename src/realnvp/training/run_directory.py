"""The folder that a training leaves: settings, metrics, checkpoints, pictures and the model.

Nothing in it is ever half written: checkpoints are written to a temporary file, flushed and
renamed, and the previous one is kept, so that a torn file still leaves one to go on from. The
first is written before the first step. A disk that is full later on does not end a training, which
may outlive that: it warns, and tries again at the next checkpoint; only the last one must succeed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from realnvp.utils import serialization as checkpoint
from realnvp.utils.files import remove_temporary, replacing, sync_file, write_atomically

__all__ = ["RunDirectory"]


class RunDirectory:
    """A run folder.

    Args:
        folder: where it is.
        resume: go on with the run that is there; otherwise the folder must not exist, or be empty.

    Raises:
        FileExistsError: if there is something in the folder, and ``resume`` is not asked for.
        FileNotFoundError: if there is no run to resume.
        BlockingIOError: if another process is training in the folder.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        self.folder = folder
        self._lock: int | None = None
        if resume and not self.config_path.is_file():
            raise FileNotFoundError(f"there is no run to resume in {folder}")
        if resume:
            self._take_lock()
            remove_temporary(folder)
        elif folder.exists() and not self._is_unused():
            raise FileExistsError(
                f"{folder} exists: add --resume to go on with it, or choose another with --out"
            )

    @property
    def config_path(self) -> Path:
        """The resolved settings."""
        return self.folder / "config.yaml"

    @property
    def model_folder(self) -> Path:
        """The saved model with the best validation."""
        return self.folder / "model"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def previous(self) -> Path:
        """The checkpoint before it."""
        return self.folder / "checkpoints" / "previous.safetensors"

    def _is_unused(self) -> bool:
        """Whether nothing is there, or what a process leaves that was killed as it began."""
        left = {self.last.parent, self._lock_path, self.folder / "samples"}
        return self.folder.is_dir() and all(
            path in left or ".tmp~" in path.name for path in self.folder.rglob("*")
        )

    # ------------------------------------------------------------------ one process at a time

    @property
    def _lock_path(self) -> Path:
        return self.folder / "checkpoints" / "lock"

    def _take_lock(self) -> None:
        """Hold the folder until :meth:`close`, or until the process ends, however it ends."""
        try:
            import fcntl
        except ImportError:  # Windows: nothing keeps two runs apart
            return
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise BlockingIOError(
                f"{self.folder} is being trained by {holder or 'another process'}: wait for it, "
                f"or choose another folder with --out"
            ) from error
        except OSError:  # a network file system without locks
            os.close(descriptor)
            return
        with contextlib.suppress(OSError):  # what is in it is only told to people
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._lock = descriptor

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # ------------------------------------------------------------------ settings and state

    def create(self, config: dict[str, Any], state: dict[str, Any]) -> None:
        """Make a new run's folder with its settings and first checkpoint, or nothing.

        Raises:
            OSError: if that is not possible; what was made is removed again.
        """
        with self._nothing_left_behind():
            self._take_lock()
            if not self._is_unused():
                raise FileExistsError(f"{self.folder} was just taken by another run")
            remove_temporary(self.folder)
            (self.folder / "samples").mkdir(exist_ok=True)
            self.write_config(config)
            self.save(state)

    @contextlib.contextmanager
    def _nothing_left_behind(self) -> Iterator[None]:
        made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            yield
        except (BlockingIOError, FileExistsError):  # it is another run's
            self.close()
            raise
        except OSError:
            self.close()
            self.config_path.unlink(missing_ok=True)
            for path in (self.last.parent, self.folder / "samples"):
                shutil.rmtree(path, ignore_errors=True)
            for path in made:
                with contextlib.suppress(OSError):  # somebody has put something there
                    path.rmdir()
            raise

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the resolved settings."""
        write_atomically(self.config_path, yaml.safe_dump(_plain(config), sort_keys=False).encode())

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint; the one that was the newest is kept as the previous.

        Raises:
            OSError: if it cannot be written; those that were there are as they were.
        """
        with replacing(self.last) as temporary:
            temporary.write_bytes(checkpoint.to_bytes(state))
            sync_file(temporary)
            if self.last.exists():
                self.last.replace(self.previous)

    def load(self) -> tuple[bytes | None, list[str]]:
        """The content of the newest checkpoint that is whole; None if none was written yet.

        Returns:
            the content, and what was wrong with newer ones. These are removed: the next save
            would make them the previous ones, in place of the one that is whole.

        Raises:
            ValueError: if there are some, but none is whole.
        """
        damaged: dict[Path, str] = {}
        for path in (self.last, self.previous):
            if not path.is_file():
                continue
            try:
                content = path.read_bytes()
                checkpoint.from_bytes(content)
            except (OSError, ValueError) as error:
                damaged[path] = f"{path.name}: {error}"
                continue
            for other in damaged:
                other.unlink()
            return content, list(damaged.values())
        if damaged:
            reasons = "; ".join(damaged.values())
            raise ValueError(f"no checkpoint in {self.folder} can be read ({reasons})")
        return None, []


def _plain(value: Any) -> Any:
    """Tuples as lists: safe YAML knows no tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
