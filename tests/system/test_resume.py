"""A run goes on from where it was, bit for bit, and a folder belongs to one run at a time."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.kills import differences, recipe
from helpers.memory import memory_growth
from realnvp.cli.main import main
from realnvp.config import DataConfig, TrainingConfig, VectorModel, VectorRecipe
from realnvp.data import load_data
from realnvp.training.run_directory import RunDirectory
from realnvp.training.train import train
from realnvp.training.trainer import Trainer
from realnvp.utils import serialization as checkpoint
from realnvp.utils.errors import Interrupted

TINY = recipe(8)


def steps_of(folder: Path, kind: str = "validation") -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [r["step"] for r in map(json.loads, lines) if r["kind"] == kind]


@contextmanager
def signals_at(step: int, number: int) -> Iterator[None]:
    """Send this process a signal before a training step."""
    original = Trainer.train_step

    def interrupted(self: Trainer, lr: float) -> Any:
        if self.step == step:
            os.kill(os.getpid(), number)
        return original(self, lr)

    Trainer.train_step = interrupted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.train_step = original  # type: ignore[method-assign]


@contextmanager
def full_disk(size: int = 100) -> Iterator[None]:
    """Let no file be larger than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Return a run that nothing interrupted."""
    torch.manual_seed(0)  # as every test begins: its state is part of a checkpoint
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(TINY, folder, quiet=True)
    return folder


@pytest.mark.parametrize("norm", ["batch", "act"])
def test_more_steps_later_equal_all_at_once(tmp_path, norm):
    constant = replace(TINY.training, decay="constant", num_validations=4)
    base = replace(TINY, model=replace(TINY.model, norm=norm), training=constant)
    train(base, tmp_path / "whole", quiet=True)
    half = replace(base, training=replace(constant, steps=4, num_validations=2))
    train(half, tmp_path / "parts", quiet=True)
    train(base, tmp_path / "parts", resume=True, quiet=True)
    assert differences(tmp_path / "whole", tmp_path / "parts") == []


@pytest.fixture
def _signals_heeded():
    """Handle signals that the tests may have been started to ignore, as with nohup."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, old, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_heeded")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_the_run_can_be_resumed(tmp_path, whole, name):
    number = getattr(signal, name)
    with signals_at(3, number), pytest.raises(Interrupted, match="--resume") as caught:
        train(TINY, tmp_path / "run", quiet=True)
    assert caught.value.status == 128 + number
    train(TINY, tmp_path / "run", resume=True, quiet=True)
    assert differences(whole, tmp_path / "run") == []


def test_the_exit_status_is_that_of_the_signal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with signals_at(2, signal.SIGTERM):
        assert main(["train", "moons", "--steps", "9", "--quiet"]) == 143
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("realnvp: error: stopped at step 3 ")
    assert main(["train", "moons", "--steps", "9", "--quiet", "--resume"]) == 0


def test_an_ignored_signal_stays_ignored(tmp_path):
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals_at(2, signal.SIGHUP):
            assert train(TINY, tmp_path / "run", quiet=True).steps == 8
    finally:
        signal.signal(signal.SIGHUP, old)


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, whole, damage, capsys):
    folder = tmp_path / "run"
    with signals_at(5, signal.SIGTERM), pytest.raises(Interrupted):
        train(TINY, folder, quiet=True)
    last = folder / "checkpoints" / "last.safetensors"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes({"torn": content[:-1], "flipped": content, "empty": b""}[damage])
    train(TINY, folder, resume=True, quiet=True)
    assert "damaged checkpoint, continuing from the one before it" in capsys.readouterr().err
    assert differences(whole, folder) == []


def test_without_any_whole_checkpoint_nothing_is_guessed(tmp_path, whole):
    folder = tmp_path / "run"
    train(TINY, folder, quiet=True)
    for path in (folder / "checkpoints").glob("*.safetensors"):
        path.write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"no checkpoint .* can be read"):
        train(TINY, folder, resume=True, quiet=True)


def test_resume_refuses_another_model_and_changes_nothing(tmp_path):
    folder = tmp_path / "run"
    train(TINY, folder, quiet=True)
    before = contents(folder)
    data, model = TINY.data, TINY.model
    changes: dict[str, dict[str, Any]] = {
        "model.hidden": {"model": replace(model, hidden=8)},
        "model.norm": {"model": replace(model, norm="act")},
        "data.flip": {"data": replace(data, flip=False)},
        "data.validation": {"data": replace(data, validation=0.2)},
        "data.source": {"data": replace(data, source="mnist", root=str(tmp_path))},
        "seed": {"seed": 1},
    }
    for name, change in changes.items():
        other = replace(TINY, **change, training=replace(TINY.training, steps=20))
        with pytest.raises(ValueError, match=f"began with {name} .* a run keeps its data"):
            train(other, folder, resume=True, quiet=True)
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, bytes]:
    """Return the files of a run but its lock and who holds it."""
    aside = ("lock", "holder.txt")
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in aside}


def test_a_finished_run_is_left_as_it_is(whole, tmp_path, capsys):
    folder = tmp_path / "run"
    first = train(TINY, folder, quiet=True)
    before = contents(folder)
    again = replace(TINY, training=replace(TINY.training, lr=1e-5))
    result = train(again, folder, resume=True)
    error = capsys.readouterr().err
    assert "already finished after 8 steps" in error
    assert "training.lr: 0.001 -> 1e-05 changes nothing" in error
    assert contents(folder) == before
    assert (result.steps, result.likelihood) == (8, first.likelihood)
    assert [r["kind"] for r in result.records][-1] == "final"


