"""Sharded trainings of two processes, of which one is killed while shards are written."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from helpers.kills import Moments, recipe
from realnvp.config import ImageRecipe
from realnvp.data import load_data
from realnvp.training import shards
from realnvp.training.initialization import build
from realnvp.training.trainer import Trainer
from realnvp.utils.serialization import from_bytes

STEPS = 5

GRACE = 5.0
"""Seconds that the other process has to end by itself, as torchrun gives it some."""


def sharded_recipe() -> ImageRecipe:
    """Return the training of :func:`helpers.kills.recipe`, shorter and sharded."""
    short = recipe(STEPS)
    return replace(short, training=replace(short.training, strategy="fsdp", num_validations=2))


def run_pair(
    folder: Path, *, resume: bool = False, kill_at: int | None = None, who: int = 0
) -> list[int]:
    """Train in two processes; return their exit statuses, negative for a signal.

    Args:
        folder: run directory.
        resume: go on with the run in it.
        kill_at: number of the moment at which a process kills itself; None only counts.
        who: rank of the process that is killed, or that counts.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("fork")
    pair = [
        context.Process(target=_train, args=(rank, port, folder, resume, kill_at, who))
        for rank in range(2)
    ]
    for process in pair:
        process.start()
    while all(process.is_alive() for process in pair):
        time.sleep(0.05)
    for process in pair:  # one that is left waits for the other for minutes
        process.join(None if kill_at is None else GRACE)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in pair]


def _train(rank: int, port: int, folder: Path, resume: bool, kill_at: int | None, who: int) -> None:
    from realnvp.training.train import train

    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ.update({name: str(value) for name, value in names.items()})
    with (folder.parent / f"{folder.name}-{rank}.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    moments = Moments(kill_at if rank == who else None)
    moments.watch_all()
    moments.watch(os, "rename", "a rename")
    moments.watch(shards, "_checksum", "a checksum")
    moments.watch(shards, "remove_shards", "a removal")
    train(sharded_recipe(), folder, resume=resume, quiet=True, report=False)
    if rank == who and kill_at is None:
        (folder.parent / f"moments{who}.json").write_text(json.dumps(moments.names))


def kill_and_resume_pair(folder: Path, kill_at: int, who: int, *, tear: bool = False) -> None:
    """Kill one of two processes, tear a shard of the newest checkpoint if asked, and resume.

    Raises:
        AssertionError: if it was not killed, or cannot be resumed.
    """
    assert run_pair(folder, kill_at=kill_at, who=who)[who] == -signal.SIGKILL
    last = folder / "checkpoints" / "last.safetensors"
    if tear and last.exists() and last.with_name("previous.safetensors").exists():
        about = from_bytes(last.read_bytes())["shards"]
        shard = last.parent / about["folder"] / sorted(about["files"])[who]
        os.truncate(shard, shard.stat().st_size // 2)
    statuses = run_pair(folder, resume=(folder / "config.yaml").exists())
    logs = "\n".join(path.read_text() for path in folder.parent.glob(f"{folder.name}-?.log"))
    assert statuses == [0, 0], logs


def trained_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors that a run ended with, put together in this process."""
    chosen = sharded_recipe()
    data = load_data(chosen.data)
    trainer = Trainer(
        build(chosen, data), data, replace(chosen.training, strategy="ddp"),
        seed=chosen.seed, shards=folder / "checkpoints",
    )  # fmt: skip
    trainer.load_state_dict(from_bytes((folder / "checkpoints/last.safetensors").read_bytes()))
    now = trainer.state_dict()["now"]
    assert now["step"] == STEPS
    moments = {f"{i}.{n}": t for i, own in now["moments"].items() for n, t in own.items()}
    best = {f"best {name}": tensor for name, tensor in now["best_weights"].items()}
    average = {f"average {name}": tensor for name, tensor in now["average"].items()}
    return {**now["model"], **moments, **average, **best}


def pair_differences(a: Path, b: Path) -> list[str]:
    """Return the names of tensors that two runs do not have alike, and shards that were left."""
    first, second = trained_tensors(a), trained_tensors(b)
    found = [name for name, t in first.items() if not torch.equal(t, second[name])]
    left = len(list((b / "checkpoints").glob(f"{shards.PREFIX}*")))
    return found + ([f"{left} folders of shards"] if left > 2 else [])
