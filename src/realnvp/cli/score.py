"""``realnvp score``."""

from __future__ import annotations

import io
from typing import Any

from realnvp.cli.options import (
    Parser,
    add_data,
    add_draws,
    add_json,
    add_model,
    add_out,
    output_path,
)
from realnvp.cli.shared import examples, print_json, read_model, row_names

__all__ = []

EPILOG = """examples:
  realnvp score runs/mnist --data photos/ --out scores.csv
  realnvp score runs/table --data new.csv --out scores.npz
"""


def main(argv: list[str]) -> int:
    """Write the log-likelihood of every example."""
    parser = Parser(
        "score",
        "The log-likelihood of every example, in the data's order: in nats (higher is likelier),\n"
        "and for images also in bits/dim (lower is likelier).",
        EPILOG,
    )
    add_model(parser)
    add_data(parser)
    add_draws(parser)
    add_out(
        parser,
        "scores.csv",
        "a .csv table, whose first column is the image of a folder, or the row in the data,\n"
        "counted from 0; or a .npz file",
    )
    add_json(parser)
    args = parser.parse_args(argv)
    path = output_path(args, ".csv", ".npz")

    from realnvp.evaluation import log_likelihoods
    from realnvp.utils.files import write_atomically
    from realnvp.utils.progress import Bar

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
    scores = {"log_likelihood": log_p}
    if flow.levels is not None:
        scores["bits_per_dim"] = -log_p * flow.unit[0]
    source = args.data or name.rpartition(" (")[0]
    write_atomically(path, _content({**row_names(source, split), **scores}, path.suffix))
    if args.json:
        means = {key: float(values.mean()) for key, values in scores.items()}
        print_json({"out": str(path), "examples": len(log_p), "data": name, **means})
    else:
        print(f"{path}  {len(log_p):,} log-likelihoods, mean {log_p.mean():.4f} nats")
    return 0


def _content(columns: dict[str, Any], suffix: str) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".npz":
        import numpy as np

        np.savez_compressed(buffer, **columns)
    else:
        import pandas as pd

        pd.DataFrame(columns).to_csv(buffer, index=False, float_format="%.9g")
    return buffer.getvalue()
