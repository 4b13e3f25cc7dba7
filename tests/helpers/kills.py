"""Trainings that are killed at chosen moments, and what a folder must hold in the end.

A training runs in a forked process, in which every write, flush, rename and step is a moment at
which it can kill itself with SIGKILL, which nothing can catch; a write is also killed half way.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from realnvp.config import DataConfig, ImageModel, ImageRecipe, TrainingConfig
from realnvp.training import callbacks, rollback
from realnvp.training.trainer import Trainer
from realnvp.utils import serialization
from realnvp.utils.serialization import from_bytes, unseal

STEPS, BAD_STEP = 12, 6


DIGITS = DataConfig(source="digits", flip=True)


def recipe(steps: int = STEPS, data: DataConfig = DIGITS) -> ImageRecipe:
    """Return a tiny training that saves after every step, with flips, and a step that fails."""
    return ImageRecipe(
        ImageModel(scales=1, hidden=4, blocks=1),
        data,
        TrainingConfig(
            steps=steps, batch_size=16, warmup=2, num_validations=3, validation_examples=32,
            checkpoint_every=1e-9, precision="float32", ema=0.9, validation_share=1.0,
        ),
    )  # fmt: skip


class Moments:
    """Counts the moments at which a process may be killed, and kills it at one of them.

    Args:
        kill_at: number of the moment; None only counts.
    """

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.names: list[str] = []

    def pass_by(self, name: str) -> None:
        self.names.append(name)
        if self.kill_at is not None and len(self.names) > self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: Any, name: str, what: str) -> None:
        """Add two moments, before and after every call of a function."""
        function = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.pass_by(f"before {what}")
            result = function(*args, **kwargs)
            self.pass_by(f"after {what}")
            return result

        setattr(owner, name, watched)

    def watch_all(self) -> None:
        write_bytes = Path.write_bytes

        def half_written(path: Path, content: bytes) -> int:
            write_bytes(path, content[: len(content) // 2])
            self.pass_by("half of a write")
            return write_bytes(path, content)

        Path.write_bytes = half_written  # type: ignore[method-assign]
        write_state = serialization.write_state

        def half_state(state: Any, path: Path) -> None:
            write_state(state, path)
            os.truncate(path, path.stat().st_size // 2)
            self.pass_by("half of a checkpoint")
            write_state(state, path)

        serialization.write_state = half_state
        append = callbacks.append

        def half_appended(path: Path, record: bytes) -> None:
            if len(self.names) == self.kill_at:
                append(path, record[: len(record) // 2])
            self.pass_by("half of a record")
            append(path, record)

        callbacks.append = half_appended
        self.watch(os, "replace", "a rename")
        self.watch(os, "fsync", "a flush")
        self.watch(Trainer, "train_step", "a step")


def fail_at(step: int) -> None:
    """Let one step's loss be NaN, whenever it is computed, and copy the state more often."""
    rollback.EVERY = 4
    batch = Trainer.batch

    def poisoned(self: Trainer, at: int) -> Any:
        x, condition, noise, *others = batch(self, at)
        if at == step and noise is not None:
            noise[3, 0, 0, 0] = torch.nan
        return x, condition, noise, *others

    Trainer.batch = poisoned  # type: ignore[method-assign]


