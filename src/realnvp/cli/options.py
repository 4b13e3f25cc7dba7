"""Options of the command line: every setting of a recipe, and those that several commands share.

A recipe is a YAML file with the sections of the dataclasses in :mod:`realnvp.config`, and every one
of its keys is an option, ``--section.key value``, whose help is the dataclass's documentation.

This module imports nothing heavy, so that the command line can show help immediately.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import textwrap
from collections.abc import Sequence
from functools import partial
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import yaml

from realnvp.config import DataConfig
from realnvp.recipes import SECTIONS, config_sections, read_recipe

SHORT = {
    "data.source": "--data",
    "data.root": "--data-root",
    "data.size": "--data-size",
    "data.crop": "--data-crop",
    "data.channels": "--data-channels",
    "data.background": "--data-background",
    "data.skip_unreadable": "--data-skip-unreadable",
    "data.cache": "--data-cache",
    "data.storage": "--data-storage",
    "data.condition": "--condition",
    "training.minutes": "--minutes",
    "training.epochs": "--epochs",
    "training.steps": "--steps",
    "training.precision": "--precision",
    "training.memory": "--memory",
    "training.compile": "--compile",
    "training.accelerator": "--device",
    "training.devices": "--devices",
    "training.nodes": "--nodes",
}
"""Short names of the settings that are set most."""

DATA_OPTIONS = ("root", "size", "crop", "channels", "background", "skip_unreadable", "cache")
"""Settings of the data that may differ from those in training."""

METAVARS = {
    bool: "{true,false}",
    int: "N",
    float: "X",
    str: "TEXT",
    tuple: "[X,X]",
    list: "[N,...]",
    dict: "{NAME:VALUE}",
}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Wrap options at blanks only, and keep the lines of the examples."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors of one line, which the command line reports.

    Args:
        command: name of the command.
        description: what it does.
        epilog: examples.
        json: offer ``--json``, as all commands do that end with a result.
    """

    def __init__(self, command: str, description: str, epilog: str, json: bool = True) -> None:
        super().__init__(
            prog=f"realnvp {command}",
            description=description,
            epilog=epilog,
            formatter_class=_Help,
            allow_abbrev=False,  # RECIPE is found before its options are known: by full names
        )
        if json:
            self.add_argument("--json", action="store_true", help="print one JSON object")

    def add_argument(self, *names: str, help: str = "", **options: Any) -> argparse.Action:  # type: ignore[override]
        """Add an argument, whose help ends with its default."""
        if options.get("default") not in (None, False, "", [], argparse.SUPPRESS):
            help += f" (default: {options['default']})"
        return super().add_argument(*names, help=help, **options)

    def format_help(self) -> str:
        names = [action.metavar or action.dest for action in self._get_positional_actions()]
        self.usage = " ".join(["%(prog)s", *map(str, names), "[options]"])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        if unknown := re.match(r"unrecognized arguments: (-[^\s=]+)", message):
            names = [SHORT.get(name[2:], name) for name in self._option_string_actions]
            known = {_end(name): name for name in names}
            close = difflib.get_close_matches(_end(unknown[1]), known, n=1, cutoff=0.75)
            message += f": did you mean {known[close[0]]}?" if close else ""
        raise ValueError(f"{message} (see {self.prog} --help)")


def _end(option: str) -> str:
    """Return the last part of an option's name, by which a misspelled one is recognized."""
    return re.split(r"[.-]|data_", option)[-1]


# ---------------------------------------------------------------------- settings


def _documentation(section: type) -> dict[str, str]:
    """Return the descriptions of fields from the Args of a dataclass's docstring."""
    text = cleandoc(section.__doc__ or "").partition("Args:")[2]  # as Python 3.13 stores it
    entries = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", text + "\n", re.M | re.S)
    return {name: re.sub(r"\s+", " ", doc).strip() for name, doc in entries}


def _kinds(hint: Any) -> list[Any]:
    return [get_origin(part) or part for part in (hint, *get_args(hint))]


def _value(hint: Any, text: str) -> Any:
    """Return the value of a setting, written as in YAML; one of another type is refused later.

    >>> _value(float, "1e-3"), _value(list[int], "[4, 12]"), _value(str | None, "2020-01-31")
    (0.001, [4, 12], '2020-01-31')
    """
    kinds = _kinds(hint)
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    if str in kinds:
        return None if text == "null" and type(None) in kinds else text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


