"""How much memory loading takes: a process of its own, whose peak the libraries do not hide."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from typing import Any

import numpy as np


def peaks(*cases: dict[str, Any]) -> list[float]:
    """Return by how many MiB each case raises the peak memory of a fresh process.

    Args:
        cases: settings of the data; with "part", that part alone is loaded.
    """
    done = subprocess.run(
        [sys.executable, "-m", "helpers.loading", json.dumps(cases)],
        capture_output=True, text=True, timeout=600, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return json.loads(done.stdout)


def _growth(case: dict[str, Any]) -> float:
    from realnvp.config import DataConfig
    from realnvp.data import load_data, load_part

    np.save(case["source"] + ".few.npy", np.zeros((9, 8, 8), np.uint8))
    load_data(DataConfig(case["source"] + ".few.npy"))  # a fork has to map the libraries again
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    part = case.pop("part", None)
    kept = load_part(DataConfig(**case), part) if part else load_data(DataConfig(**case))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kept
    return grown / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    from realnvp.config import DataConfig
    from realnvp.data import load_data

    cases = json.loads(sys.argv[1])
    load_data(DataConfig("moons", points=9))
    found = []
    for case in cases:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, json.dumps(_growth(case)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            found.append(json.loads(pipe.read()))
        os.waitpid(child, 0)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
