"""Fits of the tables of ADBench: does every fit succeed, with finite scores, and how long it takes.

``RealNVPDensity`` with its defaults is fitted to the normal rows (``y == 0``) of each table, of the
folder's files ``NAME.npz`` with arrays ``X`` and ``y``; then rows of both kinds are scored. At most
20,000 rows are fitted, and 2,000 scored, chosen at random. Seconds are of the processor, so that
other processes do not count.

    python benchmarks/adbench.py FOLDER
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from common import table, write
from realnvp.estimator.density import RealNVPDensity

ROWS, SCORED = 20_000, 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", help="names of the tables; all by default")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows: list[list[object]] = []
    files = sorted(args.folder.glob("*.npz"), key=lambda file: file.stat().st_size)
    for file in files:
        if args.only and file.stem not in args.only:
            continue
        with np.load(file) as arrays:
            x, y = arrays["X"].astype(float), arrays["y"]
        chance = np.random.default_rng(0)
        normal = chance.permutation(np.flatnonzero(y == 0))[:ROWS]
        scored = x[chance.permutation(len(x))[:SCORED]]
        start = time.process_time()
        try:
            density = RealNVPDensity(random_state=0).fit(x[normal])
            fitted = time.process_time()
            scores = density.score_samples(scored)
            result = [
                f"{fitted - start:.1f}",
                f"{time.process_time() - fitted:.1f}",
                "no" if np.isnan(scores).any() or (scores == np.inf).any() else "yes",
                int((scores == -np.inf).sum()),
                density.n_iter_,
            ]
        except (ValueError, FloatingPointError, RuntimeError) as error:
            result = ["failed", "", str(error)[:80], "", ""]
        rows.append([file.stem, f"{len(normal):,} x {x.shape[1]}", *result])
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    columns = ["table", "rows fitted", "fit (s)", "score 2,000 (s)", "no NaN or +inf"]
    columns += ["rows of probability 0", "steps"]
    write("adbench", "Fits of ADBench's tables", (__doc__ or "").split("\n\n", 1)[1].strip(),
          table(columns, rows))  # fmt: skip


if __name__ == "__main__":
    main()
