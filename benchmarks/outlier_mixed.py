"""Outliers of tables with text, dates and gaps: planted rows that cannot be told column by column.

Fitted to half of the rows, tested on the other half and on as many copies of it that are made
strange: "shuffled", each column is that of another row, so that only combinations are implausible;
"one value", a single value, of a random column, is that of another row and a different one. The
others get categories as one-hot vectors, a gap being a category, gaps of numbers as the median and
whether there is one, dates as days and hours, and all of it standardized. AUROC, means over the
seeds; "p <= 0.05" is a share of the rows that were held out and are as they were. Tables have at
most so many rows, drawn at random; `flights` is without its column of tail numbers.

    python benchmarks/outlier_mixed.py [--rows 2000] [--seeds 3] [--only penguins mpg ...]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from common import table, write
from outliers import MODELS
from realnvp.estimator import RealNVPOutlierDetector
from synthetic import tables

OTHERS = ("kNN", "LOF", "IsolationForest", "OneClassSVM", "GaussianMixture")


def shuffled(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n = len(rows)
    return pd.DataFrame({name: rows[name].array[rng.permutation(n)] for name in rows})


def one_value(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    other = rows.iloc[rng.permutation(len(rows))].reset_index(drop=True)
    same = np.column_stack(
        [(rows[c] == other[c]) | (rows[c].isna() & other[c].isna()) for c in rows]
    )
    chosen = np.argmax(rng.random(same.shape) * ~same, axis=1)
    return pd.DataFrame({c: rows[c].mask(chosen == j, other[c]) for j, c in enumerate(rows)})


PLANTED: dict[str, Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]] = {
    "shuffled": shuffled,
    "one value": one_value,
}


def encoded(train: pd.DataFrame, test: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """Return tables as standardized numbers."""
    both, n = pd.concat([train, test], ignore_index=True), len(train)
    columns: list[Any] = []
    for name in both:
        values = both[name]
        if pd.api.types.is_datetime64_any_dtype(values.dtype):
            columns += [values.astype("int64") / 8.64e13, values.dt.hour]
        elif pd.api.types.is_numeric_dtype(values.dtype):
            columns += [values.fillna(values[:n].median()), values.isna()]
        else:
            columns += list(pd.get_dummies(values.astype(object), dummy_na=True).to_numpy().T)
    x = np.column_stack(columns).astype(np.float64)
    scaler = StandardScaler().fit(x[:n])
    return scaler.transform(x[:n]), scaler.transform(x[n:])


def results(frame: pd.DataFrame, seed: int) -> tuple[dict[tuple[str, str], float], float]:
    """Return the AUROC of each way to be strange and each detector, and a share of p-values."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(frame))
    half = len(frame) // 2
    train, test = (frame.iloc[part].reset_index(drop=True) for part in (order[:half], order[half:]))
    detector = RealNVPOutlierDetector(random_state=seed).fit(train)
    found = {}
    for how, change in PLANTED.items():
        rows = pd.concat([test, change(test, rng)], ignore_index=True)
        y = np.repeat([0, 1], len(test))
        found[how, "RealNVPOutlierDetector"] = roc_auc_score(y, -detector.score_samples(rows))
        x = encoded(train, rows)
        for name in OTHERS:
            found[how, name] = roc_auc_score(y, MODELS[name](*x, False, seed))
    return found, float((detector.p_values(test) <= 0.05).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    frames = tables(args.rows)
    names = [name for name in frames if not args.only or name in args.only]
    lines: dict[str, list[list[str]]] = {how: [] for how in PLANTED}
    shares, header = [], ["RealNVPOutlierDetector", *OTHERS]
    for name in names:
        seeds = [results(frames[name], seed) for seed in range(args.seeds)]
        shares.append(float(np.mean([share for _, share in seeds])))
        for how in PLANTED:
            means = [np.mean([found[how, model] for found, _ in seeds]) for model in header]
            lines[how].append([f"`{name}`", *(f"{mean:.3f}" for mean in means)])
            print(how, *lines[how][-1], f"p <= 0.05: {shares[-1]:.3f}", file=sys.stderr)
    for rows in lines.values():
        means = np.mean([[float(value) for value in row[1:]] for row in rows], axis=0)
        rows.append(["mean", *(f"{mean:.3f}" for mean in means)])
    intro = (__doc__ or "").split("\n\n")[1].strip()
    listed = ", ".join(f"{share:.3f} ({name})" for name, share in zip(names, shares, strict=True))
    write(
        "outlier_mixed",
        "Outliers of mixed tables",
        intro,
        f"At most {args.rows:,} rows, {args.seeds} seeds. `python benchmarks/outlier_mixed.py`",
        *(f"## {how}\n\n{table(['table', *header], rows)}" for how, rows in lines.items()),
        f"Of held-out rows, as they were, so many have p <= 0.05: {listed}.",
    )


if __name__ == "__main__":
    main()
