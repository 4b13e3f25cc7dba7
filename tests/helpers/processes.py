"""The same training in one process and in several; also run as the script of each of these."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realnvp.config import (
    DataConfig,
    ImageModel,
    ImageRecipe,
    Recipe,
    TrainingConfig,
    VectorModel,
    VectorRecipe,
)
from realnvp.data import load_data
from realnvp.evaluation import evaluate, log_likelihoods, round_trip
from realnvp.training.callbacks import Callback
from realnvp.training.checkpoint import snapshot
from realnvp.training.initialization import build
from realnvp.training.trainer import Trainer
from realnvp.utils.serialization import from_bytes, to_bytes

STEPS = 12
SETTINGS: dict[str, Any] = {
    "steps": STEPS, "warmup": 5, "lr": 1e-3, "num_validations": 2, "validation_examples": 50,
    "precision": "float32", "validation_share": 1.0,
}  # fmt: skip


def recipes() -> dict[str, Recipe]:
    """Models with every layer that looks at the batch; batches that two or three cannot halve."""
    image = ImageRecipe(
        ImageModel(hidden=4, blocks=1, norm="batch", conditioner_norm="batch"),
        DataConfig(source="digits", flip=True),
        TrainingConfig(**SETTINGS, batch_size=31),
    )
    return {
        "batch norm": image,
        "invertible": replace(image, training=replace(image.training, memory="invertible")),
        "muon": replace(image, training=replace(image.training, optimizer="muon")),
        "act norm": replace(image, model=replace(image.model, norm="act")),
        "vectors": VectorRecipe(
            VectorModel(couplings=4, hidden=8, norm="batch"),
            DataConfig(source="moons", points=500),
            TrainingConfig(**SETTINGS, batch_size=51),
        ),
    }


class CheckpointFile(Callback):
    """Write every state into one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, state: dict[str, Any], *, final: bool = False) -> None:
        self.path.write_bytes(to_bytes(state))


def train_some(
    recipe: Recipe,
    double: bool = False,
    stop: Path | None = None,
    resume: Path | None = None,
) -> dict[str, Tensor]:
    """Train for some steps, in the processes that there are; weights, averages and scores.

    Args:
        recipe: recipe.
        double: in float64.
        stop: file to write a checkpoint to in the middle, in which the training ends.
        resume: checkpoint to go on from.
    """
    dataset = load_data(recipe.data)
    flow = build(recipe, dataset)
    it = Trainer(
        flow.double() if double else flow, dataset, recipe.training, seed=recipe.seed
    )  # fmt: skip
    if resume is not None:
        it.load_state_dict(from_bytes(resume.read_bytes()))
        assert 0 < it.step < STEPS
    stopped: list[int] = []
    if stop is not None:
        step = it.train_step

        def last(lr: float) -> Any:
            if it.step == STEPS // 2:
                stopped.append(signal.SIGTERM)
            return step(lr)

        it.train_step = last  # type: ignore[method-assign]
        it.callbacks = [CheckpointFile(stop)] if it.processes.main else []
    it.fit(stopped=stopped)
    if stop is not None:
        it.finish()
        return {"step": torch.tensor(it.step)}
    now = snapshot(it.state_dict()["now"])  # best_flow() may replace the weights
    flow, validation = it.best_flow(), dataset.validation
    return {
        **{f"weights {name}": tensor for name, tensor in now["model"].items()},
        **{f"average {name}": tensor for name, tensor in now["average"].items()},
        "scores": log_likelihoods(flow, validation, shared=True),
        "best": torch.tensor(it.selection.loss, dtype=torch.float64),
        "evaluation": torch.tensor(evaluate(flow, validation, shared=True).loss),
        "round trip": torch.tensor(round_trip(flow, validation, shared=True).float_error),
    }


def in_processes(count: int, out: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run this script in so many processes, as ``torchrun`` would; what each has found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = []
    for rank in range(count):
        env = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        command = [sys.executable, "-m", "helpers.processes", str(out / f"{rank}"), *arguments]
        workers.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    errors = [worker.communicate(timeout=900)[1] for worker in workers]
    assert all(worker.returncode == 0 for worker in workers), "\n".join(errors)
    return [from_bytes((out / f"{rank}").read_bytes()) for rank in range(count)]


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor], only: str = "") -> float:
    """Return the largest difference of any number, relative to 1 or its tensor's size."""
    assert a.keys() == b.keys()
    found = 0.0
    for name in a:
        if name.startswith(only) and b[name].numel():
            one, two = a[name].double(), b[name].double()
            found = max(found, ((one - two).abs().max() / two.abs().max().clamp(min=1)).item())
    return found


def main(out: str, *names: str) -> None:
    """Train the recipes of these names, each followed by "double" if asked for.

    With "stop=FILE", a training ends in the middle, with a checkpoint; with "resume=FILE", it goes
    on from there.
    """
    torch.set_num_threads(1)
    found = {}
    for name in names:
        base, *options = name.split("+")
        files = {key: Path(path) for key, _, path in (o.partition("=") for o in options) if path}
        found[name] = train_some(recipes()[base], "double" in options, **files)
    Path(out).write_bytes(to_bytes(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
