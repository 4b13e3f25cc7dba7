"""``realnvp train``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realnvp.cli.options import Parser, add_settings, expand, given_settings
from realnvp.cli.shared import Table, likelihood_rows, tell
from realnvp.config import LOGGERS, Recipe, given_text
from realnvp.recipes import load_recipe, read_recipe, recipe_names

if TYPE_CHECKING:
    from realnvp.training.train import TrainingResult

EPILOG = """examples:
  realnvp train digits
  realnvp train mnist --data-root ~/data --minutes 5 --out runs/mnist-quick
  realnvp train images --data photos --data-size 32 --epochs 20
  realnvp train table --data my.csv --model.couplings 12
  realnvp train cifar10 --dry-run               estimates speed, time and memory
  realnvp train mnist --out runs/mnist-quick --resume --minutes 30
  realnvp train mnist --init mnist --data my-digits.npz      fine-tune a model on other data
  realnvp train table --init runs/may --data june.csv --out runs/june      retrain on new rows

Ctrl-C saves everything; the same command with --resume continues, and so does
realnvp train runs/NAME --resume.
realnvp train RECIPE --help shows every setting, with the recipe's defaults.
"""


def main(argv: list[str]) -> int:
    """Train, and print the result."""
    argv = expand(argv)
    parser = _parser()
    words = _without_settings(argv)
    asks_help = bool({"-h", "--help"} & {*argv})
    args, _ = parser.parse_known_args([word for word in words if word not in ("-h", "--help")])
    if args.recipe is None:
        if asks_help:
            parser.parse_args(["--help"])
        raise ValueError(
            "the recipe is missing: give a .yaml file, a run to --resume, or one of "
            f"{', '.join(recipe_names())}"
        )
    name, folder = _settings_and_folder(args)
    add_settings(parser, name)
    recipe = load_recipe(name, **given_settings(parser, argv))

    if args.dry_run:
        return _estimate(recipe, args)
    from realnvp.training.callbacks import ReportWriter
    from realnvp.training.train import train

    outcome = train(
        recipe,
        folder,
        init=args.init,
        resume=args.resume,
        overwrite=args.overwrite,
        quiet=args.quiet,
        logger=args.logger,
        callbacks=[] if args.no_report else [ReportWriter(quiet=args.quiet)],
    )
    # With several processes, another one prints the result.
    return _print_outcome(outcome, recipe, folder, args) if outcome.main else 0


def _parser() -> Parser:
    """Return the options apart from the recipe's settings."""
    parser = Parser("train", "Train a model from a recipe.", EPILOG)
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help=f"a .yaml file, a run to --resume, or one of {', '.join(recipe_names())}",
    )
    parser.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/RECIPE)")
    parser.add_argument(
        "--init",
        metavar="MODEL",
        help="start from the weights of a model with the same layers, or with fewer residual\n"
        "blocks: a run, a folder, or one that comes with the package; a coarse_to_fine model\n"
        "may also start from one of the images at half their size; a model of a table keeps\n"
        "its layers and columns; a run that has a checkpoint resumes from that",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in the folder, with its settings"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the run in the folder, if there is one"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only estimate size, speed, time and memory"
    )
    parser.add_argument(
        "--logger",
        choices=LOGGERS,
        default="tensorboard",
        help="where to send metrics and pictures, besides the files of the run; wandb and mlflow\n"
        "need Lightning's loggers: pip install pytorch-lightning wandb (or mlflow)",
    )
    parser.add_argument("--no-report", action="store_true", help="do not write report.html")
    parser.add_argument("--quiet", action="store_true", help="do not show progress")
    return parser


def _print_outcome(outcome: TrainingResult, recipe: Recipe, folder: Path, args: Any) -> int:
    from realnvp.utils.progress import duration

    files = _files(folder)
    likelihood = outcome.likelihood.as_dict()
    names = ("part", "steps", "parameters", "skipped", "dequantized", "stopped_early")
    result = {
        **likelihood,
        **{name: getattr(outcome, name) for name in names},
        "run": str(folder),
        "seconds": round(outcome.seconds, 1),
        "files": [str(path) for path, _ in files],
    }
    rows = likelihood_rows(likelihood, given_text(recipe.data.condition))
    ended = ", stopped early" if outcome.stopped_early else ""
    rows += [("training", f"{outcome.steps:,} steps, {duration(outcome.seconds)}{ended}")]
    rows += [("parameters", f"{outcome.parameters:,}")]
    if outcome.dequantized:
        rows += [("dequantized columns", ", ".join(outcome.dequantized))]
    if outcome.skipped:
        rows += [("skipped batches", f"{outcome.skipped:,}")]
    width = max(len(str(path)) for path, _ in files)
    listed = [f"{path!s:{width}}  {what}" for path, what in files]
    title = f"{recipe.data.source} ({outcome.part})"
    return tell(args, result, Table(title, ["", "value"], rows), *listed)


