"""The process that a training runs in: threads, signals, compilers and what a run records."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from realnvp import image_flow, vector_flow
from realnvp.config import TrainingConfig
from realnvp.training import runtime
from realnvp.training.runtime import (
    check_memory,
    compile_conditioners,
    compute_dtype,
    limited_threads,
    provenance,
    stop_signals,
)


def test_small_models_have_one_thread_for_a_while():
    flow, before = vector_flow(2), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with limited_threads(flow, 100):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with limited_threads(flow, 10**6):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_comes_back_whoever_ends_first():
    flow, before = vector_flow(2), torch.get_num_threads()
    torch.set_num_threads(2)
    entered, leave = threading.Barrier(4), [threading.Event() for _ in range(4)]

    def hold(index: int) -> int:
        with limited_threads(flow, 100):
            entered.wait()
            leave[index].wait()
            return torch.get_num_threads()

    try:
        with ThreadPoolExecutor(4) as pool:
            held = [pool.submit(hold, index) for index in range(4)]
            for index in (2, 0, 3, 1):
                leave[index].set()
                held[index].result()
            assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {2}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_compilation_asks_for_the_device_that_will_compute(monkeypatch, capsys):
    """The flow may still be on the CPU when it is compiled for a GPU, which needs no g++."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled = []
    flow = vector_flow(2, couplings=2)
    for module in flow.modules():
        if isinstance(module, runtime.Conditioner):
            monkeypatch.setattr(module, "compile", lambda **kwargs: compiled.append(kwargs))
    compile_conditioners(flow, torch.device("cpu"))
    assert compiled == []
    assert "no C++ compiler" in capsys.readouterr().err
    compile_conditioners(flow, torch.device("cuda"))
    assert len(compiled) == 2


def test_precision_is_as_asked_for_and_tiny_models_gain_nothing():
    images, cpu = image_flow((1, 8, 8), levels=17, hidden=4, blocks=1), torch.device("cpu")
    wide, narrow = (TrainingConfig(steps=1, precision=p) for p in ("float32", "bfloat16"))
    assert compute_dtype(wide, images, cpu) is None
    assert compute_dtype(narrow, images, cpu) is torch.bfloat16
    assert compute_dtype(TrainingConfig(steps=1), vector_flow(2), cpu) is None


def test_only_what_is_too_large_is_called_so():
    with pytest.raises(ValueError, match="larger than any memory"):
        check_memory(lambda: vector_flow(2, hidden=10**10))
    with pytest.raises(ValueError, match="this machine has"):
        check_memory(lambda: vector_flow(2, hidden=10**7))

    def broken() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        check_memory(broken)  # type: ignore[arg-type]


def test_a_signal_is_noted_and_the_second_one_ends_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_records_what_made_it():
    found = provenance(torch.device("cpu"))
    assert found["torch"] == str(torch.__version__)
    assert found["threads"] == torch.get_num_threads()
    assert {"realnvp", "python", "date", "cpu_capability"} <= found.keys()