def in_child(action: Callable[[], None], log: Path) -> int:
    """Run something in a forked process; returns its exit status, negative for a signal."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with log.open("ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            action()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(
    folder: Path, *, resume: bool = False, kill_at: int | None = None, data: DataConfig = DIGITS
) -> int:
    """Train in a child; returns its exit status."""

    def action() -> None:
        from realnvp.training.train import train

        moments = Moments(kill_at)
        fail_at(BAD_STEP)
        moments.watch_all()
        train(recipe(data=data), folder, resume=resume, quiet=True)
        (folder.parent / "moments.json").write_text(json.dumps(moments.names))

    return in_child(action, folder.parent / f"{folder.name}.log")


def kill_and_resume(
    folder: Path, kill_at: int, *, tear: bool = False, data: DataConfig = DIGITS
) -> None:
    """Kill a run, tear its newest checkpoint if asked, and resume it.

    Raises:
        AssertionError: if it was not killed, or cannot be resumed.
    """
    assert run(folder, kill_at=kill_at, data=data) == -signal.SIGKILL
    last = folder / "checkpoints" / "last.safetensors"
    if tear and last.exists() and last.with_name("previous.safetensors").exists():
        os.truncate(last, last.stat().st_size // 2)
    # Killed before there was a config.yaml, it leaves what the same command takes for empty.
    resume = (folder / "config.yaml").exists()
    status = run(folder, resume=resume, data=data)
    assert status == 0, (folder.parent / f"{folder.name}.log").read_text()


def fill_disk(folder: Path, first: int, last: int) -> int:
    """Return the exit status of a run during some steps of which no file can grow."""

    def action() -> None:
        from realnvp.training.train import train

        fail_at(BAD_STEP)
        step = Trainer.train_step
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

        def limited(self: Trainer, lr: float) -> Any:
            full = first <= self.step < last
            resource.setrlimit(resource.RLIMIT_FSIZE, (10 if full else hard, hard))
            return step(self, lr)

        Trainer.train_step = limited  # type: ignore[method-assign]
        try:
            train(recipe(), folder, quiet=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    return in_child(action, folder.parent / f"{folder.name}.log")


# ---------------------------------------------------------------------- what is left


def state_of(folder: Path) -> dict[str, Any]:
    """Return the content of a run's last checkpoint, flat, without clocks."""
    state = from_bytes((folder / "checkpoints" / "last.safetensors").read_bytes())
    flat: dict[str, Any] = {}

    def visit(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                visit(item, f"{name}.{key}")
        else:
            flat[name] = value

    visit({name: part for name, part in state.items() if name != "good"}, "")
    return {name: value for name, value in flat.items() if not name.endswith("seconds")}


def differences(a: Path, b: Path) -> list[str]:
    """Return the differences of two finished runs, beside times and rates."""
    found = []
    first, second = state_of(a), state_of(b)
    if first.keys() != second.keys():
        found.append(f"state keys {sorted(first.keys() ^ second.keys())[:3]}")
    for name in first.keys() & second.keys():
        one, two = first[name], second[name]
        same = torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
        if not same:
            found.append(f"state {name}")
    for pattern in ("model/*", "samples/*"):
        names = [{p.name for p in folder.glob(pattern)} for folder in (a, b)]
        if names[0] != names[1]:
            found.append(f"{pattern}: {sorted(names[0] ^ names[1])}")
        for name in names[0] & names[1]:
            path = Path(pattern).with_name(name)
            if _content(a / path) != _content(b / path):
                found.append(str(path))
    if _records(a) != _records(b):
        found.append("metrics.jsonl")
    if _scalars(a) != _scalars(b):
        found.append("TensorBoard")
    found += [str(path) for path in b.rglob(".*")]  # what a killed process left
    return found


def _content(path: Path) -> Any:
    """Return what a file holds, without the date of a saved model."""
    if path.name == "config.json":
        return {**json.loads(path.read_text()), "made_with": None}
    if path.suffix == ".safetensors":  # the calibration has the checksum of the model's file
        tensors, _ = unseal(path.read_bytes())
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return path.read_bytes()


def _records(folder: Path) -> list[tuple]:
    """Return the records but those of training, whose means depend on the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [r for line in lines if (r := json.loads(line))["kind"] != "run"]
    steps = [(record["kind"], record["step"]) for record in records]
    assert len(steps) == len(set(steps)), f"twice in the metrics: {steps}"
    assert [step for _, step in steps] == sorted(step for _, step in steps)
    return [
        (r["kind"], r["step"], r.get("loss", r.get("layer", r.get("gradient"))), r.get("examples"))
        for r in records
        if r["kind"] != "train"
    ]


def _scalars(folder: Path) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing import event_accumulator

    event_accumulator.logger.setLevel("ERROR")  # it reports every purge
    board = event_accumulator.EventAccumulator(str(folder))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars("validation/loss")]


def other(changes: dict[str, Any]) -> ImageRecipe:
    """Return the recipe with other training settings."""
    base = recipe()
    return replace(base, training=replace(base.training, **changes))
