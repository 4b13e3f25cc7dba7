"""Freed memory is reused: by page faults, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, torch
{setup}
def batch():
    tensors = [torch.zeros(2**20) for _ in range(5)]  # 20 MB
for _ in range(5):
    batch()
before = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(10):
    batch()
after = resource.getrusage(resource.RUSAGE_SELF)
print((after.ru_minflt - before.ru_minflt) / 10, after.ru_maxrss)
"""


def measured(setup: str = "") -> list[float]:
    """Return page faults of a batch, and the peak of the process's memory, in KB."""
    command = [sys.executable, "-c", CODE.format(setup=setup)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(value) for value in done.stdout.split()]


def test_tensors_reuse_freed_memory_which_costs_none():
    pytest.importorskip("resource")
    faults, peak = measured()
    if faults < 1000:
        pytest.skip("this C library returns no large blocks to the system")
    setup = "from realnvp.utils.allocation import keep_freed_memory; keep_freed_memory()"
    kept, peak_kept = measured(setup)
    assert kept < faults / 5
    assert peak_kept < peak + 16_000  # of the block's 32 MB, none is touched


def test_a_flow_brings_it():
    if measured()[0] < 1000:
        pytest.skip("this C library returns no large blocks to the system")
    made = "import realnvp; realnvp.vector_flow(1, couplings=1)"
    assert measured("import realnvp.flow")[0] > 1000, "an import has side effects"
    assert measured(made)[0] < 1000 / 5
