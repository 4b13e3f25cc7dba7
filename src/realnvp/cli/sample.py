"""``realnvp sample``."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from realnvp.cli.options import Parser
from realnvp.cli.shared import (
    add_model,
    at_least_one,
    label_condition,
    print_json,
    read_model,
    refuse_existing,
)
from realnvp.flow import Flow
from realnvp.utils.files import replacing, write_atomically

__all__ = []

EPILOG = """examples:
  realnvp sample runs/digits                           a grid of 100, samples.png
  realnvp sample runs/digits -n 5000 --out many.npz    as an array
  realnvp sample runs/moons -n 1000 --out points.csv   as a table
  realnvp sample runs/digits --temperature 0.7         likelier, less varied
"""


def main(argv: list[str]) -> int:
    """Draw samples, and write them in the format of the file's ending."""
    parser = Parser(prog="realnvp sample", description="Draw samples.", epilog=EPILOG)
    add_model(parser)
    parser.add_argument("-n", "--n", type=int, default=100, help="how many")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="standard deviation of the prior; samples at other than 1 are not draws from the\n"
        "model's density",
    )
    parser.add_argument("--label", help="class or condition of a conditional model")
    parser.add_argument("--seed", type=int, default=0, help="of the latents")
    parser.add_argument(
        "--out",
        default="samples.png",
        help="a .png picture, a .npz or .npy array, or a .csv table ",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    path = Path(args.out)
    if path.suffix not in (".png", ".npz", ".npy", ".csv"):
        raise ValueError(f"--out must end in .png, .npz, .npy or .csv, got {path}")
    at_least_one(args, "n")
    refuse_existing(path, args.overwrite)
    flow = read_model(args)
    if path.suffix == ".csv" and flow.levels is not None:
        raise ValueError("images are written as .png, .npz or .npy")
    generator = torch.Generator(flow.device).manual_seed(args.seed)
    condition = label_condition(flow, args.label, args.n)
    if condition is not None:
        condition = condition.to(flow.device)
    samples = flow.sample(args.n, args.temperature, condition, generator).cpu()
    _write(flow, samples, path)
    if args.json:
        print_json({"out": str(path), "n": args.n, "temperature": args.temperature})
    else:
        print(f"{path}  {args.n:,} samples at temperature {args.temperature:g}")
    return 0


def _write(flow: Flow, samples: torch.Tensor, path: Path) -> None:
    if path.suffix == ".png":
        from realnvp import plots

        with replacing(path) as temporary:
            if flow.levels is not None:
                plots.image_grid(samples, temporary, levels=flow.levels)
            else:
                plots.scatter(samples, temporary)
        return
    buffer = io.BytesIO()
    array = samples.numpy()
    if path.suffix == ".npz":
        name = "images" if flow.levels is not None else "x"
        np.savez_compressed(buffer, **{name: array})  # type: ignore[arg-type]
    elif path.suffix == ".npy":
        np.save(buffer, array)
    else:
        import pandas as pd

        columns = (flow.trained_on or {}).get("columns") or [
            f"x{i + 1}" for i in range(array.shape[1])
        ]
        pd.DataFrame(array, columns=columns).to_csv(buffer, index=False, float_format="%.9g")
    write_atomically(path, buffer.getvalue())