def test_other_training_settings_are_shown_on_resume(tmp_path, capsys):
    folder = tmp_path / "run"
    train(TINY, folder, quiet=True)
    longer = replace(TINY, training=replace(TINY.training, steps=10, lr=1e-5))
    assert train(longer, folder, resume=True).steps == 10
    lines = capsys.readouterr().err.splitlines()
    assert "training.steps: 8 -> 10" in lines
    assert "training.lr: 0.001 -> 1e-05" in lines
    assert len([line for line in lines if " -> " in line]) == 2


def test_a_checkpoint_of_other_shapes_is_refused_before_it_is_used():
    trainer = Trainer.from_recipe(TINY, load_data(TINY.data))
    for _ in range(2):
        trainer.train_step(1e-3)
    state = checkpoint.from_bytes(checkpoint.to_bytes(trainer.state_dict()))
    weights = {name: t.clone() for name, t in trainer.flow.state_dict().items()}
    for change in (
        lambda now: now["moments"]["3"].update(exp_avg=torch.zeros(1)),
        lambda now: now["moments"].pop("0"),
        lambda now: now["moments"]["0"].update(step=torch.zeros((), dtype=torch.int64)),
        lambda now: now["average"].popitem(),
        lambda now: now.update(step="3"),
        lambda now: now.update(rng=torch.zeros(3, dtype=torch.uint8)),
        lambda now: now["model"].update(more=torch.zeros(2)),
        lambda now: now.pop("best"),
    ):
        bad = checkpoint.from_bytes(checkpoint.to_bytes(state))
        change(bad["now"])
        with pytest.raises(ValueError, match="does not fit"):
            trainer.load_state_dict(bad)
        assert all(torch.equal(t, weights[n]) for n, t in trainer.flow.state_dict().items())


def test_moments_lie_in_memory_as_the_parameters_do():
    """Fused optimizers take it for granted, and weights of convolutions are in channels_last."""
    trainer = Trainer.from_recipe(TINY, load_data(TINY.data))
    trainer.train_step(1e-3)
    state = checkpoint.from_bytes(checkpoint.to_bytes(trainer.state_dict()))
    other = Trainer.from_recipe(TINY, load_data(TINY.data))
    other.load_state_dict(state)
    for group in other.optimizer.param_groups:
        for parameter in group["params"]:
            assert other.optimizer.state[parameter]["exp_avg"].stride() == parameter.stride()


# ---------------------------------------------------------------------- one run, one folder


def test_a_folder_in_use_is_left_alone(tmp_path):
    folder = tmp_path / "run"
    train(TINY, folder, quiet=True)
    holder = RunDirectory(folder, resume=True)
    with pytest.raises(BlockingIOError, match=f"being trained by process {os.getpid()} on"):
        train(TINY, folder, resume=True, quiet=True)
    holder.close()
    train(TINY, folder, resume=True, quiet=True)


def test_the_folder_is_free_again_when_its_process_is_killed(tmp_path):
    folder = tmp_path / "run"
    train(TINY, folder, quiet=True)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from realnvp.training.run_directory import RunDirectory\n"
        "run = RunDirectory(Path(sys.argv[1]), resume=True)\n"
        "print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"process {process.pid} on"):
            RunDirectory(folder, resume=True)
        process.kill()
        process.wait()
    RunDirectory(folder, resume=True).close()


def test_what_a_process_leaves_that_was_killed_as_it_began_is_no_run(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "lock").write_text("process 1 on somewhere")
    (folder / ".config.1.tmp~.yaml").write_text("kind: im")
    train(TINY, folder, quiet=True)
    assert not list(folder.glob(".*"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").write_text("data")
    with pytest.raises(FileExistsError, match="is not a run"):
        train(TINY, tmp_path / "other", quiet=True)


# ---------------------------------------------------------------------- full disks


def test_a_disk_that_is_full_from_the_start_leaves_nothing_behind(tmp_path):
    with full_disk(), pytest.raises(OSError, match="too large") as caught:
        train(TINY, tmp_path / "a" / "run", quiet=True)
    assert "a/run/" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_for_a_while_costs_only_pictures(tmp_path, whole, capsys, monkeypatch):
    step = Trainer.train_step
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def limited(self: Trainer, lr: float) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 if 2 <= self.step < 5 else hard, hard))
        return step(self, lr)

    monkeypatch.setattr(Trainer, "train_step", limited)
    train(TINY, tmp_path / "run", quiet=True)
    assert capsys.readouterr().err.count("warning: cannot write to") == 1
    found = differences(whole, tmp_path / "run")
    assert all(what.startswith("samples/") for what in found)


def test_a_disk_that_stays_full_ends_in_an_error_and_a_run_to_resume(tmp_path, whole, monkeypatch):
    step = Trainer.train_step
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(self: Trainer, lr: float) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 if self.step >= 5 else hard, hard))
        return step(self, lr)

    monkeypatch.setattr(Trainer, "train_step", limited)
    try:
        with pytest.raises(OSError, match="the checkpoint before it is intact; make room"):
            train(TINY, tmp_path / "run", quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.undo()
    train(TINY, tmp_path / "run", resume=True, quiet=True)
    assert differences(whole, tmp_path / "run") == []


# ---------------------------------------------------------------------- long runs


def test_memory_does_not_grow(tmp_path):
    """A leak of one small tensor per step would show; `make faults` runs 5,000 steps."""
    config = TrainingConfig(
        steps=600, batch_size=8, num_validations=3, validation_examples=20, checkpoint_every=0.2
    )
    small = VectorRecipe(
        VectorModel(couplings=1, hidden=2, blocks=0), DataConfig(source="moons", points=100), config
    )
    grown = memory_growth(small, tmp_path / "run")
    assert grown < 8


def test_a_reader_that_leaves_ends_nothing():
    """`realnvp ... | head -1` is no error."""
    command = [sys.executable, "-m", "realnvp", "recipes", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")
