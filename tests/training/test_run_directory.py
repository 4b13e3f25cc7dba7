"""The directory of a run: made whole or not at all, held by one process, replaced with care."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from realnvp.training.run_directory import RunDirectory
from realnvp.utils.serialization import from_bytes

CONFIG = {"kind": "image", "training": {"lr": 1e-3, "betas": (0.9, 0.999)}, "seed": 0}


def made(folder: Path, step: int = 1, **arguments: bool) -> RunDirectory:
    run = RunDirectory(folder, **arguments)
    run.create(CONFIG, {"step": step, "weights": torch.ones(3)})
    return run


def test_a_run_has_settings_and_a_first_checkpoint(tmp_path):
    run = made(tmp_path / "run")
    assert yaml.safe_load(run.config_path.read_text())["training"]["betas"] == [0.9, 0.999]
    content = run.load()
    assert content is not None
    assert from_bytes(content)["step"] == 1
    run.close()


def test_changed_settings_are_found(tmp_path):
    run = made(tmp_path / "run")
    old = {**CONFIG, "training": {"lr": 1e-3, "betas": [0.9, 0.999], "gone": 1}}
    run.write_config(old)
    new = {**CONFIG, "seed": 1, "training": {"lr": 1e-4, "betas": (0.9, 0.999), "added": 2}}
    assert run.changes(new) == {"seed": (0, 1), "training.lr": (1e-3, 1e-4)}


def test_a_setting_that_is_a_mapping_is_compared_as_a_whole(tmp_path):
    run = made(tmp_path / "run")
    old = {**CONFIG, "data": {"columns": None}, "model": {"coupling_options": {"bins": 3}}}
    run.write_config(old)
    new = {**CONFIG, "data": {"columns": {"age": "integer"}}, "model": {"coupling_options": None}}
    assert run.changes(new) == {
        "data.columns": (None, {"age": "integer"}),
        "model.coupling_options": ({"bins": 3}, None),
    }


def test_overwriting_replaces_the_run_and_nothing_else(tmp_path):
    run = made(tmp_path / "run")
    run.save({"step": 2, "weights": torch.ones(3)})
    for name in ("metrics.jsonl", "curves.png", "events.out.tfevents.1", "model/config.json",
                 "samples/step-0000001.png", "notes.txt"):  # fmt: skip
        path = run.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    run.close()
    new = made(tmp_path / "run", step=7, overwrite=True)
    content = new.load()
    assert content is not None
    assert from_bytes(content)["step"] == 7
    left = {str(p.relative_to(new.folder)) for p in new.folder.rglob("*") if p.is_file()}
    held = {"checkpoints/lock", "checkpoints/holder.txt"}
    assert left == {"config.yaml", "checkpoints/last.safetensors", "notes.txt", *held}
    new.close()


def test_nothing_is_lost_before_everything_else_has_gone_well(tmp_path):
    made(tmp_path / "run").close()
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.*") if p.is_file()}
    run = RunDirectory(tmp_path / "run", overwrite=True)
    assert {p: p.read_bytes() for p in before} == before, "not before it is created"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            run.create(CONFIG, {"weights": torch.ones(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {p: p.read_bytes() for p in before} == before
    run.close()


def test_what_is_no_run_is_never_overwritten(tmp_path):
    (tmp_path / "precious.txt").write_text("data")
    with pytest.raises(FileExistsError, match="is not a run"):
        RunDirectory(tmp_path, overwrite=True)
    made(tmp_path / "new", overwrite=True).close()  # a new run
    with pytest.raises(ValueError, match="either resumed or overwritten"):
        RunDirectory(tmp_path / "new", resume=True, overwrite=True)


def test_a_run_in_progress_is_not_overwritten(tmp_path):
    folder = tmp_path / "run"
    made(folder).close()
    code = (
        "import sys; from pathlib import Path\n"
        "from realnvp.training.run_directory import RunDirectory\n"
        "run = RunDirectory(Path(sys.argv[1]), resume=True)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        for arguments in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(BlockingIOError, match=f"trained by process {process.pid} on"):
                RunDirectory(folder, **arguments)
        process.kill()  # nothing can catch it
        process.wait()
    RunDirectory(folder, overwrite=True).close()