class _Merged(argparse.Action):
    """Collect the keys of a mapping that are given one by one."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        if not isinstance(values, dict):
            raise argparse.ArgumentError(self, f"is written as {self.metavar}, got {values}")
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), **values})


def _setting(config: type, name: str) -> dict[str, Any]:
    """Return the arguments of ``add_argument`` for a field of a dataclass."""
    hint = get_type_hints(config)[name]
    kinds = _kinds(hint)
    metavar = next((METAVARS[kind] for kind in kinds if kind in METAVARS), "")
    if get_origin(hint) is Literal:
        metavar = f"{{{','.join(get_args(hint))}}}"
    return {
        "type": partial(_value, hint),
        "metavar": metavar,
        "help": _documentation(config)[name].removesuffix(".").replace("%", "%%") + ".",
        **({"action": _Merged} if dict in kinds else {}),
    }


def add_settings(parser: Parser, name: str) -> None:
    """Add every setting of a recipe as an option, with the recipe's values as defaults.

    Args:
        parser: parser to which the options are added.
        name: name or path of the recipe.

    Raises:
        ValueError: if there is no such recipe, or it is not valid.
    """
    settings = read_recipe(name)
    add_seed(parser, "weights, noise and order", argparse.SUPPRESS)
    for section, config in config_sections(settings["kind"]).items():
        group = parser.add_argument_group(f"{section} settings")
        for field in dataclasses.fields(config):
            key, options = f"{section}.{field.name}", _setting(config, field.name)
            default = settings[section].get(field.name, field.default)
            options["help"] += f" Short: {SHORT[key]}" if key in SHORT else ""
            if default not in (None, False, ""):
                options["help"] += f" (default: {default})".replace("%", "%%")
            group.add_argument(f"--{key}", default=argparse.SUPPRESS, **options)


def expand(argv: Sequence[str]) -> list[str]:
    """Return the command line with settings written out: short names, and keys of mappings.

    >>> expand(["digits", "--minutes", "5", "--data=mnist", "--data.columns.age", "drop"])
    ['digits', '--training.minutes', '5', '--data.source=mnist', '--data.columns={"age": drop}']
    """
    long = {short: f"--{key}" for key, short in SHORT.items()}
    found, tokens = [], iter(argv)
    for token in tokens:
        name, equals, value = token.partition("=")
        option, *key = name.split(".", 2)
        if option in {f"--{section}" for section in SECTIONS} and len(key) == 2:
            value = value if equals else next(tokens, "")
            token = f'{option}.{key[0]}={{"{key[1]}": {value}}}'
            name, equals, value = token.partition("=")
        found.append(long.get(name, name) + equals + value)
    return found


def given_settings(parser: Parser, argv: list[str]) -> dict[str, Any]:
    """Return the settings that the command line gives, as arguments of ``load_recipe``."""
    given = vars(parser.parse_args(argv))
    settings: dict[str, Any] = {key: given[key] for key in ("seed",) if key in given}
    for name, value in given.items():
        section, dot, key = name.partition(".")
        if dot:
            settings.setdefault(section, {})[key] = value
    return settings


def with_option_names(message: str) -> str:
    """Return a message with the settings that it names, but does not quote, written as options.

    >>> with_option_names("give data.root, or set training.lr lower; --data.size is fine")
    'give --data-root, or set --training.lr lower; --data-size is fine'
    """
    keys = {
        f"{section}.{field.name}"
        for kind in ("image", "vector")
        for section, config in config_sections(kind).items()
        for field in dataclasses.fields(config)
    }

    def option(match: re.Match[str]) -> str:
        key = match[1]
        return SHORT.get(key, f"--{key}") if key in keys else match[0]

    return re.sub(
        r"(?<![\w./'-])(?:--)?((?:model|data|training)\.\w+)(?![\w/]|\.\w)", option, message
    )


# ---------------------------------------------------------------------- what several commands share


def add_model(parser: Parser) -> None:
    """Add the MODEL argument, and the device."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a run directory, a saved model folder, hf://owner/name[@revision], or a model that "
        "comes with the package (realnvp models lists them)",
    )
    add_device(parser)


