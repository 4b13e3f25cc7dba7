"""Are p-values of RealNVPOutlierDetector valid? P(p <= 0.05) of new rows, for ten kinds of data.

python benchmarks/validity.py [--fits 200] [--steps 100] [--out FILE]

Every fit has its own rows, of 400 to 900, and 300 new ones of the same distribution. Of a valid
p-value, at most 5 % of new rows have 0.05 or less. The page is written after every seed, so that a
run may be stopped.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.random import Generator

from realnvp.estimator import RealNVPDensity, RealNVPOutlierDetector

NEW = 300

Make = Callable[[Generator, int], "np.ndarray | pd.DataFrame"]


def _mixed(rng: Generator, n: int) -> pd.DataFrame:
    x = rng.normal(size=n)
    return pd.DataFrame({
        "x": np.where(rng.random(n) < 0.3, np.nan, x),
        "y": np.round(x + rng.normal(size=n), 1),
        "town": rng.choice(["Rome", "Oslo", "Bonn"], n, p=[0.7, 0.2, 0.1]),
    })  # fmt: skip


def _words(rng: Generator, n: int) -> pd.DataFrame:
    return pd.DataFrame({name: rng.choice(list("abcdef"), n) for name in ("a", "b", "c")})


KINDS: dict[str, Make] = {
    "normal, 5 columns": lambda rng, n: rng.normal(size=(n, 5)),
    "integers below 20, 2 columns": lambda rng, n: rng.integers(20, size=(n, 2)).astype(float),
    "integers below 30, 2 columns": lambda rng, n: rng.integers(30, size=(n, 2)).astype(float),
    "8 binary columns": lambda rng, n: (rng.random((n, 8)) < 0.3).astype(float),
    "3 columns of 6 texts": _words,
    "decimals": lambda rng, n: np.round(rng.normal(size=(n, 3)), 1),
    "numbers, decimals, texts, missing values": _mixed,
    "heavy tails": lambda rng, n: rng.standard_t(1.5, size=(n, 3)),
    "two groups": lambda rng, n: rng.normal(size=(n, 3)) + 6 * (rng.random((n, 1)) < 0.3),
    "counts": lambda rng, n: rng.poisson([0.5, 3, 20], size=(n, 3)).astype(float),
}


def share(
    make: Callable[[Generator, int], np.ndarray | pd.DataFrame], seed: int, n: int, steps: int
) -> float:
    """Return the fraction of new rows with a p-value of 0.05 or less."""
    rng = np.random.default_rng(seed)
    rows = make(rng, n + NEW)
    fitted, new = rows[:n], rows[n:]
    density = RealNVPDensity(max_steps=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = RealNVPOutlierDetector(density, random_state=seed).fit(fitted)
    return float((detector.p_values(new) <= 0.05).mean())


def table(shares: dict[tuple[str, int], list[float]], steps: int) -> str:
    """Return the page of results, of as many fits as there are."""
    fits = len(next(iter(shares.values())))
    lines = [
        "# Validity of p-values", "",
        f"Fraction of new rows with p <= 0.05, mean of {fits} fits and its standard error "
        f"(`python benchmarks/validity.py --fits {fits} --steps {steps}`).", "",
        "| data | 400 rows | 900 rows |", "|---|---|---|",
    ]  # fmt: skip
    for name in KINDS:
        cells = []
        for n in (400, 900):
            values = shares[name, n]
            cells.append(f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / fits**0.5:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fits", type=int, default=200)
    parser.add_argument("--steps", type=int, default=100, help="training steps of every flow")
    out = Path(__file__).parent / "results" / "validity.md"
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()
    torch.set_num_threads(1)
    shares: dict[tuple[str, int], list[float]] = {
        (name, n): [] for name in KINDS for n in (400, 900)
    }
    for seed in range(args.fits):
        for (name, n), values in shares.items():
            values.append(share(KINDS[name], seed, n, args.steps))
        if seed:  # a standard error needs two
            args.out.write_text(table(shares, args.steps))
            print(f"{seed + 1} fits", flush=True)


if __name__ == "__main__":
    main()
