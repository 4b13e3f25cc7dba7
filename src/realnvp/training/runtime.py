"""The process of a training run: memory, arithmetic, compilation, threads and signals."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from realnvp.conditioners import Conditioner
from realnvp.config import TrainingConfig
from realnvp.flow import Flow
from realnvp.utils.errors import is_too_large
from realnvp.utils.model_folder import made_with, physical_memory
from realnvp.utils.progress import warn
from realnvp.utils.threads import single_thread


def check_memory(make: Callable[[], Flow], copies: int = 6) -> None:
    """Refuse a model that cannot fit into memory, before an attempt exhausts the machine.

    Args:
        make: function that builds the model.
        copies: tensors per parameter in training: itself, gradient, two moments, average and best.

    Raises:
        ValueError: if the machine has too little memory to train it.
    """
    try:
        with torch.device("meta"):  # shapes without memory
            count = sum(tensor.numel() for tensor in make().state_dict().values())
    except RuntimeError as error:
        if not is_too_large(error):  # any other error is a bug, and must not be hidden
            raise
        raise ValueError("the model is larger than any memory: lower model.hidden") from error
    needed, held = copies * 4 * count, physical_memory()
    if held is not None and needed > held:
        raise ValueError(
            f"the model has {count:,} parameters, which takes {needed / 2**30:,.0f} GiB to train, "
            f"and this machine has {held / 2**30:,.0f}: lower model.hidden or the number of layers"
        )


def compute_dtype(config: TrainingConfig, flow: Flow, device: torch.device) -> torch.dtype | None:
    """Return the type in which conditioners compute, None for that of their input.

    With ``precision: auto`` it is bfloat16 for images, where the device computes it natively.
    """
    if config.precision == "auto":
        if len(flow.shape) == 1:  # tiny matrices gain nothing
            return None
        return torch.bfloat16 if _native_bfloat16(device) else None
    return torch.bfloat16 if config.precision == "bfloat16" else None


def compile_conditioners(flow: Flow, device: torch.device) -> None:
    """Compile every conditioner, or warn that there is no compiler.

    Args:
        flow: the model, which may not be on the device yet.
        device: device that it will compute on.
    """
    if device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        warn("there is no C++ compiler, so nothing is compiled: install g++, or leave it out")
        return
    import torch._dynamo

    conditioners = [m for m in flow.modules() if isinstance(m, Conditioner)]
    # All have the same code with other shapes, and by default one code is compiled 8 times at most.
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
    if not config.compile:  # importing torch.compiler takes seconds
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


@contextmanager
def limited_threads(flow: Flow, batch_size: int, small: int = 2**14) -> Iterator[None]:
    """Use one thread inside this context if a second one would mostly wait for the first.

    On a busy machine that waiting is costly: with another process on one of two cores, the digits'
    recipe took ten times as long with two threads as with one. The choice depends on sizes only,
    since the order of sums, and so the last bits of a run, depend on it.

    Args:
        flow: the model.
        batch_size: examples per batch.
        small: number of values in a batch up to which one thread is as fast as two.
    """
    if flow.device.type != "cpu" or flow.dim * batch_size > small:
        yield
        return
    with single_thread():
        yield


def provenance(device: torch.device) -> dict[str, Any]:
    """Return the provenance of a run: versions, commit, machine and date.

    Args:
        device: device that computes.
    """
    found: dict[str, Any] = {
        **made_with(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return {name: value for name, value in found.items() if value is not None}


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


# Not all exist everywhere: a hang-up is what a closed terminal sends.
NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Let Ctrl-C, SIGTERM and a hang-up end the loop after the step; a second one is immediate.

    A signal that is ignored stays ignored, as under ``nohup``.

    Yields:
        a list that receives the number of the signal.
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
    except ValueError:  # not the main thread, which alone can handle signals
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
