"""The folder that a training leaves: settings, metrics, checkpoints, pictures and the model.

Nothing in it is ever half written: checkpoints are written to a temporary file and renamed, and
the previous one is kept, so that a torn file still leaves one to go on from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric

__all__ = ["Run"]


class Run:
    """A run folder.

    Args:
        folder: where it is.
        resume: go on with the run that is there; otherwise the folder must not exist, or be empty.

    Raises:
        FileExistsError: if there is something in the folder, and ``resume`` is not asked for.
        FileNotFoundError: if there is no run to resume.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        self.folder = folder
        if resume and not self.config_path.is_file():
            raise FileNotFoundError(f"there is no run to resume in {folder}")
        if not resume and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
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
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before it."""
        return self.folder / "checkpoints" / "previous.ckpt"

    def create(self, config: dict[str, Any]) -> None:
        """Make the folder and write the settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.last.parent.mkdir(exist_ok=True)
        (self.folder / "samples").mkdir(exist_ok=True)
        text = yaml.safe_dump(_plain(config), sort_keys=False)
        self.config_path.write_text(text, encoding="utf-8")

    def save(self, fabric: Fabric, state: dict[str, Any]) -> None:
        """Write a checkpoint; the one that was the newest is kept as the previous."""
        temporary = self.last.with_suffix(".tmp")
        try:
            fabric.save(temporary, state)
            if fabric.global_rank == 0:
                if self.last.exists():
                    self.last.replace(self.previous)
                temporary.replace(self.last)
        finally:
            if fabric.global_rank == 0:
                temporary.unlink(missing_ok=True)
        fabric.barrier()

    def load(self, fabric: Fabric, state: dict[str, Any]) -> dict[str, Any]:
        """Load the newest checkpoint that can be read into ``state``; returns what else it holds.

        Raises:
            FileNotFoundError: if no checkpoint was written yet.
            ValueError: if none can be read, or it does not fit the settings.
        """
        paths = [path for path in (self.last, self.previous) if path.is_file()]
        if not paths:
            raise FileNotFoundError(
                f"{self.folder} has no checkpoint yet: remove it, or choose another with --out"
            )
        errors = []
        for path in paths:
            try:
                # Read it whole before any of it is used: a torn file must change nothing.
                torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # whatever a damaged file makes the reader raise
                errors.append(f"{path.name}: {str(error).splitlines()[0]}")
                continue
            try:
                return fabric.load(path, state, weights_only=True)
            except (RuntimeError, KeyError) as error:
                raise ValueError(
                    f"{path} does not fit the settings: resume a run with the model it began with "
                    f"({str(error).splitlines()[0]})"
                ) from error
        raise ValueError(f"no checkpoint in {self.folder} can be read ({'; '.join(errors)})")


class Metrics:
    """``metrics.jsonl`` and TensorBoard events of a run.

    Args:
        run: the run folder.
        step: the step a resumed run goes on from: later lines, of work that was lost, are dropped.
    """

    def __init__(self, run: Run, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = run.folder / "metrics.jsonl"
        self.records: list[dict[str, Any]] = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:  # a line cut short by a crash
                    continue
                if record["step"] <= step:
                    self.records.append(record)
        self.path.write_text("".join(json.dumps(r) + "\n" for r in self.records), encoding="utf-8")
        self._board = SummaryWriter(str(run.folder), purge_step=step + 1 if step else None)

    def log(self, kind: str, step: int, seconds: float, values: dict[str, float]) -> None:
        """Append one record; ``kind`` is "train" or "validation"."""
        record = {"kind": kind, "step": step, "seconds": round(seconds, 3), **values}
        self.records.append(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Write what is left."""
        self._board.close()


def _plain(value: Any) -> Any:
    """Tuples as lists: safe YAML knows no tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
