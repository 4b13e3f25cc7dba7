"""Held-out log-likelihood of scikit-learn's tables, beside its own densities.

Mean log-density of the held-out rows, in nats, by 5-fold cross-validation with its standard error
over the folds; all columns standardized by the training rows. The mixture's number of components
(1 to 10) and the kernel's bandwidth are chosen by cross-validation within the training rows; ours
has its defaults. The 64 columns of the digits are dequantized for all by the same uniform noise,
other columns are taken as they are (`integers="none"`).
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from common import table, write
from realnvp.estimator.density import RealNVPDensity


def tables() -> dict[str, NDArray]:
    names = ("iris", "wine", "diabetes", "breast_cancer", "digits")
    found = {name: getattr(datasets, f"load_{name}")().data.astype(float) for name in names}
    found["digits"] = found["digits"] + np.random.default_rng(0).random(found["digits"].shape)
    return found


def ours(train: NDArray, test: NDArray) -> float:
    return RealNVPDensity(integers="none", random_state=0).fit(train).score(test)


def mixture(train: NDArray, test: NDArray) -> float:
    grid = {"n_components": range(1, 11)}
    return GridSearchCV(GaussianMixture(random_state=0), grid, cv=5).fit(train).score(test)


def kernel(train: NDArray, test: NDArray) -> float:
    grid = {"bandwidth": np.logspace(-1.3, 0.7, 15)}
    return GridSearchCV(KernelDensity(), grid, cv=5).fit(train).score(test) / len(test)


MODELS = {"RealNVPDensity": ours, "GaussianMixture": mixture, "KernelDensity": kernel}


def main() -> None:
    warnings.filterwarnings("ignore")
    rows = []
    for name, x in tables().items():
        scores: dict[str, list[float]] = {label: [] for label in MODELS}
        seconds = dict.fromkeys(MODELS, 0.0)
        for train, test in KFold(5, shuffle=True, random_state=0).split(x):
            scaler = StandardScaler().fit(x[train])
            parts = scaler.transform(x[train]), scaler.transform(x[test])
            for label, fit in MODELS.items():
                start = time.perf_counter()
                scores[label].append(fit(*parts))
                seconds[label] += (time.perf_counter() - start) / 5
        row = [f"{name} ({x.shape[0]} x {x.shape[1]})"]
        for label, values in scores.items():
            error = np.std(values, ddof=1) / 5**0.5
            row.append(f"{np.mean(values):.2f} ± {error:.2f} ({seconds[label]:.1f} s)")
        print(*row, sep=" | ", file=sys.stderr, flush=True)
        rows.append(row)
    write(
        "tables",
        "Tables: held-out log-likelihood",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        table(["table", *MODELS], rows),
    )


if __name__ == "__main__":
    main()