def _estimate(recipe: Recipe, args: Any) -> int:
    from realnvp.training.dry_run import estimate
    from realnvp.utils.progress import duration

    cost = estimate(recipe, quiet=args.quiet or args.json)
    rows = [
        ("parameters", f"{cost.parameters:,}"),
        ("examples/s", f"{cost.examples_per_second:,.1f}"),
        ("arithmetic", f"{cost.flops_per_example / 1e9:,.3g} GFLOP an example"),
        ("one step", f"{cost.seconds_per_step:.3g} s, of {cost.measured_steps} measured"),
        ("the budget", f"{cost.steps:,} steps, {duration(60 * cost.minutes)}"),
        ("peak memory", f"{cost.peak_memory / 2**30:.2f} GiB"),
    ]
    title = f"{args.recipe} on {recipe.data.source}"
    return tell(args, asdict(cost), Table(title, ["", "value"], rows))


def _without_settings(argv: list[str]) -> list[str]:
    """Return the command line without settings, ``--section.key VALUE``, which a recipe has."""
    rest, words = [], iter(argv)
    for word in words:
        if not (word.startswith("--") and "." in word.partition("=")[0]):
            rest.append(word)
        elif "=" not in word:
            next(words, None)
    return rest


def _settings_and_folder(args: Any) -> tuple[str, Path]:
    """Return the name of the recipe, or the settings of the run that is named, and its folder."""
    if args.out == "":
        raise ValueError("--out is empty: give the folder of the run")
    name = args.recipe
    path = Path(name)
    is_run = name not in recipe_names() and (path / "config.yaml").is_file()
    if is_run and not args.resume:
        raise ValueError(
            f"{name} is a run: add --resume to continue it, or name its settings, "
            f"{path / 'config.yaml'}, to train another one like it"
        )
    # Only a recipe's file may be in a folder; any other path is that of a run, maybe misspelled.
    is_folder = is_run or (len(path.parts) > 1 and path.suffix not in (".yaml", ".yml"))
    folder = Path(args.out) if args.out else path if is_folder else Path("runs") / path.stem
    name = str(path / "config.yaml") if is_run else name
    if args.resume:
        name = str(_resumable(folder, name))
    return name, folder


def _resumable(folder: Path, name: str) -> Path:
    """Return the settings of the run in the folder, which must be of the recipe's kind."""
    config = folder / "config.yaml"
    if not config.is_file():
        if folder != Path(name):
            read_recipe(name)  # refuses an unknown one
        raise FileNotFoundError(f"there is no run to resume in {folder}: it has no config.yaml")
    asked, found = read_recipe(name)["kind"], read_recipe(str(config))["kind"]
    if asked != found:
        raise ValueError(
            f"the run in {folder} is of a model of {found}s, but {name} is a recipe for {asked}s: "
            f"name the run's own recipe, or another --out"
        )
    return config


def _files(folder: Path) -> list[tuple[Path, str]]:
    """Return the files and folders of a run, and what each holds."""
    newest = sorted((folder / "samples").glob("*.png"))
    items = [
        (folder / "model", "the model: realnvp sample, eval, check; realnvp.load(...)"),
        *((path, "samples from the averaged weights") for path in newest[-1:]),
        (folder / "curves.png", "learning curves"),
        (folder / "report.html", "all of this and more in one page"),
        (folder / "metrics.jsonl", "every number that was logged"),
        (folder / "config.yaml", "all settings, itself a recipe"),
        (folder / "checkpoints", "for --resume"),
    ]
    events = sorted(folder.glob("events.out.tfevents*"))
    items += [(path, "TensorBoard events") for path in events[-1:]]
    return [(path, what) for path, what in items if path.exists()]
