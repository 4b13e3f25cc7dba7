"""One process or many: launching and synchronization.

A run of several processes is launched by Lightning Fabric, which starts the same command again for
every further device, or by ``torchrun``, ``srun`` and the like, which Fabric recognizes. From then
on all of them do the same, each with its share of every batch. Local information (the clock, a
signal, an error) is exchanged here. A single process does not use Fabric, which imports PyTorch's
compiler: 75 MB, and more than a second at every start.

A run inside another program, such as an estimator's ``fit``, is *local*: it ignores environment
variables and joins no process group, even if there is one.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from realnvp.flow import Flow
from realnvp.utils.distributed import all_reduce, alone
from realnvp.utils.errors import RemoteRankError, describe, is_expected

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

Result = TypeVar("Result")


STARTED = {"LOCAL_RANK", "SLURM_NTASKS", "JSM_NAMESPACE_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}
"""Environment variables of a process that another launcher may have started with others."""


class Processes:
    """The processes of one run. Used as a context manager, it ends them together.

    Args:
        device: device that this process computes on.
        fabric: launched Fabric; None for a single process without a launcher.
        local: ignore any process group, inside the context.

    Attributes:
        device: device that this process computes on.
        rank: global rank of this process.
        world_size: number of processes.
        main: True for rank 0, which writes files and messages.
        group: the process group, on the CPU, of messages between the processes; None for one.
    """

    def __init__(
        self,
        device: torch.device,
        fabric: Fabric | None = None,
        local: bool = False,
    ) -> None:
        self.device, self.local = device, local
        self._fabric = fabric
        self._context = contextlib.ExitStack()
        self.rank, self.world_size, self._local_rank = 0, 1, 0
        self._children: list[subprocess.Popen] = []
        if fabric is not None:
            self.rank, self.world_size = fabric.global_rank, fabric.world_size
            self._local_rank = fabric.local_rank
            self._children = getattr(fabric.strategy.launcher, "procs", [])
        self.main = self.rank == 0
        # Clocks, signals and errors are exchanged on the CPU, whatever reduces the gradients.
        self.group: Any = None
        if self.world_size > 1:  # a process may wait long, such as for a first download of the data
            with _output_as_errors():
                self.group = dist.new_group(backend="gloo", timeout=timedelta(minutes=30))
        outside = os.environ.get("TORCHELASTIC_RUN_ID") or os.environ.get("SLURM_JOB_ID")
        self._is_child = self._local_rank > 0 and not outside

    def setup(self, flow: Flow, make: Callable[[Flow], torch.optim.Optimizer]) -> tuple[Any, Any]:
        """Place a model on the device; return the model to train, and its optimizer.

        Args:
            flow: the model, which is moved in place.
            make: function that makes the optimizer.

        Returns:
            the model, or a wrapper of it that averages gradients over the processes, and the
            optimizer.
        """
        if self._fabric is None:
            return flow.to(self.device), make(flow)
        wrapped, optimizer = self._fabric.setup(flow, make(flow))
        wrapped.mark_forward_method("loss_terms")
        return wrapped, optimizer

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss, and average them over the processes."""
        if self._fabric is None:
            loss.backward()
        else:
            self._fabric.backward(loss)

    @contextlib.contextmanager
    def sync_errors(self) -> Iterator[None]:
        """Run a block without communication, after which all processes continue, or none does.

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
        failure = None if error is None else (describe(error), is_expected(error))
        failures = self.gather(failure)
        failed = [(rank, what) for rank, what in enumerate(failures) if what is not None]
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
        """Return what every process but the main one raises when the main one reports an error.

        The status is 0 in processes that Fabric started: it kills all others as soon as one of
        them fails, before the main process has printed its report.
        """
        return RemoteRankError(0 if self._is_child else status)

    def rank_zero_first(self, load: Callable[[], Result]) -> Result:
        """Call ``load`` in one process of each machine before the others.

        A download then happens once, and the others find the files.
        """
        results = []
        for turn in (True, False):
            with self.sync_errors():
                if (self._local_rank == 0) is turn:
                    results.append(load())
            if self.world_size == 1:
                break
        return results[0]

    def all_reduce_max(self, *values: float) -> tuple[float, ...]:
        """Return the maximum of each value over the processes; flags are 0 and 1."""
        if self.world_size == 1:
            return values
        largest = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(largest, dist.ReduceOp.MAX, self.group)
        return tuple(largest.tolist())

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value, self.group)
        return values

    def broadcast(self, content: bytes | None) -> bytes | None:
        """Return the main process's bytes, or None, in every process."""
        shared = [content]
        if self.world_size > 1:
            dist.broadcast_object_list(shared, 0, self.group)
        return shared[0]

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the processes."""
        return all_reduce(values) / self.world_size

    def __enter__(self) -> Processes:
        if self.local:
            self._context.enter_context(alone())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.close()
        if self.world_size == 1:
            return
        lost = isinstance(error, RuntimeError) and _is_lost(error)
        for child in self._children:
            # A child that takes part in the shutdown exits by itself; one that waits for the others
            # would wait forever.
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
                "checkpoint is intact: continue with --resume"
            ) from error
        if lost:
            raise RemoteRankError(1) from error


def _is_lost(error: RuntimeError) -> bool:
    """Return True if an error says that another process is gone."""
    signs = ("closed by peer", "Connection reset", "Broken pipe", "Connection refused", "NCCL")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


def launch(
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    *,
    local: bool = False,
) -> Processes:
    """Start the requested processes, unless this is one of them.

    Args:
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: processes on each machine; under ``torchrun``, those that it has started.
        nodes: machines; under ``torchrun``, those that it has started.
        local: use this process only, and ignore ``torchrun``, Slurm and any process group.

    Raises:
        ValueError: if the machine has no such devices, or ``torchrun`` started other processes.
    """
    if local and devices * nodes > 1:
        raise ValueError(f"a local run has one process, got {devices * nodes}")
    started = os.environ.get("LOCAL_WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else None
    if started is not None and not local:
        if devices not in (1, int(started)):
            raise ValueError(
                f"torchrun started {started} processes on this machine, but --devices asks for "
                f"{devices}: leave --devices out"
            )
        devices = int(started)
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    world_size = devices * nodes
    if world_size == 1 and (local or not STARTED & os.environ.keys()):
        return Processes(_device(accelerator), local=local)
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # else it prints a greeting
    try:
        fabric = Fabric(
            accelerator=accelerator,
            strategy=_ddp() if world_size > 1 else "auto",
            devices=devices,
            num_nodes=nodes,
        )
        with _output_as_errors():
            fabric.launch()
    except (RuntimeError, ValueError, AssertionError) as error:  # Fabric's own derive from these
        raise ValueError(
            f"cannot use {devices} devices of kind {accelerator!r}: {describe(error)}"
        ) from error
    return Processes(fabric.device, fabric)


@contextlib.contextmanager
def _output_as_errors() -> Iterator[None]:
    """Send standard output, where results go, to standard error: PyTorch 2.9's Gloo prints."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)


def _device(accelerator: str) -> torch.device:
    """Return the device of a kind.

    Raises:
        ValueError: if there is none.
    """
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    if accelerator in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator in ("auto", "cpu"):
        return torch.device("cpu")
    raise ValueError(f"cannot use a device of kind {accelerator!r}: there is none")


def _ddp() -> DDPStrategy:
    from lightning_fabric.strategies import DDPStrategy

    # Buffers hold statistics of the whole batch, which are equal everywhere without being sent.
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # For 1x1 convolutions in channels_last: two names for one order in memory.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DDPStrategy(gradient_as_bucket_view=True, **{name: False})  # type: ignore[arg-type]
