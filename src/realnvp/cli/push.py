"""``realnvp push``."""

from __future__ import annotations

from pathlib import Path

from realnvp.cli.options import Parser, add_model
from realnvp.cli.shared import read_model, tell

EPILOG = """examples:
  realnvp push runs/mnist me/mnist              the model of a run, with its numbers and curve
  realnvp push runs/mnist me/mnist --private    a private repository
  realnvp push runs/mnist me/mnist --out card   write the files only, and send nothing
  realnvp sample hf://me/mnist                  any command can load it

The token is that of `hf auth login`, or of the variable HF_TOKEN.
"""


def main(argv: list[str]) -> int:
    """Send a model to the Hugging Face Hub."""
    parser = Parser("push", "Upload a model and its card to the Hugging Face Hub.", EPILOG)
    add_model(parser)
    parser.add_argument(
        "repo", metavar="OWNER/NAME", help="repository; created if it does not exist"
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--license", metavar="NAME", help="license in the card, such as apache-2.0")
    parser.add_argument(
        "--training-rows",
        action="store_true",
        help="include the calibration of a table, which contains training rows",
    )
    parser.add_argument("--out", metavar="FOLDER", help="write the files here, and send nothing")
    args = parser.parse_args(argv)

    import torch

    from realnvp.reports.card import push_to_hub, write_repository

    if args.out and Path(args.out).exists():
        raise FileExistsError(f"{args.out} exists: choose another --out")
    flow = read_model(args, torch.device("cpu"))
    card = {"license": args.license, "training_rows": args.training_rows}
    if args.out:
        write_repository(flow, Path(args.out), args.repo, **card)
        files = sorted(path.name for path in Path(args.out).iterdir())
        text = f"{args.out}  {', '.join(files)}: nothing was sent"
        return tell(args, {"out": args.out, "files": files}, text)
    address = push_to_hub(flow, args.repo, private=args.private or None, **card)
    text = f"{address}  load exactly this commit with realnvp.load, or the newest without @"
    return tell(args, {"address": address}, text)
