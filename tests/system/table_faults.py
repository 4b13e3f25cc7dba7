"""Tables that were scored wrongly without a word, generated and counted.

    python tests/system/table_faults.py [--fast] [--only NAME ...] [--seed N]

Prints a line for each property: how many tables were tried, and how many have it. The exit status
is 1 if one does not. Tables mix kinds of columns, types of NumPy and pandas, missing values, fill
values, large floats, copies of rows and conditions; the seed of a table that fails is printed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from realnvp.columns.schema import TableSchema
from realnvp.estimator import RealNVPDensity

Rng = np.random.Generator

FILLS = (1e20, 9.96921e36, 2147483647.0, 1e9, -999.0, -1e30)

NUMBERS: dict[str, Callable[[Rng, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(100, 15, n),
    "tiny": lambda rng, n: 1e-12 * rng.normal(size=n),
    "heavy": lambda rng, n: np.exp(rng.normal(0, 4, n)),
    "seconds": lambda rng, n: 1.7e9 + 3600 * rng.random(n),
    "milliseconds": lambda rng, n: np.round(1.7e9 + 3600 * rng.random(n), 3),
    "julian": lambda rng, n: 2_450_000 + rng.random(n),
    "nine digits": lambda rng, n: np.round(np.exp(rng.normal(3, 3, n)), 9),
    "float32": lambda rng, n: rng.normal(size=n).astype(np.float32),
    "float32 prices": lambda rng, n: np.round(rng.gamma(2, 1e3, n), 2).astype(np.float32),
    "prices": lambda rng, n: np.round(rng.gamma(2, 50, n), 2),
    "often zero": lambda rng, n: np.where(rng.random(n) < 0.3, 0.0, rng.gamma(2, 1, n)),
    "often 50": lambda rng, n: np.where(
        rng.random(n) < 0.25, 50.0, np.round(rng.gamma(2, 60, n), 2)
    ),
    "hundreds": lambda rng, n: 100.0 * rng.poisson(50, n),
    "counts": lambda rng, n: rng.poisson(30, n),
    "int8": lambda rng, n: rng.integers(-128, 128, n).astype(np.int8),
    "ids": lambda rng, n: rng.integers(2**45, 2**50, n),
}
"""Numbers of a column, by what they are."""

OTHERS: dict[str, Callable[[Rng, int], pd.Series]] = {
    "text": lambda rng, n: pd.Series(rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])),
    "category": lambda rng, n: pd.Series(pd.Categorical(rng.choice(list("xyz"), n))),
    "boolean": lambda rng, n: pd.Series(rng.random(n) < 0.3),
    "days": lambda rng, n: pd.Series(
        pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D")
    ),
    "zoned": lambda rng, n: pd.Series(
        pd.Timestamp("2021-10-29", tz="Europe/Berlin")
        + pd.to_timedelta(rng.integers(0, 5000, n), unit="min")
    ),
    "date texts": lambda rng, n: pd.Series(
        (pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D")).strftime(
            "%d.%m.%Y"
        )
    ),
    "nullable": lambda rng, n: pd.Series(rng.poisson(30, n)).astype("Int64"),
}


def numbers(rng: Rng, n: int, name: str | None = None) -> pd.Series:
    """Return a column of numbers, perhaps with fill values, and missing ones."""
    name = name or str(rng.choice(list(NUMBERS)))
    values = pd.Series(NUMBERS[name](rng, n))
    if values.dtype == np.float64 and rng.random() < 0.3:
        values[rng.choice(n, int(rng.integers(2, 6)), replace=False)] = rng.choice(FILLS)
    if values.dtype.kind == "f" and rng.random() < 0.3:
        values[rng.random(n) < 0.1] = np.nan
    return values


def table(rng: Rng) -> pd.DataFrame:
    """Return a table of independent columns, perhaps with copies of its rows."""
    n = int(rng.integers(150, 400))
    columns = {}
    for i in range(int(rng.integers(2, 5))):
        other = rng.random() < 0.35
        columns[f"c{i}"] = (
            OTHERS[str(rng.choice(list(OTHERS)))](rng, n) if other else numbers(rng, n)
        )
    frame = pd.DataFrame(columns)
    copies = int(rng.choice([1, 1, 2, 5]))
    return pd.concat([frame] * copies, ignore_index=True)


def fitted(
    frame: pd.DataFrame, condition: pd.Series | None = None, **settings: object
) -> RealNVPDensity:
    """Return a density after one step: the marginals decide what is possible."""
    settings = {"max_steps": 1, "couplings": 2, "components": 2, "hidden": 16, **settings}
    return RealNVPDensity(random_state=0, **settings).fit(frame, condition=condition)  # type: ignore[arg-type]


def possible(rng: Rng) -> str | None:
    """Every fitted row is possible, and its score is finite."""
    frame = table(rng)
    groups = pd.Series(rng.choice(["u", "v"], len(frame))) if rng.random() < 0.3 else None
    scores = fitted(frame, groups).score_samples(frame, condition=groups)
    bad = ~np.isfinite(scores)
    return f"{bad.sum()} rows such as {frame[bad].iloc[0].to_dict()}" if bad.any() else None


def samples(rng: Rng) -> str | None:
    """Samples have the columns' types, are possible, and have a finite score."""
    frame = table(rng)
    density = fitted(frame)
    drawn = density.sample(100)
    if not drawn.dtypes.equals(frame.dtypes):
        return f"types {drawn.dtypes.to_dict()}, not {frame.dtypes.to_dict()}"
    bad = ~np.isfinite(density.score_samples(drawn))
    return f"{bad.sum()} samples such as {drawn[bad].iloc[0].to_dict()}" if bad.any() else None


