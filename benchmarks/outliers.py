"""Outliers of tables: AUROC and average precision beside other detectors, and calibration.

One-class: fitted to half of the normal rows, tested on the other half and all outliers.
Contaminated: fitted to all rows and scored on the same, with the detectors' settings for that
(ours: contamination=0.1, others know of it only for their threshold, which is not used here). All
columns are standardized by the rows that are fitted to; at most so many rows of a set, drawn at
random. Labels are used for the test only. "p <= 0.05" is a share of the held-out normal rows.

    python benchmarks/outliers.py --data FOLDER [--rows 10000] [--seeds 5] [--sets WBC Pima ...]

FOLDER holds .npz files with X and y (1 is an outlier), such as those of ADBench
(https://github.com/Minqi824/ADBench). Results are appended to CACHE as they come, and read from it.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from common import Cache, table, write
from realnvp.estimator import RealNVPDensity, RealNVPOutlierDetector

Scores = Callable[[NDArray, NDArray, bool, int], NDArray]
"""Function of training rows, test rows, whether these are the same, and a seed."""


def ours(train: NDArray, test: NDArray, same: bool, seed: int) -> tuple[NDArray, NDArray]:
    contamination = 0.1 if same else "auto"
    detector = RealNVPOutlierDetector(contamination=contamination, random_state=seed).fit(train)
    return -detector.score_samples(test), detector.p_values(test)


def density(train: NDArray, test: NDArray, same: bool, seed: int) -> NDArray:
    found = RealNVPDensity(random_state=seed).fit(train).score_samples(test)
    return -np.nan_to_num(found, neginf=-1e30)


def forest(train: NDArray, test: NDArray, same: bool, seed: int) -> NDArray:
    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


def local_factor(train: NDArray, test: NDArray, same: bool, seed: int) -> NDArray:
    if same:
        return -LocalOutlierFactor().fit(train).negative_outlier_factor_
    return -LocalOutlierFactor(novelty=True).fit(train).score_samples(test)


def neighbors(train: NDArray, test: NDArray, same: bool, seed: int) -> NDArray:
    count = min(5 + same, len(train))
    return NearestNeighbors(n_neighbors=count).fit(train).kneighbors(test)[0][:, -1]


def support(train: NDArray, test: NDArray, same: bool, seed: int) -> NDArray:
    return -OneClassSVM().fit(train).score_samples(test)


def mixture(train: NDArray, test: NDArray, same: bool, seed: int) -> NDArray:
    return -GaussianMixture(random_state=seed).fit(train).score_samples(test)


def of_pyod(name: str) -> Scores:
    def scores(train: NDArray, test: NDArray, same: bool, seed: int) -> NDArray:
        from importlib import import_module

        options = {"n_features": train.shape[1], "random_state": seed, "verbose": 0}
        module = import_module(f"pyod.models.{'deep_svdd' if name == 'DeepSVDD' else name.lower()}")
        model = getattr(module, name)(**(options if name == "DeepSVDD" else {}))
        return model.fit(train).decision_function(test)

    return scores


MODELS: dict[str, Any] = {
    "RealNVPOutlierDetector": ours,
    "RealNVPDensity": density,
    "kNN": neighbors,
    "LOF": local_factor,
    "IsolationForest": forest,
    "OneClassSVM": support,
    "GaussianMixture": mixture,
    "ECOD": of_pyod("ECOD"),
    "COPOD": of_pyod("COPOD"),
    "DeepSVDD": of_pyod("DeepSVDD"),
}


def parts(path: Path, same: bool, seed: int, most: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return training rows, test rows, and labels of the test rows."""
    with np.load(path) as data:
        x, y = data["X"].astype(np.float64), data["y"].astype(int).ravel()
    rng = np.random.default_rng(seed)
    if len(x) > most:
        few = rng.permutation(len(x))[:most]
        x, y = x[few], y[few]
    normal = rng.permutation(np.flatnonzero(y == 0))
    train = np.arange(len(x)) if same else normal[: len(normal) // 2]
    test = train if same else np.concatenate([normal[len(normal) // 2 :], np.flatnonzero(y == 1)])
    scaler = StandardScaler().fit(x[train])
    return scaler.transform(x[train]), scaler.transform(x[test]), y[test]


def records(args: Any, paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield the results of every set, seed, setting and model; finished ones from the cache."""
    cache = Cache(args.cache)
    for path in paths:
        for seed in range(args.seeds):
            for same in (False, True) if args.setting == "both" else (args.setting != "one-class",):
                found = None
                for name in args.models:
                    key = (
                        path.stem,
                        seed,
                        "contaminated" if same else "one-class",
                        name,
                        args.rows,
                    )
                    if key not in cache:
                        found = found or parts(path, same, seed, args.rows)
                        train, test, y = found
                        if y.sum() == 0:
                            continue
                        start = time.process_time()
                        scores = MODELS[name](train, test, same, seed)
                        record: dict[str, Any] = {"seconds": time.process_time() - start}
                        if isinstance(scores, tuple):
                            scores, p = scores
                            record["p05"] = float((p[y == 0] <= 0.05).mean())
                            record["p01"] = float((p[y == 0] <= 0.01).mean())
                        scores = np.nan_to_num(scores, nan=0.0, posinf=1e30, neginf=-1e30)
                        record["auroc"] = roc_auc_score(y, scores)
                        record["ap"] = average_precision_score(y, scores)
                        cache.add(key, record)
                        print(
                            *key,
                            f"{record['auroc']:.4f} {record['seconds']:.1f} s",
                            file=sys.stderr,
                        )
                    yield cache[key]


def report(found: list[dict[str, Any]], setting: str, models: list[str]) -> str:
    """Return the tables of one setting: means over the sets, and every set's AUROC."""
    values: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for record in found:
        name, _, of, model, _ = record["key"]
        if of == setting:
            values[name][model].append(record)
    names = [name for name in values if all(model in values[name] for model in models)]

    def mean(name: str, model: str, what: str) -> float:
        return float(np.mean([record[what] for record in values[name][model]]))

    auroc = np.array([[mean(name, model, "auroc") for model in models] for name in names])
    ranks = np.array([rankdata(-row.round(4)) for row in auroc])
    rows = []
    for j, model in enumerate(models):
        ap = np.mean([mean(name, model, "ap") for name in names])
        seconds = np.mean([mean(name, model, "seconds") for name in names])
        rows.append(
            [
                model,
                f"{auroc[:, j].mean():.4f}",
                f"{ranks[:, j].mean():.2f}",
                f"{ap:.4f}",
                f"{seconds:.1f} s",
            ]
        )
    text = [f"## {setting}, {len(names)} sets"]
    text.append(table(["detector", "mean AUROC", "mean rank", "average precision", "time"], rows))
    per_set = [[name, *(f"{v:.3f}" for v in auroc[i])] for i, name in enumerate(names)]
    if setting == "one-class" and "RealNVPOutlierDetector" in models:
        for row, name in zip(per_set, names, strict=True):
            row += [f"{mean(name, 'RealNVPOutlierDetector', key):.3f}" for key in ("p05", "p01")]
        shares = np.array([[float(v) for v in row[-2:]] for row in per_set])
        text.append(
            f"Calibration, of held-out normal rows: p <= 0.05 for {shares[:, 0].mean():.4f} on "
            f"average over the sets (largest {shares[:, 0].max():.3f}), p <= 0.01 for "
            f"{shares[:, 1].mean():.4f} (largest {shares[:, 1].max():.3f})."
        )
        text.append(table(["set", *models, "p <= 0.05", "p <= 0.01"], per_set))
    else:
        text.append(table(["set", *models], per_set))
    return "\n\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/adbench", help="folder of .npz files with X and y")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--setting", default="both", choices=["one-class", "contaminated", "both"])
    parser.add_argument("--cache", default="outliers.jsonl")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    paths = sorted(Path(args.data).glob("*.npz"), key=lambda path: path.stat().st_size)
    if args.sets:
        paths = [path for path in paths if path.stem in args.sets]
    if not paths:
        sys.exit(f"no .npz files in {args.data}: give --data FOLDER")
    found = list(records(args, paths))
    command = "python benchmarks/outliers.py " + " ".join(sys.argv[1:])
    settings = ["one-class", "contaminated"] if args.setting == "both" else [args.setting]
    about = f"At most {args.rows:,} rows, {args.seeds} seeds."
    intro = (__doc__ or "").split("\n\n")[1].strip()
    write(
        "outliers",
        "Outliers of tables",
        intro,
        f"{about} `{command.replace(args.data, 'FOLDER')}`",
        *(report(found, setting, args.models) for setting in settings),
    )


if __name__ == "__main__":
    main()
