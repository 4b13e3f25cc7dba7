"""``realnvp score``."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from realnvp.cli.options import Parser
from realnvp.cli.shared import (
    add_data,
    add_draws,
    add_model,
    at_least_one,
    examples,
    print_json,
    read_model,
    refuse_existing,
)
from realnvp.evaluation import log_likelihoods
from realnvp.utils.files import write_atomically
from realnvp.utils.progress import Bar

__all__ = []

EPILOG = """examples:
  realnvp score runs/mnist --data photos/ --out scores.csv
  realnvp score runs/table --data new.csv --out scores.npz
"""


def main(argv: list[str]) -> int:
    """Write the log-likelihood of every example."""
    parser = Parser(
        prog="realnvp score",
        description="The log-likelihood of every example, in the data's order: in nats, and for\n"
        "images also in bits/dim.",
        epilog=EPILOG,
    )
    add_model(parser)
    add_data(parser)
    add_draws(parser)
    parser.add_argument("--out", default="scores.csv", help="a .csv table, or a .npz file")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    at_least_one(args, "samples", "batch_size")
    path = Path(args.out)
    if path.suffix not in (".csv", ".npz"):
        raise ValueError(f"--out must end in .csv or .npz, got {path}")
    refuse_existing(path, args.overwrite)
    flow = read_model(args)
    split, name = examples(flow, args)
    with Bar("scoring", visible=not args.json) as bar:
        log_p = log_likelihoods(
            flow,
            split,
            samples=args.samples,
            batch_size=args.batch_size,
            seed=args.seed,
            progress=lambda done, all_: bar.update(done / all_),
        ).numpy()
    columns = {"log_likelihood": log_p}
    if flow.levels is not None:
        columns["bits_per_dim"] = -log_p * flow.unit[0]
    write_atomically(path, _content(columns, path.suffix))
    if args.json:
        means = {key: float(values.mean()) for key, values in columns.items()}
        print_json({"out": str(path), "examples": len(log_p), "data": name, **means})
    else:
        print(f"{path}  {len(log_p):,} log-likelihoods, mean {log_p.mean():.4f} nats")
    return 0


def _content(columns: dict[str, np.ndarray], suffix: str) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez_compressed(buffer, **columns)  # type: ignore[arg-type]
    else:
        rows = np.stack(list(columns.values()), axis=1)
        names = ",".join(columns)
        np.savetxt(buffer, rows, delimiter=",", header=names, comments="", fmt="%.9g")
    return buffer.getvalue()