def round_trip(rng: Rng) -> str | None:
    """``decode(encode(row))`` is the row."""
    frame = table(rng)
    schema = TableSchema.of(frame)
    schema = TableSchema.from_dict(schema.as_dict())
    x, good = schema.encode(frame)
    if not good.all():
        return f"{(~good).sum()} rows are impossible"
    back = schema.decode(x)
    try:
        pd.testing.assert_frame_equal(back, frame, rtol=1e-12, atol=0)
    except AssertionError as error:
        return str(error)
    return None


def independent(rng: Rng) -> str | None:
    """Independent columns are neither copies nor linear functions; those that are, are found."""
    n = int(rng.integers(150, 400))
    frame = pd.DataFrame({f"c{i}": numbers(rng, n) for i in range(3)})
    rows = rng.choice(n, 3, replace=False)
    real = [name for name in frame if frame[name].dtype == np.float64]
    if rng.random() < 0.7:
        frame.loc[rows, real] = rng.choice(FILLS)
    implied = [c.name for c in TableSchema.of(frame).columns if c.kind in ("copy", "linear")]
    if implied:
        return f"{implied} are independent of the others"
    base = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(50, 9, n)})
    more = base.assign(c=3 * base.a - base.b + 7, d=base.a)
    kinds = [c.kind for c in TableSchema.of(more).columns]
    return None if sorted(kinds) == ["continuous", "continuous", "copy", "linear"] else str(kinds)


def sums(rng: Rng) -> str | None:
    """The density of a column with a step sums to 1 over its grid, with missing values."""
    name = str(rng.choice(["prices", "hundreds", "counts", "int8", "often 50"]))
    n = int(rng.integers(300, 2000))
    values = pd.Series(NUMBERS[name](rng, n)).astype(float)
    if rng.random() < 0.4:
        values[rng.random(n) < 0.1] = np.nan
    frame = pd.DataFrame({"a": values})
    kind = "integer" if name in ("counts", "int8") else "decimal"
    density = fitted(frame, columns={"a": kind})  # few prices on a fine grid have no step
    (column,) = TableSchema.of(frame, {"a": kind}).columns
    step = column.step  # type: ignore[attr-defined]
    decimals = 2 if step < 1 else 0
    top = 3 * values.abs().max() + 100 * step
    low = -top if values.min() < 0 else 0.0
    first = np.ceil((low - values.min()) / step)
    steps = first + np.arange(int((top - low) / step))
    grid = np.round(values.min() + step * steps, decimals)
    total = step * np.exp(density.score_samples(pd.DataFrame({"a": grid}))).sum()
    if values.isna().any():
        total += np.exp(density.score_samples(pd.DataFrame({"a": [np.nan]}))).item()
    return None if 0.97 < total < 1.02 else f"{name} of step {step:g} sums to {total:.3f}"


def units(rng: Rng) -> str | None:
    """The ranks of rows do not depend on the units of their columns."""
    n = int(rng.integers(200, 400))
    names = rng.choice(["normal", "tiny", "heavy", "julian", "prices", "often 50", "hundreds"], 2)
    frame = pd.DataFrame({f"c{i}": NUMBERS[str(name)](rng, n) for i, name in enumerate(names)})
    factor = 2.0 ** int(rng.integers(-20, 20))
    scores = fitted(frame).score_samples(frame)
    scaled = frame.copy()
    for i, name in enumerate(names):
        # A power of 2 keeps continuous numbers exact, and ten times a decimal is one.
        if name in ("prices", "often 50", "hundreds"):
            scaled[f"c{i}"] = np.round(frame[f"c{i}"] * 10, 1)
        else:
            scaled[f"c{i}"] = frame[f"c{i}"] * factor
    other = fitted(scaled).score_samples(scaled)
    alike = float(pd.Series(scores).corr(pd.Series(other), method="spearman"))
    return None if alike > 0.99 else f"rank correlation {alike:.3f} of {names.tolist()}"


CASES: dict[str, tuple[Callable[[Rng], str | None], int, int]] = {
    "possible": (possible, 150, 3),
    "samples": (samples, 150, 3),
    "round_trip": (round_trip, 1000, 25),
    "independent": (independent, 1000, 25),
    "sums": (sums, 60, 1),
    "units": (units, 60, 2),
}
"""Properties, and numbers of tables: all, and with ``--fast``."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="few of each")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the properties")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first table of each")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    failed = False
    for name in args.only or CASES:
        case, many, few = CASES[name]
        count, good = few if args.fast else many, 0
        for seed in range(args.seed, args.seed + count):
            try:
                wrong = case(np.random.default_rng(seed))
            except Exception as error:  # none is allowed: all of these tables can be modeled
                wrong = f"{type(error).__name__}: {error}"
            good += wrong is None
            if wrong is not None:
                print(f"  {name} --seed {seed}: {' '.join(wrong.split())[:400]}", flush=True)
        failed |= good != count
        assert case.__doc__ is not None
        print(f"{good:,} of {count:,} tables: {case.__doc__}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
