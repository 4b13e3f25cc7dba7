"""Reading of a run directory: its settings, records, pictures, model and data."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from realnvp.data import Split
from realnvp.flow import Flow
from realnvp.pretrained import data_settings, load_folder, part_of_data
from realnvp.recipes import flat_settings

__all__ = ["Run", "find_runs", "parse_record", "read_records"]


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of metrics, without lines that a crash truncated."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return [record for line in text.splitlines() if (record := parse_record(line)) is not None]


def parse_record(line: str) -> dict[str, Any] | None:
    """Return the record of a line of a file of metrics, None if it is damaged.

    >>> parse_record('{"kind": "validation", "step": 3, "seconds": 1.0, "loss": null}')
    {'kind': 'validation', 'step': 3, 'seconds': 1.0, 'loss': nan}
    >>> parse_record('{"kind": "valid')
    """
    try:
        record = {k: math.nan if v is None else v for k, v in json.loads(line).items()}
    except (ValueError, AttributeError):
        return None
    is_whole = isinstance(record.get("kind"), str) and isinstance(record.get("step"), int)
    return record if is_whole else None


@dataclass(eq=False)
class Run:
    """A run directory, whose parts are read on demand.

    Args:
        folder: path of the directory.
        settings: resolved settings by their full names, such as "training.lr".
        records: lines of ``metrics.jsonl``.
        name: displayed name.
    """

    folder: Path
    settings: dict[str, Any] = field(repr=False)
    records: list[dict[str, Any]] = field(repr=False)
    name: str = ""

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Return the run in a folder.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if its settings cannot be read.
        """
        path = Path(folder)
        config = path / "config.yaml"
        if not config.is_file():
            raise FileNotFoundError(f"there is no run in {path}: it has no config.yaml")
        try:
            settings = flat_settings(yaml.safe_load(config.read_text("utf-8")))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{config} cannot be read: {' '.join(str(error).split())}") from error
        return cls(path, settings, read_records(path / "metrics.jsonl"), path.absolute().name)

    @cached_property
    def flow(self) -> Flow | None:
        """The model with the best validation, None if none is saved."""
        folder = self.folder / "model"
        return load_folder(folder) if folder.is_dir() else None

    @property
    def final(self) -> dict[str, Any] | None:
        """The record of the final evaluation, None if the run has not ended."""
        return next((r for r in reversed(self.records) if r["kind"] == "final"), None)

    @property
    def log_likelihoods(self) -> tuple[str, NDArray] | None:
        """Fingerprint of the reported part, and the log-likelihood of each of its examples.

        None if they were not saved, or the part is unknown.
        """
        path, final = self.folder / "log_likelihoods.npy", self.final
        if final is None or self.flow is None or not path.is_file():
            return None
        trained_on = self.flow.trained_on
        hashes = None if trained_on is None else trained_on.fingerprint
        fingerprint = (hashes or {}).get(final["part"])
        try:
            found = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError):
            return None
        return (fingerprint, found) if fingerprint and found.shape == (final["examples"],) else None

    @property
    def best(self) -> dict[str, Any] | None:
        """The record of the best validation."""
        found = [r for r in self.records if r["kind"] == "validation" and math.isfinite(r["loss"])]
        return min(found, key=lambda record: record["loss"], default=None)

    @property
    def is_of_images(self) -> bool:
        """Whether the model is one of images, reported in bits/dim."""
        kind = self.settings.get("kind")
        if kind in ("image", "vector"):
            return kind == "image"
        return self.flow is not None and self.flow.levels is not None

    @property
    def unit(self) -> str:
        """Unit of the results; see :attr:`realnvp.Flow.unit`."""
        return "bits/dim" if self.is_of_images else "nats (log-density)"

    @property
    def sign(self) -> float:
        """Factor of the losses: -1 makes them log-densities."""
        return 1.0 if self.is_of_images else -1.0

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return max((record["seconds"] for record in self.records), default=0.0)

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return max((record["step"] for record in self.records), default=0)

    @property
    def pictures(self) -> list[tuple[int, Path]]:
        """Steps and files of the samples that were drawn during training."""
        found = []
        for path in sorted((self.folder / "samples").glob("step-*.png")):
            number = path.stem.partition("-")[2]
            if number.isdecimal():
                found.append((int(number), path))
        return found

    def held_out(self) -> tuple[str, Split]:
        """Return the name and the examples of the part of the data that is reported.

        Raises:
            ValueError: if the data are not those of the run, or were never in a file.
            FileNotFoundError: if they are no longer where they were.
        """
        config = None if self.flow is None else data_settings(self.flow)
        if self.flow is None or config is None:
            raise ValueError("its data were in memory only")
        root = self.settings.get("data.root")
        config = config if root is None else replace(config, root=root)
        return part_of_data(self.flow, data=config)


def find_runs(folder: Path) -> Sequence[Run]:
    """Return the runs in a folder, newest first, without those that cannot be read.

    Args:
        folder: such as ``runs``; folders in it, such as ``runs/lr``, are searched as well.
    """
    found = []
    for config in [*folder.glob("*/config.yaml"), *folder.glob("*/*/config.yaml")]:
        try:
            run = Run.open(config.parent)
        except (ValueError, OSError):
            continue
        run.name = config.parent.relative_to(folder).as_posix()
        found.append((config.stat().st_mtime, run))
    return [run for _, run in sorted(found, key=lambda pair: -pair[0])]