def add_device(parser: Parser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", help='"auto", "cpu", "cuda" or "mps"')


def add_processes(parser: Parser) -> None:
    """Add ``--devices`` and ``--nodes``: how many processes share the work."""
    add_count(parser, "--devices", 1, "processes on each machine")
    add_count(parser, "--nodes", 1, "machines")


def add_data(parser: Parser) -> None:
    """Add the data that the model is evaluated on; by default, the other options are as trained."""
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="a named set, a file or a folder: its test part if it has one, else all of it "
        "(default: for a run, the data that it was trained with, see --split)",
    )
    for name in DATA_OPTIONS:
        parser.add_argument(SHORT[f"data.{name}"], **_setting(DataConfig, name))
    parser.add_argument(
        "--split",
        choices=["train", "validation", "test"],
        help="part of the data that the model was trained with (default: test, or validation if "
        "there is no test part)",
    )


def add_draws(parser: Parser) -> None:
    """Add how likelihoods are computed."""
    add_count(parser, "--samples", 1, "draws of the dequantization noise for each example")
    add_seed(parser, "the noise")
    add_count(parser, "--batch-size", 256, "examples per batch")


def _integer(text: str, least: int, most: int | None = None) -> int:
    """Return an integer in a range."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least or (most is not None and number > most):
        between = f"an integer from {least} to 2**63 - 1" if most else f"{least} or more"
        raise argparse.ArgumentTypeError(f"must be {between}, got {text[:50]}")
    return number


def add_count(parser: Parser, name: str, default: int | None, what: str) -> None:
    """Add an integer of 1 or more; ``--n`` is also called ``-n``."""
    names = [name, "-n"] if name == "--n" else [name]
    kind = partial(_integer, least=1)
    parser.add_argument(*names, type=kind, default=default, metavar="N", help=what)


def add_seed(parser: Parser, what: str, default: Any = 0) -> None:
    """Add the seed of the random numbers."""
    kind = partial(_integer, least=0, most=2**63 - 1)
    parser.add_argument("--seed", type=kind, default=default, metavar="N", help=f"seed of {what}")


def add_table(parser: Parser) -> None:
    """Add MODEL, the model of a table, and ``--data``, the file with the rows to process."""
    parser.add_argument("model", metavar="MODEL", help="run directory or model folder of a table")
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="a table: CSV, TSV, Parquet, Feather, JSON or .xlsx; - reads CSV from standard input",
    )


def add_keep(parser: Parser) -> None:
    """Add ``--keep``: columns of the data that identify its rows in what is written."""
    parser.add_argument(
        "--keep",
        metavar="NAME,...",
        help="columns of the data to write first, instead of the number of the row; all: every one",
    )


def add_candidates(parser: Parser, what: str, out: str, written: str) -> None:
    """Add the options of commands that draw candidates: number, seed, output and device.

    Args:
        parser: parser of the command.
        what: what the draws of each row are for.
        out: file that is written by default.
        written: what is written into it.
    """
    add_count(parser, "--candidates", 500, what)
    add_seed(parser, "the draws")
    add_table_out(parser, out, written)
    add_device(parser)


def add_out(parser: Parser, default: str | None, what: str) -> None:
    """Add the file to write, and whether it may be replaced."""
    parser.add_argument("--out", default=default, metavar="FILE", help=what)
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def add_table_out(parser: Parser, default: str | None, what: str) -> None:
    """Add the file to write, which may be a CSV file, and how its text is written."""
    add_out(parser, default, f"{what}; - writes CSV to standard output")
    parser.add_argument(
        "--escape-formulas",
        action="store_true",
        help="write ' before text in a .csv file that a spreadsheet would run as a formula, since "
        "it begins with =, +, - or @; such text is written as it is by default",
    )


def output_path(args: Any, *suffixes: str) -> Path:
    """Return the file to write.

    Raises:
        ValueError: if its name has none of the suffixes.
        FileExistsError: if it exists, and ``--overwrite`` is not given.
    """
    path = Path(args.out)
    if path.suffix not in suffixes:
        one_of = " or ".join(filter(None, [", ".join(suffixes[:-1]), suffixes[-1]]))
        raise ValueError(f"--out must end in {one_of}, got {args.out!r}")
    return free_path(args, path)


def free_path(args: Any, path: Path) -> Path:
    """Return a path at which there is nothing, or what ``--overwrite`` replaces.

    Raises:
        FileExistsError: otherwise.
    """
    if path.exists() and not args.overwrite:
        raise FileExistsError(f"{path} exists: choose another --out, or add --overwrite")
    return path


def picture_parser(command: str, description: str, epilog: str) -> Parser:
    """Return the parser of a command that draws a picture of some of the data's images."""
    parser = Parser(command, description, epilog)
    add_model(parser)
    add_data(parser)
    add_seed(parser, "the choice of images, and of all noise")
    add_out(parser, f"{command}.png", "the picture to write")
    return parser
