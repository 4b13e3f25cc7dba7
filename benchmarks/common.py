"""What the benchmarks share: the machine's name, data, tables as Markdown, timing."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

import realnvp
from realnvp.data import load_part

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


class Cache:
    """Results by key in a file of JSON lines, so that a benchmark can be run in pieces.

    Args:
        path: the file; results are appended to it as they come.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._known = {tuple(r["key"]): r for r in map(json.loads, lines)}

    def __contains__(self, key: tuple[Any, ...]) -> bool:
        return key in self._known

    def __getitem__(self, key: tuple[Any, ...]) -> dict[str, Any]:
        return self._known[key]

    def add(self, key: tuple[Any, ...], record: dict[str, Any]) -> None:
        """Keep a result."""
        self._known[key] = {"key": key, **record}
        with self._path.open("a") as file:
            file.write(json.dumps(self._known[key]) + "\n")


def held_out(name: str, source: str | None, count: int) -> torch.Tensor:
    """Return the first of the images that a shipped model neither learned nor was chosen by.

    Args:
        name: name of the model.
        source: file of its data, or folder of a named set; if left out, where that is by default.
        count: how many.
    """
    known = realnvp.load(name).trained_on.data
    if source:
        config = replace(known, **{"root" if Path(source).is_dir() else "source": source})
    else:
        config = known
    return load_part(config)[1].x[:count]


def best_time(function: Callable[[], object], repeats: int = 5) -> float:
    """Return the seconds of the fastest of a few calls, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
