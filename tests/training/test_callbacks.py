"""What is kept of a training: records in memory, and files that a full disk cannot spoil."""

from __future__ import annotations

import resource
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from realnvp import plots, vector_flow
from realnvp.reports.run import read_records
from realnvp.training import callbacks
from realnvp.training.callbacks import History, RunLogger, TensorBoardWriter
from realnvp.training.run_directory import RunDirectory


@contextmanager
def full_disk(size: int) -> Any:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_events_are_on_the_disk_when_the_call_returns(tmp_path):
    threads = threading.active_count()
    writer = TensorBoardWriter(tmp_path)
    for step in range(3):
        writer.log(step, {"train/loss": 1.0 / (step + 1)})
        assert len(scalars(tmp_path, "train/loss")) == step + 1
    assert threading.active_count() == threads


def test_pictures_are_events(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.picture(3, plots.as_png(Image.new("L", (4, 6), 200)))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (shown,) = events.Images("samples")
    assert (shown.step, shown.width, shown.height) == (3, 4, 6)


def test_a_full_disk_costs_no_event(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.log(0, {"loss": 1.0})
    size = next(tmp_path.iterdir()).stat().st_size
    with full_disk(size + 10), pytest.raises(OSError, match="too large"):
        writer.log(1, {"loss": 2.0})
    assert next(tmp_path.iterdir()).stat().st_size == size, "no half of a record"
    writer.log(2, {"loss": 3.0})
    assert scalars(tmp_path, "loss") == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_tensorboard_forgets_what_is_undone(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    for step in (1, 2, 3):
        writer.log(step, {"loss": float(step)})
    writer.purge(2)
    writer.log(2, {"loss": 9.0})
    assert scalars(tmp_path, "loss") == [(1, 1.0), (2, 9.0)]


def test_history_goes_back_and_thins_out(monkeypatch):
    monkeypatch.setattr(callbacks, "POINTS", 10)
    history = History()
    for step in range(1, 31):
        history.log("train", step, float(step), {"loss": 1.0})
    history.log("validation", 30, 30.0, {"loss": 1.0})
    history.log("final", 30, 31.0, {"loss": 1.0})
    assert len(history.records) <= 12
    assert history.records[-2]["kind"] == "validation"
    history.rewind(30)
    assert history.records[-1]["kind"] == "validation", "what ends a run is not in a longer one"
    history.rewind(20)
    assert history.records[-1]["step"] <= 20


@pytest.fixture
def run(tmp_path) -> Any:
    run = RunDirectory(tmp_path / "run")
    run.create({"kind": "vector"}, {"step": 0})
    yield run
    run.close()


def logger(run: RunDirectory, step: int = 0, **arguments: Any) -> tuple[RunLogger, list[str]]:
    warnings: list[str] = []
    flow = vector_flow(2, hidden=4, couplings=2)
    return RunLogger(run, flow, step, warnings.append, **arguments), warnings


def state(step: int, weights: Any, evaluated: int = 0) -> dict[str, Any]:
    now = {"step": step, "best": 1.0, "worse": 0, "best_weights": weights}
    return {"now": now, "rollback": {"factor": 1.0}, "evaluated": evaluated}


def test_a_run_logger_writes_records_pictures_the_model_and_checkpoints(run):
    it, warnings = logger(run, data=torch.zeros(5, 2))
    it.log("train", 1, 0.5, {"loss": 2.0})
    it.log("validation", 1, 0.6, {"loss": 1.0, "examples": 3})
    it.picture(1, torch.randn(5, 2))
    weights = {name: t.clone() for name, t in it.flow.state_dict().items()}
    it.save(state(1, weights))
    assert [r["kind"] for r in read_records(run.folder / "metrics.jsonl")] == [
        "train", "validation"
    ]  # fmt: skip
    assert (run.folder / "samples" / "step-0000001.png").is_file()
    assert (run.folder / "curves.png").is_file()
    assert (run.model_folder / "model.safetensors").is_file()
    assert run.last.is_file()
    assert warnings == []


def test_the_same_final_state_is_not_written_twice(run):
    it, _ = logger(run)
    it.save(state(1, None), final=True)
    written = run.last.stat().st_mtime_ns
    it.save(state(1, None), final=True)
    assert run.last.stat().st_mtime_ns == written
    it.save(state(1, None, evaluated=10), final=True)
    assert run.last.stat().st_mtime_ns > written


def test_records_wait_until_there_is_room(run):
    it, warnings = logger(run)
    with full_disk(10):
        it.log("train", 1, 0.5, {"loss": 2.0})
        it.log("train", 2, 0.7, {"loss": 1.5})
    assert len(warnings) == 1
    assert "training goes on" in warnings[0]
    it.log("train", 3, 0.9, {"loss": 1.0})
    assert [r["step"] for r in read_records(run.folder / "metrics.jsonl")] == [1, 2, 3]


def test_a_flow_that_cannot_be_saved_is_trained_all_the_same(run):
    flow = vector_flow(2, hidden=4, couplings=2)
    flow.config = None
    warnings: list[str] = []
    it = RunLogger(run, flow, 0, warnings.append)
    it.save(state(1, flow.state_dict()))
    assert "the checkpoints hold its weights" in warnings[0]
    assert run.last.is_file()
    assert not run.model_folder.exists()
