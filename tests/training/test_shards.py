"""Shards are written beside a checkpoint, found damaged, put together, and removed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from realnvp.training import shards
from realnvp.training.run_directory import RunDirectory
from realnvp.utils.serialization import from_bytes

TEAM: Any = SimpleNamespace(
    rank=0, group=None, broadcast=lambda content: content, gather=lambda value: [value]
)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    """Let this process be a group of one; tests/system/test_processes.py has several."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def state(mesh: Any, value: float = 1.0) -> dict[str, Any]:
    sharded = distribute_tensor(torch.full((4, 3), value), mesh, [Shard(0)])
    scalar = torch.tensor(value)
    now = {"model": {"a.weight": sharded, "b": scalar}, "moments": {"0": {"exp_avg": 2 * sharded}}}
    return {"now": {**now, "step": 3}, "good": None, "evaluated": 0}


LIKE = {"model/a.weight": torch.zeros(4, 3), "moments/0/exp_avg": torch.zeros(4, 3)}


def test_shards_come_back_whole_in_a_process_that_is_not_sharded(mesh, tmp_path):
    written = shards.write_shards(state(mesh), tmp_path, TEAM)
    assert written["now"]["model"]["a.weight"] is None
    assert written["shards"]["tensors"] == ["now/model/a.weight", "now/moments/0/exp_avg"]
    shards.check_shards(written, tmp_path)
    back = shards.read_shards(written, tmp_path, LIKE)
    assert torch.equal(back["now"]["model"]["a.weight"], torch.ones(4, 3))
    assert torch.equal(back["now"]["moments"]["0"]["exp_avg"], torch.full((4, 3), 2.0))
    assert back["now"]["model"]["b"] is written["now"]["model"]["b"]


def test_shards_come_back_sharded(mesh, tmp_path):
    written = shards.write_shards(state(mesh), tmp_path, TEAM)
    like = {name: distribute_tensor(t, mesh, [Shard(0)]) for name, t in LIKE.items()}
    back = shards.read_shards(written, tmp_path, like)["now"]["model"]["a.weight"]
    assert back.placements == (Shard(0),)
    assert torch.equal(back.full_tensor(), torch.ones(4, 3))


@pytest.mark.parametrize("like", [{}, {name: torch.zeros(5, 3) for name in LIKE}])
def test_shards_of_another_model_are_refused(mesh, tmp_path, like):
    written = shards.write_shards(state(mesh), tmp_path, TEAM)
    with pytest.raises(ValueError, match="do not fit the settings"):
        shards.read_shards(written, tmp_path, like)


def test_a_process_that_sees_no_shards_says_what_is_needed(mesh, tmp_path):
    written = shards.write_shards(state(mesh), tmp_path, TEAM)
    with pytest.raises(ValueError, match="on a disk that all machines share"):
        shards.read_shards(written, tmp_path / "elsewhere", LIKE)


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_damaged_shards_are_found_and_the_checkpoint_before_is_taken(mesh, tmp_path, damage):
    run = RunDirectory(tmp_path / "run")
    run.create({"seed": 0}, None)
    folder = run.last.parent
    for value in (1.0, 2.0, 3.0):
        run.save(shards.write_shards(state(mesh, value), folder, TEAM))
        assert len(list(folder.glob("shards-*"))) == min(value, 2)  # of this one, and of the last
    about = from_bytes(run.last.read_bytes())["shards"]
    (name,) = about["files"]
    path = folder / about["folder"] / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[:-1])
    kept, (why,) = run.load()
    run.close()
    assert "shard" in why
    assert kept is not None
    back = shards.read_shards(from_bytes(kept), folder, LIKE)
    assert back["now"]["model"]["a.weight"].unique().tolist() == [2.0]


def test_a_full_disk_is_an_error_of_the_checkpoint_and_leaves_no_shards(
    mesh, tmp_path, monkeypatch
):
    run = RunDirectory(tmp_path / "run")
    run.create({"seed": 0}, None)
    folder = run.last.parent
    run.save(shards.write_shards(state(mesh), folder, TEAM))
    before = {path for path in folder.rglob("*") if path.is_file()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    written = shards.write_shards(state(mesh, 2.0), folder, TEAM)
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left"):
        run.save(written)
    run.close()
    assert {path for path in folder.rglob("*") if path.is_file()} == before


def test_shards_are_removed_but_those_that_are_named(tmp_path):
    for name in ("shards-1", "shards-2", "other"):
        (tmp_path / name).mkdir()
    shards.remove_shards(tmp_path, ["shards-2"])
    assert {path.name for path in Path(tmp_path).iterdir()} == {"shards-2", "other"}
