"""``realnvp calibrate``."""

from __future__ import annotations

from pathlib import Path

from realnvp.cli.options import Parser, add_count, add_data, add_model, add_seed
from realnvp.cli.shared import examples, read_model, tell

EPILOG = """examples:
  realnvp calibrate runs/mnist                        on the held-out part of its data
  realnvp calibrate runs/table --data held-out.csv    on other rows that it was not trained on
  realnvp calibrate runs/table --no-rows              so that the saved model holds no rows
"""


def main(argv: list[str]) -> int:
    """Fit outlier scores and p-values to held-out examples, and save them with the model."""
    parser = Parser(
        "calibrate",
        "Fit the outlier scores and p-values of a model to examples that it was not trained on,\n"
        "and save them with the model. Training does this at its end.",
        EPILOG,
    )
    add_model(parser)
    add_data(parser)
    add_count(parser, "--examples", 2_000, "largest number of held-out examples")
    add_count(parser, "--batch-size", 256, "examples per batch")
    parser.add_argument(
        "--no-rows",
        action="store_true",
        help="keep no training rows of a table: its scores then use the density alone, and no\n"
        "distances to these rows, which detect some outliers that the density does not",
    )
    add_seed(parser, "the choice of the examples, and of the noise")
    args = parser.parse_args(argv)

    from realnvp.outliers import calibrate
    from realnvp.utils.model_folder import write_calibration
    from realnvp.utils.progress import Bar

    flow = read_model(args)
    if flow.origin in ("shipped", "hub"):
        raise ValueError(
            f"{args.model} is not a folder, so no calibration can be saved in it: save the model "
            f"into a folder with save_pretrained, and calibrate it there"
        )
    split, name = examples(flow, args)
    learned = None
    if not args.no_rows and flow.levels is None and flow.origin == "run" and args.data is None:
        learned, _ = examples(flow, args, split="train")
    with Bar("calibrating", visible=not args.json) as bar:
        found = calibrate(
            flow,
            split,
            learned,
            most=args.examples,
            batch_size=args.batch_size,
            seed=args.seed,
            progress=bar.count,
        )
    folder = Path(args.model)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    write_calibration(folder, found.as_tensors())
    result = {"model": args.model, "examples": len(found), "data": name}
    where = folder / "calibration.safetensors"
    return tell(args, result, f"{where}  {len(found):,} examples of {name}")
