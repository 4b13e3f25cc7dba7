"""Time to sample rows of a table, beside the time to score them.

    python benchmarks/sampling.py [--rows N] [--steps N]

A sample is the inverse of the map whose forward direction scores. The affine coupling's inverse has
a closed form; those of the mixture couplings, and of the mixture of 3 Gaussians that each flow
starts as, are searched for. The table has three clusters, correlated and curved; all is in float64,
as in `RealNVPDensity`. The error is the largest difference of a latent from that of its sample.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from common import best_time, table, write
from realnvp.estimator import RealNVPDensity

COUPLINGS = "affine", "gaussian_mixture", "logistic_mixture"


def rows_of(columns: int, rows: int = 2000) -> NDArray:
    """Return a table to train on."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns))
    x[:, 1] += np.sin(3 * x[:, 0])
    x[:, 2] = np.exp(0.3 * x[:, 2])
    clusters: NDArray = 6 * rng.normal(size=(3, columns))
    return x + clusters[rng.integers(0, 3, rows)]


def measure(columns: int, coupling: str, rows: int, steps: int) -> list[str]:
    """Return the cells of one line."""
    density = RealNVPDensity(coupling=coupling, mixture_init=3, max_steps=steps, random_state=0)
    flow = density.fit(rows_of(columns)).flow_
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(rows, columns, generator=generator, dtype=flow.dtype)
    with torch.no_grad():
        x = flow.decode(z)
        score = best_time(lambda: flow.log_prob(x), 3)
        sample = best_time(lambda: flow.decode(z), 3)
        error = (flow.encode(x) - z).abs().max().item()
    return [f"{score:.2f}", f"{sample:.2f}", f"{sample / score:.1f}", f"{error:.0e}"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for columns in (5, 20):
        for coupling in COUPLINGS:
            cells = measure(columns, coupling, args.rows, args.steps)
            lines.append([columns, f"`{coupling}`", *cells])
            print(*lines[-1], file=sys.stderr, flush=True)
    header = ["columns", "coupling", "s to score", "s to sample", "times scoring", "largest error"]
    write(
        "sampling",
        f"Sampling {args.rows:,} rows",
        (__doc__ or "").split("\n\n", 2)[2].strip(),
        table(header, lines),
    )


if __name__ == "__main__":
    main()
