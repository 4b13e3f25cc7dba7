"""Conditional densities of one column: test log-likelihood beside NGBoost's.

Each file ``NAME.npz`` of the folder has arrays ``X``, ``y``, and ``test``, the indices of the test
rows of each split, padded with -1. Mean over the first splits with its standard error, and in
brackets the number of splits and the seconds (of the CPU) for each.

A target that is a real number has a density: nats per row, in the target's own unit, by
``RealNVPDensity(integers="none").fit(y, condition=X)``. A target of integers, such as wine's
six grades, has probabilities: log P(grade | X), by the defaults of ``RealNVPDensity``, and of
NGBoost by the probability that its normal distribution gives to the cell of width 1 around a grade.
Grades have no density: that of few values grows without bound as a model puts peaks on them.

NGBoost 0.6 needs scikit-learn below 1.7 and pandas below 3, so it runs in an environment of its
own, by ``benchmarks/ngboost_scores.py``, with its defaults (normal distributions, 500 trees).

    python benchmarks/conditional.py FOLDER --splits 20 --ngboost scores.json --cache splits.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common import Cache, table, write
from realnvp.estimator.density import RealNVPDensity


def score(
    x: NDArray, y: NDArray, test_x: NDArray, test_y: NDArray, integers: str
) -> tuple[float, float]:
    """Return the mean log-likelihood of test rows, and the seconds that it took."""
    start = time.process_time()
    density = RealNVPDensity(integers=integers, random_state=0).fit(y, condition=x)
    found = density.score(test_y, condition=test_x)
    return found, time.process_time() - start


def cell(values: Sequence[float], seconds: float) -> str:
    """Return a mean with its standard error."""
    if not values:
        return ""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return f"{np.mean(values):.2f} ± {error:.2f} ({len(values)} x {seconds:.1f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=20, help="number of splits")
    parser.add_argument("--only", nargs="*", help="names of the tables; all by default")
    parser.add_argument("--ngboost", type=Path, help="scores that ngboost_scores.py has written")
    parser.add_argument("--cache", default="conditional.jsonl", help="file of finished splits")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    peer = {} if args.ngboost is None else json.loads(args.ngboost.read_text())
    rows, cache = [], Cache(args.cache)
    for file in sorted(args.folder.glob("*.npz")):
        if args.only and file.stem not in args.only:
            continue
        with np.load(file) as arrays:
            x, y, splits = arrays["X"].astype(float), arrays["y"].astype(float), arrays["test"]
        discrete = (y == np.round(y)).all()
        found = []
        for i, padded in enumerate(splits[: args.splits]):
            key = (file.stem, i)
            if key not in cache:
                test = padded[padded >= 0]
                train = np.setdiff1d(np.arange(len(x)), test)
                integers = "auto" if discrete else "none"
                nats, seconds = score(x[train], y[train], x[test], y[test], integers)
                cache.add(key, {"nats": nats, "seconds": seconds})
                print(*key, nats, seconds, file=sys.stderr, flush=True)
            found.append((cache[key]["nats"], cache[key]["seconds"]))
        kind = "probability" if discrete else "density"
        row = [f"{file.stem} ({len(x):,} x {x.shape[1]})", kind]
        row.append(cell([nats for nats, _ in found], np.mean([s for _, s in found])))
        its = peer.get(file.stem)
        row.append(cell(its[kind][: args.splits], np.mean(its["seconds"])) if its else "")
        print(*row, sep=" | ", file=sys.stderr, flush=True)
        rows.append(row)
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    columns = ["table", "log of the", "RealNVPDensity", "NGBoost"]
    write("conditional", "One column given others", about, table(columns, rows))


if __name__ == "__main__":
    main()
