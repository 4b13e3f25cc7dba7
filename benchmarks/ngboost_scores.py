"""NGBoost's scores of the splits of `conditional.py`, as JSON.

It runs in an environment of its own: NGBoost 0.6 needs scikit-learn below 1.7 and pandas below 3,
and cannot be installed beside this project. It has its defaults: normal distributions, 500 trees.
"density" is the mean log-density of the test rows of each split, in the target's own unit;
"probability" the mean log-probability of the cell of width 1 around each, for targets that are
integers; "seconds" the CPU's, of a split.

    python -m venv ngb && ngb/bin/pip install ngboost "scikit-learn<1.7" "pandas<3"
    ngb/bin/python benchmarks/ngboost_scores.py FOLDER scores.json --splits 20
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from ngboost import NGBRegressor


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--splits", type=int, default=20, help="number of splits")
    parser.add_argument("--only", nargs="*", help="names of the tables; all by default")
    args = parser.parse_args()
    # Finished splits stay, so that it can be run in pieces.
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    for file in sorted(args.folder.glob("*.npz")):
        if args.only and file.stem not in args.only:
            continue
        with np.load(file) as arrays:
            x, y, splits = arrays["X"].astype(float), arrays["y"].astype(float), arrays["test"]
        empty: dict[str, list[float]] = {"density": [], "probability": [], "seconds": []}
        scores = found.setdefault(file.stem, empty)
        for padded in splits[len(scores["density"]) : args.splits]:
            test = padded[padded >= 0]
            train = np.setdiff1d(np.arange(len(x)), test)
            start = time.process_time()
            model = NGBRegressor(verbose=False, random_state=0).fit(x[train], y[train])
            normal = model.pred_dist(x[test])
            scores["density"].append(float(normal.logpdf(y[test]).mean()))
            scores["seconds"].append(time.process_time() - start)
            if (y == np.round(y)).all():
                p = normal.cdf(y[test] + 0.5) - normal.cdf(y[test] - 0.5)
                scores["probability"].append(float(np.log(np.maximum(p, 1e-300)).mean()))
            args.out.write_text(json.dumps(found, indent=1))
        print(file.stem, {name: np.mean(v) for name, v in scores.items() if v}, flush=True)


if __name__ == "__main__":
    main()
