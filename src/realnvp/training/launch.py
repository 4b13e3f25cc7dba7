"""One process or many: how they are started, and how they stay together.

A run of several processes is launched by Lightning Fabric, which starts this very command once
more for every further device, or by ``torchrun``, ``srun`` and the like, which Fabric recognises.
From then on all of them do the same, each with its share of every batch; what only one of them can
know (the clock, a signal, an error) is agreed on here.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import subprocess
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn

from realnvp.conditioners import Conditioner
from realnvp.utils.distributed import all_reduce
from realnvp.utils.errors import RemoteRankError, describe, is_expected

__all__ = ["Team", "launch"]

Result = TypeVar("Result")


PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, such as for a first download of the data."""


class Team:
    """The processes of one run; as a context manager, it ends them together.

    Args:
        fabric: launched.
        sharded: whether the parameters are spread over the processes.

    Attributes:
        rank: number of this process.
        ranks: how many there are.
        main: whether this is the one that writes files and messages.
    """

    def __init__(self, fabric: Fabric, sharded: bool = False) -> None:
        self.fabric, self.sharded = fabric, sharded
        self.rank, self.world_size = fabric.global_rank, fabric.world_size
        self.main = self.rank == 0
        # What is agreed on is numbers of the CPU, whatever the gradients are reduced by.
        self._group = (
            dist.new_group(backend="gloo", timeout=PATIENCE) if self.world_size > 1 else None
        )
        self._children: list[subprocess.Popen] = getattr(fabric.strategy.launcher, "procs", [])
        outside = os.environ.get("TORCHELASTIC_RUN_ID") or os.environ.get("SLURM_JOB_ID")
        self._is_child = fabric.local_rank > 0 and not outside

    @contextlib.contextmanager
    def sync_errors(self) -> Iterator[None]:
        """A block without communication, after which all processes go on, or none does.

        Raises:
            ValueError: in the main process, if another one failed, with its message.
            RemoteRankError: in the others.
        """
        if self.world_size == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
        told = None if error is None else (describe(error), is_expected(error))
        everyone: list[tuple[str, bool] | None] = [None] * self.world_size
        dist.all_gather_object(everyone, told, self._group)
        failed = [(rank, what) for rank, what in enumerate(everyone) if what is not None]
        if not failed:
            return
        if self.main and error is not None:
            raise error
        if error is not None and not is_expected(error):
            traceback.print_exception(error)
        rank, (text, expected) = failed[0]
        if self.main:
            raise (ValueError if expected else RuntimeError)(f"process {rank}: {text}")
        raise self.remote_rank_error()

    def remote_rank_error(self, status: int = 2) -> RemoteRankError:
        """What the processes but the main one raise, where the main one reports an error.

        Fabric kills everything as soon as a process that it started fails, the report included.
        """
        return RemoteRankError(0 if self._is_child else status)

    def rank_zero_first(self, load: Callable[[], Result]) -> Result:
        """What ``load`` returns, called by one process of each machine before the others.

        So a download happens once, and the others find it done.
        """
        results = []
        for turn in (True, False):
            with self.sync_errors():
                if (self.fabric.local_rank == 0) is turn:
                    results.append(load())
            if self.world_size == 1:
                break
        return results[0]

    def all_reduce_max(self, *values: float) -> tuple[float, ...]:
        """The largest that any process has, of each value: clocks, and flags as 0 and 1."""
        if self.world_size == 1:
            return values
        largest = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(largest, dist.ReduceOp.MAX, self._group)
        return tuple(largest.tolist())

    def gather(self, value: Any) -> list[Any]:
        """What each of the processes has."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value, self._group)
        return values

    def broadcast(self, content: bytes | None) -> bytes | None:
        """What the main process has."""
        if self.world_size == 1:
            return content
        size = torch.tensor([-1 if content is None else len(content)])
        dist.broadcast(size, 0, self._group)
        if size < 0:
            return None
        held = bytearray(content if content is not None and self.main else int(size))
        data = torch.frombuffer(held, dtype=torch.uint8) if held else torch.empty(0)
        dist.broadcast(data, 0, self._group)
        return bytes(held)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        return all_reduce(values) / self.world_size

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.world_size == 1:
            return
        lost = isinstance(error, RuntimeError) and _is_lost(error)
        for child in self._children:
            # A child that has agreed to end does so by itself; one that waits for the others
            # would wait for ever.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=None if error is None else 5)
        for child in self._children:
            if child.poll() is None:
                child.kill()
        if error is None or isinstance(error, RemoteRankError):
            dist.destroy_process_group()
        if lost and self.main:
            raise ConnectionError(
                "another process of this run ended, for the reason that it printed; the last "
                "checkpoint is intact: go on with --resume"
            ) from error
        if lost:
            raise RemoteRankError(1) from error


def _is_lost(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone."""
    signs = ("closed by peer", "Connection reset", "Broken pipe", "Connection refused", "NCCL")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


def launch(
    accelerator: str = "auto", devices: int = 1, nodes: int = 1, strategy: str = "ddp"
) -> Team:
    """Start the processes that are asked for, unless this is one of them.

    Args:
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: processes on each machine; under ``torchrun``, those that it has started.
        nodes: machines; likewise.
        strategy: "ddp" or "fsdp", for several processes.

    Raises:
        ValueError: if the machine has no such devices, or ``torchrun`` started other processes.
    """
    started = os.environ.get("LOCAL_WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else None
    if started is not None:
        if devices not in (1, int(started)):
            raise ValueError(
                f"torchrun started {started} processes on this machine, but --devices asks for "
                f"{devices}: leave --devices out"
            )
        devices = int(started)
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    world_size = devices * nodes
    chosen: Any = "auto"
    if world_size > 1 and strategy == "fsdp":
        chosen = ModelParallelStrategy(
            _shard, data_parallel_size=world_size, tensor_parallel_size=1
        )
    elif world_size > 1:
        chosen = _ddp()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # else it greets on stderr
    try:
        fabric = Fabric(accelerator=accelerator, strategy=chosen, devices=devices, num_nodes=nodes)
        fabric.launch()
    except (RuntimeError, ValueError, AssertionError) as error:  # Fabric's own derive from these
        raise ValueError(
            f"cannot use {devices} devices of kind {accelerator!r}: {describe(error)}"
        ) from error
    return Team(fabric, sharded=world_size > 1 and strategy == "fsdp")


def _ddp() -> DDPStrategy:
    # Buffers are statistics of the whole batch: equal everywhere without being sent.
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # Of 1x1 convolutions in channels_last: two names for one order in memory.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DDPStrategy(gradient_as_bucket_view=True, **{name: False})  # type: ignore[arg-type]


def _shard(flow: nn.Module, mesh: Any) -> nn.Module:
    """Spread the parameters over the processes: each conditioner is gathered when it computes."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = mesh["data_parallel"]
    for parameter in flow.parameters():  # it shards no other memory order
        parameter.data = parameter.data.contiguous()
    for module in flow.modules():
        if isinstance(module, Conditioner):
            fully_shard(module, mesh=mesh)
    # By default the outermost module stays gathered, and what is then saved is a stale copy.
    fully_shard(flow, mesh=mesh, reshard_after_forward=True)
    for method in ("log_prob", "loss_terms", "encode", "decode", "sample"):
        register_fsdp_forward_method(flow, method)
    return flow
