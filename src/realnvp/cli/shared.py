"""What several verbs share: the model argument, its data, tables and JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table

from realnvp.cli.options import Parser
from realnvp.config import DataConfig
from realnvp.data import Split, load_examples, load_part
from realnvp.data.sources import of_source
from realnvp.data.toy import TOY
from realnvp.flow import Flow
from realnvp.pretrained import load
from realnvp.utils.files import standard_json

if TYPE_CHECKING:
    from realnvp.training.launch import Team

__all__ = [
    "add_data",
    "add_draws",
    "add_model",
    "add_processes",
    "at_least_one",
    "examples",
    "label_condition",
    "named_row",
    "picture_parser",
    "print_json",
    "print_table",
    "read_model",
    "read_picture_arguments",
    "refuse_existing",
    "start",
    "true_log_density",
]


DATA_OPTIONS = ("root", "size", "channels", "background", "skip_unreadable")
"""Settings of the data that can be other ones than in training."""


def add_model(parser: Parser) -> None:
    """The MODEL argument and the device."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a run folder, a saved model folder, or a model that\n"
        "comes with the package (realnvp models lists them)",
    )
    parser.add_argument(
        "--device", default="auto", help='"auto", "cpu", "cuda" or "mps" (default: auto)'
    )


def add_processes(parser: Parser) -> None:
    """How many processes share the work."""
    parser.add_argument("--devices", type=int, default=1, help="processes on each machine")
    parser.add_argument("--nodes", type=int, default=1, help="machines")


def start(args: Any) -> Team | None:
    """The processes that the arguments, or ``torchrun``, ask for; None for a single one."""
    at_least_one(args, "devices", "nodes")
    if args.devices * args.nodes == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return None  # and Fabric need not be imported
    from realnvp.training.launch import launch

    return launch(args.device, args.devices, args.nodes)


def add_data(parser: Parser) -> None:
    """Which data the model is shown."""
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="a named set, a file or a folder: its test part, if it has one, or all of it;\n"
        "default: the data the model was trained with, see --split",
    )
    parser.add_argument("--data-root", help="folder of the named sets")
    parser.add_argument(
        "--data-size",
        type=int,
        metavar="N",
        help="cut squares from the images of a folder and resize them to\n"
        "NxN (default: as for training)",
    )
    parser.add_argument(
        "--data-channels",
        type=int,
        metavar="1|3",
        help="convert the images of a folder to grey (1) or color (3)",
    )
    parser.add_argument(
        "--data-background", metavar="COLOR", help="color behind transparent pixels"
    )
    parser.add_argument(
        "--data-skip-unreadable",
        type=bool,
        metavar="true",
        help="leave out images that cannot be read",
    )
    parser.add_argument(
        "--split",
        choices=["train", "validation", "test"],
        help="part of the model's own data (default: test, or validation where nothing is\n"
        "held out to test)",
    )


