"""The directory of a run: settings, metrics, checkpoints, pictures and the model.

No file in it is ever partially written. Checkpoints are written to a temporary file, flushed and
renamed, and the previous one is kept, so that a run can be resumed even if the newest file is
damaged. The first checkpoint is written before the first step. A disk that fills up later does not
end the run, since space may be freed in time: there is a warning, and another attempt at the next
checkpoint. Only the last checkpoint must succeed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock, Timeout
from torch import Tensor

from realnvp.recipes import flat_settings
from realnvp.utils import serialization as checkpoint
from realnvp.utils.files import remove_temporary, replacing, sync_file, write_atomically
from realnvp.utils.progress import warn

LOG_LIKELIHOODS = "log_likelihoods.npy"
"""File of the log-likelihood of each example of the reported part."""

REPLACED = (
    "metrics.jsonl", "curves.png", "report.html", LOG_LIKELIHOODS, "events.out.tfevents*"
)  # fmt: skip
"""Files that are removed when a run is overwritten, apart from settings and checkpoints."""


class RunDirectory:
    """The directory of one run, held by one process at a time.

    A new run's directory is made by :meth:`create`.

    Args:
        folder: path of the directory.
        resume: continue the run in it.
        overwrite: replace the run in it, once :meth:`create` is called.

    Raises:
        FileExistsError: if there is something in the folder, and neither is asked for; or if what
            is to be overwritten is not a run.
        FileNotFoundError: if there is no run to resume.
        BlockingIOError: if another process is training in the folder.
    """

    def __init__(self, folder: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.folder = folder
        self._lock: FileLock | None = None
        self._overwrite = overwrite and self.config_path.is_file()
        if resume and overwrite:
            raise ValueError("a run is either resumed or overwritten: give one of the two")
        if resume and not self.config_path.is_file():
            raise FileNotFoundError(f"there is no run to resume in {folder}")
        if resume or self._overwrite:
            self._take_lock()
        if resume:
            remove_temporary(folder)
        elif not self._overwrite and folder.exists() and not self._is_unused():
            remedy = (
                "add --resume to continue it, --overwrite to replace it (resume=True and "
                "overwrite=True in Python), or choose another"
            )
            raise FileExistsError(
                f"{folder} exists and is not a run: choose another folder with --out"
                if overwrite or not self.config_path.is_file()
                else f"{folder} exists: {remedy} with --out"
            )

    @property
    def config_path(self) -> Path:
        """File of the resolved settings."""
        return self.folder / "config.yaml"

    @property
    def model_folder(self) -> Path:
        """Folder of the saved model with the best validation."""
        return self.folder / "model"

    @property
    def last(self) -> Path:
        """File of the newest checkpoint."""
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def previous(self) -> Path:
        """File of the checkpoint before it."""
        return self.folder / "checkpoints" / "previous.safetensors"

    def _is_unused(self) -> bool:
        """Return True if it holds at most the remains of a process that was killed at its start."""
        left = {self.last.parent, self._lock_path, self._holder_path, self.folder / "samples"}
        return self.folder.is_dir() and all(
            path in left or ".tmp~" in str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
        )

    # ------------------------------------------------------------------ one process at a time

    @property
    def _lock_path(self) -> Path:
        return self.folder / "checkpoints" / "lock"

    @property
    def _holder_path(self) -> Path:
        return self.folder / "checkpoints" / "holder.txt"

    def _take_lock(self) -> None:
        """Lock the folder until :meth:`close`, or until the process ends in any way."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            holder = ""
            with contextlib.suppress(OSError):
                holder = self._holder_path.read_text(errors="replace")[:200].strip()
            raise BlockingIOError(
                f"{self.folder} is being trained by {holder or 'another process'}: wait for it, "
                f"or choose another folder with --out"
            ) from error
        except (OSError, NotImplementedError):  # a network file system without locks
            return
        self._lock = lock
        with contextlib.suppress(OSError):  # it is only for people
            self._holder_path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")

    def close(self) -> None:
        """Release the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # ------------------------------------------------------------------ settings and state

    def create(self, config: dict[str, Any], state: dict[str, Any]) -> None:
        """Make a new run with its settings and first checkpoint, or nothing.

        A run that is to be overwritten is removed after the new one's files are written, so that it
        remains if they cannot be written.

        Args:
            config: resolved settings.
            state: first state.

        Raises:
            OSError: if that is not possible; what was made is removed again.
        """
        if self._overwrite:
            self._replace(config, state)
            return
        with self._nothing_left_behind():
            self._take_lock()
            if not self._is_unused():
                raise FileExistsError(f"{self.folder} was just taken by another run")
            self._remove_temporary()
            (self.folder / "samples").mkdir(exist_ok=True)
            self.write_config(config)
            self.save(state)

    def _replace(self, config: dict[str, Any], state: dict[str, Any]) -> None:
        self._remove_temporary()
        new = RunDirectory(self.folder / ".new.tmp~")
        try:
            new.last.parent.mkdir(parents=True)
            new.write_config(config)
            new.save(state)
        except OSError:
            shutil.rmtree(new.folder, ignore_errors=True)
            raise
        # If killed from here on, the settings of one of the two runs remain without a checkpoint: a
        # run that has not begun.
        self.previous.unlink(missing_ok=True)
        self.last.unlink(missing_ok=True)
        shutil.rmtree(self.model_folder, ignore_errors=True)
        shutil.rmtree(self.folder / "samples", ignore_errors=True)
        for pattern in REPLACED:
            for path in self.folder.glob(pattern):
                path.unlink()
        (self.folder / "samples").mkdir(exist_ok=True)
        new.config_path.replace(self.config_path)
        new.last.replace(self.last)
        shutil.rmtree(new.folder, ignore_errors=True)

    def _remove_temporary(self) -> None:
        shutil.rmtree(self.folder / ".new.tmp~", ignore_errors=True)
        remove_temporary(self.folder)

    @contextlib.contextmanager
    def _nothing_left_behind(self) -> Iterator[None]:
        made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            yield
        except (BlockingIOError, FileExistsError):  # it belongs to another run
            self.close()
            raise
        except OSError:
            self.close()
            self.config_path.unlink(missing_ok=True)
            for path in (self.last.parent, self.folder / "samples"):
                shutil.rmtree(path, ignore_errors=True)
            for path in made:
                with contextlib.suppress(OSError):  # other files are in it
                    path.rmdir()
            raise

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the resolved settings."""
        plain = json.loads(json.dumps(config))  # safe YAML has no tuples
        write_atomically(self.config_path, yaml.safe_dump(plain, sort_keys=False).encode())

    def changes(self, config: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return the settings that differ from those of the run: names, old and new values.

        Settings that only one of them has, because of different versions, do not count.
        """
        saved = yaml.safe_load(self.config_path.read_text("utf-8"))
        old, new = (flat_settings(json.loads(json.dumps(each))) for each in (saved, config))
        return {
            name: (old[name], value)
            for name, value in new.items()
            if name in old and old[name] != value
        }

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, and keep the one before it.

        Raises:
            OSError: if it cannot be written; the existing checkpoints are then unchanged.
        """
        with replacing(self.last) as temporary:
            checkpoint.write_state(state, temporary)
            sync_file(temporary)
            if self.last.exists():
                self.last.replace(self.previous)

    def save_log_likelihoods(self, log_likelihoods: Tensor) -> None:
        """Write the log-likelihood of each example of the reported part, in nats.

        Raises:
            OSError: if they cannot be written.
        """
        with replacing(self.folder / LOG_LIKELIHOODS) as temporary:
            np.save(temporary, log_likelihoods.numpy())

    def load(self) -> bytes | None:
        """Return the content of the newest intact checkpoint; None if none was written yet.

        Damaged ones are removed, with a warning: the next save would keep one as the previous
        checkpoint, in place of the intact one.

        Raises:
            ValueError: if there are checkpoints, but none is intact.
        """
        damaged: dict[Path, str] = {}
        for path in filter(Path.is_file, (self.last, self.previous)):
            try:
                content = path.read_bytes()
                checkpoint.from_bytes(content)
            except (OSError, ValueError) as error:
                damaged[path] = str(error)
                continue
            for other, reason in damaged.items():
                other.unlink()
                warn(
                    f"damaged checkpoint, continuing from the one before it: {other.name}: {reason}"
                )
            return content
        if damaged:
            reasons = "; ".join(dict.fromkeys(damaged.values()))
            raise ValueError(f"no checkpoint in {self.folder} can be read: {reasons}")
        return None
