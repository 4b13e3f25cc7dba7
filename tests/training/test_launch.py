"""Processes: one that follows no environment, and errors that all of them end by."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from realnvp.bijections import ActNorm
from realnvp.training.launch import launch
from realnvp.utils.distributed import world_size

TORCHRUN = {
    "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "test",
}  # fmt: skip
SLURM = {
    "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "batch", "SLURM_NTASKS": "4", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "3", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "4",
}  # fmt: skip


@pytest.mark.parametrize("variables", [TORCHRUN, SLURM], ids=["torchrun", "slurm"])
def test_a_local_team_follows_no_environment(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with launch("cpu", local=True) as processes:
        assert (processes.rank, processes.world_size, processes.main) == (0, 1, True)
        assert processes.all_reduce_max(1.0, 2.0) == (1.0, 2.0)
        with processes.sync_errors():
            pass


class TwoProcesses:
    """A process group of two, in which any communication fails."""

    @staticmethod
    def install(monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise AssertionError("a local training must not communicate")

        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_world_size", lambda *args: 2)
        monkeypatch.setattr(dist, "get_rank", lambda *args: 0)
        for name in ("all_reduce", "all_gather_object", "broadcast", "new_group"):
            monkeypatch.setattr(dist, name, fail)


def test_a_local_team_joins_no_process_group(monkeypatch):
    TwoProcesses.install(monkeypatch)
    assert world_size() == 2
    with pytest.raises(AssertionError, match="must not communicate"):
        ActNorm(3)(torch.randn(4, 3))
    with launch("cpu", local=True) as processes:
        assert world_size() == processes.world_size == 1
        ActNorm(3)(torch.randn(4, 3))  # its statistics are those of its own batch
    assert world_size() == 2


def test_a_local_team_is_one_process():
    with pytest.raises(ValueError, match="one process, got 2"):
        launch("cpu", devices=2, local=True)


def test_one_process_imports_no_compiler(tmp_path):
    """Nor Fabric, which imports it: 75 MB, and more than a second at every start."""
    rows = "\n".join(f"{i % 7},{'xyz'[i % 3]},{'uv'[i % 2]}" for i in range(300))
    (tmp_path / "t.csv").write_text(f"number,letter,other\n{rows}\n")
    code = f"""
import sys
import torch
from realnvp import image_flow, vector_flow
from realnvp.cli.main import main
from realnvp.utils.registry import COUPLINGS
import realnvp.training.train

assert "scipy" not in sys.modules, "which only some tables and figures need"
with torch.device("meta"):
    for coupling in COUPLINGS:
        image_flow((1, 8, 8), coupling=coupling, hidden=4, blocks=1)
        vector_flow(3, coupling=coupling, condition_dim=1, condition_bins=3, mixture_init=2)
small = ["--steps", "1", "--no-report", "--quiet", "--training.calibration", "0"]
data = ["--data", {str(tmp_path / "t.csv")!r}, "--data.condition", "number"]
assert main(["train", "table", *data, *small, "--out", {str(tmp_path / "run")!r}]) == 0
slow = ("torch._dynamo", "sympy", "lightning_fabric", "torch.distributed.tensor")
loaded = [name for name in sys.modules if name.startswith(slow)]
assert not loaded, loaded[0]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_one_process_has_the_device_that_is_asked_for(accelerator):
    device = launch(accelerator).device
    assert device == torch.device("cpu") or (accelerator == "auto" and device.index == 0)