def add_draws(parser: Parser) -> None:
    """How likelihoods are computed."""
    parser.add_argument(
        "--samples",
        type=int,
        default=1,
        metavar="K",
        help="noise draws, of images and whole numbers",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--batch-size", type=int, default=250, help="examples computed at once")


def at_least_one(args: Any, *names: str) -> None:
    """The arguments of these names must be positive."""
    for name in names:
        if args[name] < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be 1 or more, got {args[name]}")


def read_model(args: Any, device: torch.device | None = None) -> Flow:
    """The model of the arguments, on its device, or on another one."""
    name = args.device if device is None else str(device)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return load(args.model).to(torch.device(name))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error


def examples(flow: Flow, args: Any) -> tuple[Split, str]:
    """The data of the arguments, checked against the model, and their name."""
    known = flow.trained_on or {}
    settings = known.get("data")
    # Before there was a test part to hold out, there was none: its rows were trained on.
    config = DataConfig(**{"test": 0.0, **settings}) if settings else DataConfig()
    if args.data is not None:
        config = of_source(config, args.data)
    if args.data_size is not None:
        at_least_one(args, "data_size")
    given = {name: args[f"data_{name}"] for name in DATA_OPTIONS}
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    if args.data is not None:
        if args.split is not None:
            raise ValueError("--split is of the model's own data: leave --data or --split out")
        split = load_examples(
            config,
            shape=flow.shape,
            levels=flow.levels,
            classes=flow.classes,
            columns=known.get("columns"),
            categories=known.get("categories"),
        )
        for column in flow.integers:
            if (split.x[:, column] != split.x[:, column].floor()).any():
                name = (known.get("columns") or range(flow.dim))[column]
                raise ValueError(
                    f"column {name!r} of {args.data} has fractions, but held whole numbers only "
                    f"when the model was trained"
                )
        return split, args.data
    if not settings:
        raise ValueError("the model does not say what it was trained on: give --data")
    part, split = load_part(config, args.split, known.get("fingerprint"))
    return split, f"{config.source} ({part})"


def true_log_density(flow: Flow, args: Any) -> Any:
    """The log-density of the arguments' data, ``(N, 2) -> (N,)``, where it is known."""
    source = args.data
    if source is None and flow.trained_on is not None:
        source = flow.trained_on["data"]["source"]
    return TOY[source].log_density if source in TOY else None


def label_condition(flow: Flow, label: str | None, n: int) -> torch.Tensor | None:
    """The condition of ``n`` samples: the label asked for, or all classes in turn."""
    if flow.condition_dim == 0:
        if label is not None:
            raise ValueError("the model is not conditional: leave --label out")
        return None
    if flow.classes is None:
        if label is None:
            raise ValueError("the model is conditioned on numbers: give --label VALUE[,VALUE...]")
        try:
            values = torch.tensor([float(value) for value in label.split(",")])
        except ValueError as error:
            raise ValueError(f"--label must be numbers, got {label!r}") from error
        return values.expand(n, len(values))
    if label is None:
        return torch.arange(n) * flow.classes // n
    categories = (flow.trained_on or {}).get("categories") or []
    if label in categories:
        return torch.full((n,), categories.index(label))
    if not label.isdecimal() or int(label) >= flow.classes:
        names = ", ".join(categories) if categories else f"0 .. {flow.classes - 1}"
        raise ValueError(f"unknown label {label!r}: there are {names}")
    return torch.full((n,), int(label))


def refuse_existing(path: Path, overwrite: bool) -> None:
    """A file that is there is not overwritten unless that is asked for."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another --out, or add --overwrite")


def picture_parser(verb: str, description: str, epilog: str) -> Parser:
    """The arguments of a verb that draws a picture of some of the data's images."""
    parser = Parser(prog=f"realnvp {verb}", description=description, epilog=epilog)
    add_model(parser)
    add_data(parser)
    parser.add_argument("--seed", type=int, default=0, help="which images, and of all noise")
    parser.add_argument("--out", default=f"{verb}.png", help="the picture to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    return parser


def read_picture_arguments(
    parser: Parser, argv: list[str], count: int | None
) -> tuple[Flow, torch.Tensor, torch.Tensor | None, Path, Any]:
    """The image model, ``count`` (or ``--n``) of the data's images, and where to write."""
    args = parser.parse_args(argv)
    path = Path(args.out)
    if path.suffix != ".png":
        raise ValueError(f"--out must end in .png, got {path}")
    refuse_existing(path, args.overwrite)
    flow = read_model(args)
    if flow.levels is None:
        raise ValueError(f"{args.model} is a model of vectors: this picture is of images")
    split, _ = examples(flow, args)
    if count is None:
        at_least_one(args, "n")
        count = args.n
    if count > len(split):
        raise ValueError(f"the picture is of {count} images, and there are {len(split)}")
    chosen = split.select(
        torch.randperm(len(split), generator=torch.Generator().manual_seed(args.seed))[:count]
    )
    condition = None if chosen.condition is None else chosen.condition.to(flow.device)
    return flow, chosen.x.to(flow.device), condition, path, args


def named_row(name: str, value: float | None, error: float | None = None) -> tuple[str, str]:
    """A row of a table of numbers."""
    text = "" if value is None else f"{value:.4f}"
    return name, text if error is None else f"{text} ± {error:.4f}"


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width: give it enough that no number is cut.
    width = None if sys.stdout.isatty() else 120
    console = Console(width=width, markup=False, emoji=False)  # a column may be named "age [years]"
    console.print(table)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(standard_json(value))
