"""What the benchmarks share: the machine's name, tables as Markdown, timing."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Return the processor, its cores and PyTorch's version, in one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
        flags = next((x for x in lines if x.startswith("flags")), "")
        name += "".join(f", {f}" for f in ("avx512_bf16", "amx_bf16") if f in flags)
    threads = torch.get_num_threads()
    return f"{name}; {os.cpu_count()} cores, {threads} threads used; torch {torch.__version__}"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def write(name: str, title: str, *parts: str) -> None:
    """Write and print a file of results."""
    text = "\n\n".join([f"# {title}", f"{machine()}; {date.today()}", *parts]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(text, flush=True)


def best_time(function: Callable[[], object], repeats: int = 5) -> float:
    """Return the seconds of the fastest of a few calls, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
