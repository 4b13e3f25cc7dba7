"""``realnvp train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from realnvp.cli.options import Parser, add_settings, expand, make_recipe
from realnvp.cli.shared import named_row, print_json, print_table
from realnvp.config import Recipe, read_recipe, recipe_names
from realnvp.utils.progress import duration

__all__ = []

FLAGS = {"--resume", "--dry-run", "--quiet", "--json", "-h", "--help"}


EPILOG = """examples:
  realnvp train digits
  realnvp train mnist --data-root ~/data --minutes 5 --out runs/mnist-quick
  realnvp train image-small --data photos --data-size 32 --epochs 20
  realnvp train table --data my.csv --model.couplings 12
  realnvp train cifar10 --dry-run               how fast, how long, how much memory
  realnvp train mnist --out runs/mnist-quick --resume --minutes 30

Ctrl-C saves everything; the same command with --resume goes on.
realnvp train RECIPE --help shows every setting, with the recipe's defaults.
"""


def main(argv: list[str]) -> int:
    """Train, and say what came of it."""
    argv = expand(argv)
    name = _recipe_argument(argv)
    parser = Parser(prog="realnvp train", description="Train a recipe's model.", epilog=EPILOG)
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help=f"a path to a .yaml file, or one of\n{', '.join(recipe_names())}",
    )
    parser.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/RECIPE)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the folder, with its settings"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only estimate: size, speed, time, memory"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    if name is None:
        parser.parse_args(argv)  # help, or the error of a missing recipe
        raise ValueError("train needs a RECIPE")
    out = _option(argv, "--out")
    folder = Path(out) if out else Path("runs") / Path(name).stem
    if "--resume" in argv:
        name = str(_resumable(folder, name))
    add_settings(parser, name)
    args = parser.parse_args(argv)
    recipe = make_recipe(name, args, argv)

    if args.dry_run:
        return _estimate(recipe, args)
    from realnvp.training.train import train

    outcome = train(recipe, folder, resume=args.resume, quiet=args.quiet)
    if not outcome.main:  # another process prints the result
        return 0
    left = _left(folder)
    result = outcome.likelihood.as_dict()
    if args.json:
        print_json(
            {
                **result,
                "run": str(folder),
                "steps": outcome.steps,
                "seconds": round(outcome.seconds, 1),
                "parameters": outcome.parameters,
                "skipped": outcome.skipped,
                "dequantized": outcome.dequantized,
                "stopped_early": outcome.stopped_early,
                "files": [str(path) for path, _ in left],
            }
        )
        return 0
    rows = likelihood_rows(result)
    ended = ", stopped early" if outcome.stopped_early else ""
    rows += [("training", f"{outcome.steps:,} steps, {duration(outcome.seconds)}{ended}")]
    rows += [("parameters", f"{outcome.parameters:,}")]
    if outcome.dequantized:
        rows += [("dequantized whole numbers", ", ".join(outcome.dequantized))]
    if outcome.skipped:
        rows += [("skipped batches (not finite)", f"{outcome.skipped:,}")]
    print_table(f"{recipe.data.source} ({outcome.part})", ["", "value"], rows)
    width = max(len(str(path)) for path, _ in left)
    for path, what in left:
        print(f"{path!s:{width}}  {what}")
    return 0


def _estimate(recipe: Recipe, args: Any) -> int:
    from realnvp.training.dry_run import estimate

    found = estimate(recipe, quiet=args.quiet or args.json)
    if args.json:
        print_json(found.as_dict())
        return 0
    rows = [
        ("parameters", f"{found.parameters:,}"),
        ("examples/s", f"{found.examples_per_second:,.1f}"),
        ("arithmetic", f"{found.flops_per_example / 1e9:,.3g} GFLOP an example"),
        ("one step", f"{found.seconds_per_step:.3g} s, of {found.measured_steps} measured"),
        ("the budget", f"{found.steps:,} steps, {duration(60 * found.minutes)}"),
        ("peak memory", f"{found.peak_memory / 2**30:.2f} GiB"),
    ]
    print_table(f"{args.recipe} on {recipe.data.source}, without validations", ["", "value"], rows)
    return 0


def likelihood_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of a likelihood's table."""
    rows = []
    if "bits_per_dim" in result:
        rows.append(named_row("bits/dim", result["bits_per_dim"], result["standard_error"]))
        rows.append(("grey levels", str(result["levels"])))
    else:
        rows.append(named_row("nats (mean log-density)", result["nats"], result["standard_error"]))
    if result["noise_draws"]:
        rows.append(("noise draws", str(result["noise_draws"])))
    if "kl" in result:
        rows.append(named_row("nats of the true density", result["true_nats"]))
        rows.append(named_row("KL(true || model), nats", result["kl"], result["kl_standard_error"]))
    rows.append(("examples", f"{result['examples']:,}"))
    return rows


def _recipe_argument(argv: list[str]) -> str | None:
    """The first argument that belongs to no option: the recipe sets what options there are."""
    position = 0
    while position < len(argv):
        token = argv[position]
        if token in FLAGS or (token.startswith("--") and "=" in token):
            position += 1
        elif token.startswith("--"):
            position += 2
        else:
            return token
    return None


def _option(argv: list[str], name: str) -> str | None:
    for token, following in zip(argv, [*argv[1:], None], strict=True):
        if token == name:
            return following
        if token.startswith(f"{name}="):
            return token.partition("=")[2]
    return None


def _resumable(folder: Path, name: str) -> Path:
    """The settings of the run in the folder, which must be of the kind that the recipe is."""
    config = folder / "config.yaml"
    if not config.is_file():
        raise FileNotFoundError(f"there is no run to resume in {folder}: it has no config.yaml")
    asked, found = read_recipe(name)["kind"], read_recipe(str(config))["kind"]
    if asked != found:
        raise ValueError(
            f"the run in {folder} is of a model of {found}s, but {name} is a recipe for {asked}s: "
            f"name the run's own recipe, or another --out"
        )
    return config


def _left(folder: Path) -> list[tuple[Path, str]]:
    """What the run folder holds, for people."""
    newest = sorted((folder / "samples").glob("*.png"))
    items = [
        (folder / "model", "the model: realnvp sample, eval, check; realnvp.load(...)"),
        *((path, "samples from the averaged weights") for path in newest[-1:]),
        (folder / "curves.png", "learning curves"),
        (folder / "metrics.jsonl", "every number that was logged"),
        (folder / "config.yaml", "all settings, itself a recipe"),
        (folder / "checkpoints", "to go on with --resume"),
    ]
    events = sorted(folder.glob("events.out.tfevents*"))
    items += [(path, "TensorBoard events") for path in events[-1:]]
    return [(path, what) for path, what in items if path.exists()]
