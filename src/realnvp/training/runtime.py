"""From a recipe to what is trained: the model, its arithmetic, the optimizer, the schedule."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from realnvp.conditioners import Conditioner
from realnvp.config import TrainingConfig
from realnvp.flow import Flow
from realnvp.utils.errors import is_too_large
from realnvp.utils.model_folder import physical_memory
from realnvp.utils.progress import warn

__all__ = [
    "check_memory",
    "compile_conditioners",
    "compute_dtype",
    "keep_freed_memory",
    "limit_threads",
    "stop_signals",
    "uncompiled",
]

SMALL_BATCH = 2**14
"""Numbers in a batch up to which one thread is as fast as two."""


COPIES = 6
"""Tensors per parameter while training: itself, gradient, two moments, average and best."""


def check_memory(make: Callable[[], Flow]) -> None:
    """Refuse a model that cannot fit, before an attempt takes the machine down."""
    try:
        with torch.device("meta"):  # sizes without memory
            count = sum(tensor.numel() for tensor in make().state_dict().values())
    except RuntimeError as error:
        if not is_too_large(error):  # any other error is a bug, and must not be hidden
            raise
        raise ValueError("the model is larger than any memory: lower model.hidden") from error
    needed, held = COPIES * 4 * count, physical_memory()
    if held is not None and needed > held:
        raise ValueError(
            f"the model has {count:,} parameters, which takes {needed / 2**30:,.0f} GiB to train, "
            f"and this machine has {held / 2**30:,.0f}: lower model.hidden or the number of layers"
        )


def compute_dtype(config: TrainingConfig, flow: Flow, device: torch.device) -> torch.dtype | None:
    """The type in which the conditioners compute: bfloat16 where it is native, if "auto"."""
    if config.precision == "auto":
        if len(flow.shape) == 1:  # tiny matrices gain nothing
            return None
        return torch.bfloat16 if _native_bfloat16(device) else None
    return torch.bfloat16 if config.precision == "bfloat16" else None


def compile_conditioners(flow: Flow) -> None:
    """Compile every conditioner, where that is possible; else one line says why not."""
    if flow.device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        warn("there is no C++ compiler, so nothing is compiled: install g++, or leave it out")
        return
    import torch._dynamo

    conditioners = [m for m in flow.modules() if isinstance(m, Conditioner)]
    # Each has a shape of its own, and all are the same code, which by default is compiled 8 times.
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, len(conditioners))
    limits.accumulated_recompile_limit = max(
        limits.accumulated_recompile_limit, 2 * len(conditioners)
    )
    for module in conditioners:
        module.compile(dynamic=False)


@contextlib.contextmanager
def uncompiled(config: TrainingConfig) -> Iterator[None]:
    """Evaluate without compiled conditioners: for a few batches, compiling would take longer."""
    if not config.compile:  # to import what switches it off takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _native_bfloat16(device: torch.device) -> bool:
    native = {
        "cpu": getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False),
        "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
    }
    return bool(native.get(device.type, lambda: False)())


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step, instead of giving it back to the system.

    Every activation above some size would otherwise be mapped anew in each step, and every page of
    it touched for the first time: 4 % of the time of MNIST's recipes, and for a batch norm of 3 MB,
    alone, more than its arithmetic.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def limit_threads(flow: Flow, batch_size: int) -> None:
    """One thread for models so small that a second one mostly waits for the first.

    On a busy machine that waiting is ruinous: the digits' recipe, with another process on one of
    two cores, took ten times as long with two threads as with one. The choice depends on sizes
    only, since the order of sums, and so the last bits of a run, depend on it.
    """
    if flow.device.type == "cpu" and flow.dim * batch_size <= SMALL_BATCH:
        torch.set_num_threads(1)


# Not all exist everywhere: a hang-up is what a closed terminal sends.
NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and a hang-up end the loop after the current step; a second one at once.

    A signal that is ignored stays so, as under ``nohup``.

    Returns:
        a list that holds the number of the signal as soon as one came.
    """
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    old = {}
    try:
        for number in NUMBERS:
            if signal.getsignal(number) != signal.SIG_IGN:
                old[number] = signal.signal(number, catch)
    except ValueError:  # not the main thread: the signals are somebody else's
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
