"""Conditional densities of one column: test log-likelihood beside NGBoost's.

Each file ``NAME.npz`` of the folder has arrays ``X``, ``y``, and ``test``, the indices of the test
rows of each split, padded with -1. Mean log-density of the test rows in nats per row, in the
target's own unit, with its standard error over the splits. Ours is
``RealNVPDensity(integers="none").fit(y, condition=X)``; NGBoost has its defaults (normal
distributions, 500 trees). Both see the target as a real number, wine's six grades included: where a
target takes few values, a density of it can grow without bound, and such a number says little.

NGBoost 0.6 needs scikit-learn below 1.7 and pandas below 3, so it is none of this project's extras:
install both in an environment of their own. Without it, there is no column of it.

    python benchmarks/conditional.py FOLDER --splits 20
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common import table, write
from realnvp.estimator.density import RealNVPDensity


def ours(x: NDArray, y: NDArray, test_x: NDArray, test_y: NDArray) -> float:
    density = RealNVPDensity(integers="none", random_state=0).fit(y, condition=x)
    return density.score(test_y, condition=test_x)


def ngboost(x: NDArray, y: NDArray, test_x: NDArray, test_y: NDArray) -> float:
    from ngboost import NGBRegressor

    model = NGBRegressor(verbose=False, random_state=0).fit(x, y)
    return float(model.pred_dist(test_x).logpdf(test_y).mean())


MODELS = {"RealNVPDensity": ours, "NGBoost": ngboost}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=20, help="number of splits")
    parser.add_argument("--only", nargs="*", help="names of the tables; all by default")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    models = dict(MODELS)
    if importlib.util.find_spec("ngboost") is None:
        del models["NGBoost"]
    rows = []
    for file in sorted(args.folder.glob("*.npz")):
        if args.only and file.stem not in args.only:
            continue
        with np.load(file) as arrays:
            x, y, splits = arrays["X"].astype(float), arrays["y"].astype(float), arrays["test"]
        splits = splits[: args.splits]
        scores: dict[str, list[float]] = {label: [] for label in models}
        seconds = dict.fromkeys(models, 0.0)
        for padded in splits:
            test = padded[padded >= 0]
            train = np.setdiff1d(np.arange(len(x)), test)
            for label, score in models.items():
                start = time.process_time()
                scores[label].append(score(x[train], y[train], x[test], y[test]))
                seconds[label] += (time.process_time() - start) / len(splits)
        row = [f"{file.stem} ({len(x):,} x {x.shape[1]})", str(len(splits))]
        for label, values in scores.items():
            error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
            row.append(f"{np.mean(values):.2f} ± {error:.2f} ({seconds[label]:.1f} s)")
        print(*row, sep=" | ", file=sys.stderr, flush=True)
        rows.append(row)
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    columns = ["table", "splits", *models]
    write("conditional", "One column given others", about, table(columns, rows))


if __name__ == "__main__":
    main()
