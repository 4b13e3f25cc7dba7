"""The folder that a training leaves: settings, metrics, checkpoints, pictures and the model.

Nothing in it is ever half written: checkpoints are written to a temporary file, flushed and
renamed, and the previous one is kept, so that a torn file still leaves one to go on from.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from realnvp import plots
from realnvp.keeper import Keeper
from realnvp.models import Flow
from realnvp.pretrained import write_atomically

if TYPE_CHECKING:
    from realnvp.train import Trainer

__all__ = ["Run"]

GRID = 100
"""Images in a sample grid."""


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
        self.last.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "samples").mkdir(exist_ok=True)
        text = yaml.safe_dump(_plain(config), sort_keys=False)
        write_atomically(self.config_path, text.encode())

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint; the one that was the newest is kept as the previous."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        if self.last.exists():
            self.last.replace(self.previous)
        write_atomically(self.last, buffer.getvalue())

    def load(self) -> dict[str, Any]:
        """The newest checkpoint that can be read.

        Raises:
            FileNotFoundError: if no checkpoint was written yet.
            ValueError: if none can be read.
        """
        paths = [path for path in (self.last, self.previous) if path.is_file()]
        if not paths:
            raise FileNotFoundError(
                f"{self.folder} has no checkpoint yet: remove it, or choose another with --out"
            )
        errors = []
        for path in paths:
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # whatever a damaged file makes the reader raise
                errors.append(f"{path.name}: {str(error).splitlines()[0]}")
        raise ValueError(f"no checkpoint in {self.folder} can be read ({'; '.join(errors)})")

    def keeper(self, step: int) -> Keeper:
        """What puts a training's results here; records after ``step`` are dropped."""
        return _RunKeeper(self, step)


class _RunKeeper(Keeper):
    """Puts the model, the metrics, the pictures and the checkpoints into a run folder."""

    def __init__(self, run: Run, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__()
        self.run = run
        self.path = run.folder / "metrics.jsonl"
        self.records = [r for r in _read_records(self.path) if r["step"] <= step]
        text = "".join(json.dumps(record) + "\n" for record in self.records)
        write_atomically(self.path, text.encode())
        self._board = SummaryWriter(str(run.folder), purge_step=step + 1 if step else None)

    def log(self, kind: str, step: int, seconds: float, values: dict[str, float]) -> None:
        record = {"kind": kind, "step": step, "seconds": round(seconds, 3), **values}
        self.records.append(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def keep(self, flow: Flow) -> None:
        flow.save_pretrained(self.run.model_folder)

    def picture(self, trainer: Trainer) -> None:
        """Samples from latents that are the same every time, and the learning curves."""
        flow, path = trainer.flow, self.run.folder / "samples" / f"step-{trainer.step:07d}.png"
        generator = torch.Generator(flow.device).manual_seed(trainer.recipe.seed)
        validation = trainer.validation
        n = GRID if flow.levels is not None else 2000
        condition = validation.condition
        if condition is not None:
            rows = torch.arange(n, device=condition.device)
            if flow.classes is not None:  # one class after the other
                condition = rows * flow.classes // n
            else:
                condition = condition[rows % len(condition)]
        samples = flow.sample(n, condition=condition, generator=generator)
        if flow.levels is not None:
            plots.image_grid(samples, path, levels=flow.levels)
        else:
            plots.scatter(validation.x[:n], samples, path)
        plots.learning_curves(self.records, self.run.folder / "curves.png", trainer.unit_name)

    def save(self, trainer: Trainer) -> None:
        self.run.save(trainer.state_dict())

    def best(self, flow: Flow) -> Flow:
        return Flow.from_pretrained(self.run.model_folder)

    def close(self) -> None:
        self._board.close()


def _read_records(path: Path) -> list[dict[str, Any]]:
    records = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:  # a line cut short by a crash
            continue
    return records


def _plain(value: Any) -> Any:
    """Tuples as lists: safe YAML knows no tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
