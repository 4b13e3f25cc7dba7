"""Options of the command line: every setting of a recipe, and those that several commands share.

A recipe is a YAML file with the sections of the dataclasses in :mod:`realnvp.config`, and every one
of its keys is an option, ``--section.key value``. The options are added one by one: jsonargparse's
``add_class_arguments`` would also offer ``--model FILE``, show types rather than choices and short
names, and need another package to read the documentation.

This module imports nothing heavy, so that the command line can show help immediately.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter
from jsonargparse.typing import PositiveInt, restricted_number_type

from realnvp.recipes import SECTIONS, config_sections, read_recipe

__all__ = [
    "Parser",
    "add_candidates",
    "add_count",
    "add_data",
    "add_device",
    "add_draws",
    "add_json",
    "add_model",
    "add_out",
    "add_processes",
    "add_seed",
    "add_settings",
    "add_table",
    "add_table_out",
    "expand",
    "given_settings",
    "output_path",
    "picture_parser",
    "with_option_names",
]

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

METAVARS = {
    int: "N",
    float: "X",
    str: "TEXT",
    tuple: "[X,X]",
    list: "[N,...]",
    dict: "{NAME:VALUE}",
}

Seed: Any = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**63)])

MEANINGS = {
    "PositiveInt": "1 or more",
    "Seed": "an integer from 0 to 2**63 - 1",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list such as [0.9,0.999]",
    "list": "a list with one for each scale",
    "None": "null",
}
"""Names of value types in messages."""


class _Help(DefaultHelpFormatter):
    """Keep the lines of the examples, fold the long list of options, and show each default once."""

    def _get_help_string(self, action: Any) -> str:
        text = str(action.help or "")
        silent = action.default is None or action.default is False or action.nargs == 0
        silent = silent or action.default == ""
        return text if silent or "default: " in text else f"{text} (default: %(default)s)"

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(indent + line for line in text.splitlines(keepends=True))

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        positional = []
        for action in actions:
            if not action.option_strings:
                name = action.metavar or action.dest
                shown = {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}
                positional.append(shown.get(action.nargs, name))
        super().add_usage(" ".join(["%(prog)s", *positional, "[options]"]), actions, groups, prefix)


_WRONG_TYPE = re.compile(
    r": (?:Expected a (?P<plain>.+?)\. Got value: (?P<value>.*)"
    r"|Does not validate against any of .*? Subtypes: \[(?P<union>.*?)\] .* value: (?P<one>.*)"
    r"|Not of type (?P<restricted>\w+): (?:.* base 10: '?(?P<text>.*?)'?|(?P<number>\S+) does .*))$"
)


def _meaning(match: re.Match[str]) -> str:
    """Return an error message of jsonargparse in plain words."""
    kinds = match["plain"] or match["union"] or match["restricted"]
    names = [name.removesuffix("Type") for name in re.findall(r"(?:class ')?(\w+)'?>?", kinds)]
    syntax = "class", "typing", "Literal"
    words = dict.fromkeys(MEANINGS.get(name, name) for name in names if name not in syntax)
    value = match["value"] or match["one"] or match["text"] or match["number"]
    return f" must be {' or '.join(words)}, got {value}"


class Parser(ArgumentParser):
    """A parser whose errors are ValueErrors of one line, which the command line reports.

    Args:
        command: name of the command.
        description: what it does.
        epilog: examples.
    """

    def __init__(self, command: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=f"realnvp {command}",
            description=description,
            epilog=epilog,
            formatter_class=_Help,
            exit_on_error=False,
            allow_abbrev=False,  # RECIPE is found before its options are known: by full names
        )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = re.sub(r"\s+", " ", str(message)).strip()
        if key := re.match(r'Parser key "(.+?)"', text):
            name = key[1] if "." in key[1] else key[1].replace("_", "-")
            text = f"--{name}{text[key.end() :]}"
        text = _WRONG_TYPE.sub(_meaning, text)
        text = re.sub(r"\S{80,}", lambda word: f"{word[0][:50]}...", text)
        if found := re.match(r"unrecognized arguments: (-\S+)", text, re.IGNORECASE):
            text += self._suggestion(found[1].partition("=")[0])
        raise ValueError(f"{text} (see {self.prog} --help)")

    def _suggestion(self, option: str) -> str:
        """Return a question that suggests the closest known option, or nothing."""
        known = list(self._option_string_actions)
        known += [short for key, short in SHORT.items() if f"--{key}" in known]
        name = option.lstrip("-").rpartition(".")[2].replace("-", "_")
        ends = {k.lstrip("-").rpartition(".")[2].replace("-", "_"): k for k in reversed(known)}
        close = difflib.get_close_matches(option, known, n=1, cutoff=0.8) or [
            ends[end] for end in difflib.get_close_matches(name, ends, n=1, cutoff=0.75)
        ]
        return f": did you mean {close[0]}?" if close else ""


def _documentation(section: type) -> dict[str, str]:
    """Return the descriptions of fields from the Args of a dataclass's docstring."""
    text = (section.__doc__ or "").partition("Args:")[2]
    entries = re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |\Z)", text + "\n", re.M | re.S)
    return {name: re.sub(r"\s+", " ", doc).strip() for name, doc in entries}


def _metavar(hint: Any) -> str:
    """Return the placeholder for the value of an option of this type."""
    kinds = [get_origin(part) or part for part in (hint, *get_args(hint))]
    return next(METAVARS[kind] for kind in kinds if kind in METAVARS)


def add_settings(parser: Parser, name: str, minutes: float | None = None) -> None:
    """Add every setting of a recipe as an option, with the recipe's values as defaults.

    Args:
        parser: parser to which the options are added.
        name: name or path of the recipe.
        minutes: budget whose settings are the defaults; None is the recipe's own.

    Raises:
        ValueError: if there is no such recipe, or it is not valid.
    """
    settings = read_recipe(name, minutes)
    add_seed(parser, "weights, noise and order", settings.get("seed", 0))
    for section, config in config_sections(settings["kind"]).items():
        group = parser.add_argument_group(f"{section} settings")
        documentation, hints = _documentation(config), get_type_hints(config)
        for field in dataclasses.fields(config):
            key, hint = f"{section}.{field.name}", hints[field.name]
            short = f" Short: {SHORT[key]}" if key in SHORT else ""
            options: dict[str, Any] = {"type": hint}
            if get_origin(hint) is Literal:
                options = {"type": str, "choices": get_args(hint)}
            elif hint is not bool:
                options["metavar"] = _metavar(hint)
            group.add_argument(
                f"--{key}",
                default=settings[section].get(field.name, field.default),
                help=documentation[field.name].removesuffix(".") + "." + short,
                **options,
            )


def expand(argv: Sequence[str]) -> list[str]:
    """Return the command line with the short names of settings written out.

    >>> expand(["digits", "--minutes", "5", "--data=mnist"])
    ['digits', '--training.minutes', '5', '--data.source=mnist']
    """
    long = {short: f"--{key}" for key, short in SHORT.items()}
    pairs = [token.partition("=") for token in argv]
    return [long.get(name, name) + equals + value for name, equals, value in pairs]


def given_settings(parser: Parser, argv: list[str]) -> dict[str, Any]:
    """Return the settings that the command line gives, as arguments of ``load_recipe``."""
    given = parser.parse_args(argv, defaults=False).as_dict()
    settings = {section: given[section] for section in SECTIONS if section in given}
    return settings | ({"seed": int(given["seed"])} if "seed" in given else {})


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
        help="a run directory, a saved model folder, hf://owner/name[@revision], or a model\n"
        "that comes with the package (realnvp models lists them)",
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
    """Add the data that the model is evaluated on."""
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="a named set, a file or a folder: its test part if it has one, else all of it\n"
        "(default: for a run, the data that it was trained with, see --split)",
    )
    parser.add_argument("--data-root", metavar="FOLDER", help="folder of the named sets")
    parser.add_argument(
        "--data-size",
        type=PositiveInt,
        metavar="N",
        help="crop the images of a folder to squares and resize them to NxN (default, like that\n"
        "of the next options: as in training)",
    )
    parser.add_argument(
        "--data-crop",
        type=int,
        metavar="N",
        help="first crop a square of N pixels from the middle of the images of a folder",
    )
    parser.add_argument(
        "--data-channels",
        type=int,
        choices=[1, 3],
        help="convert the images of a folder to grey (1) or color (3)",
    )
    parser.add_argument(
        "--data-background", metavar="COLOR", help="color behind transparent pixels"
    )
    parser.add_argument("--data-skip-unreadable", type=bool, help="skip images that cannot be read")
    parser.add_argument(
        "--data-cache",
        metavar="FOLDER",
        help="folder for the decoded images of large folders; none: no cache",
    )
    parser.add_argument(
        "--split",
        choices=["train", "validation", "test"],
        help="part of the data that the model was trained with (default: test, or validation\n"
        "if there is no test part)",
    )


def add_draws(parser: Parser) -> None:
    """Add how likelihoods are computed."""
    add_count(parser, "--samples", 1, "draws of the dequantization noise for each example")
    add_seed(parser, "the noise")
    add_count(parser, "--batch-size", 250, "examples per batch")


def add_count(parser: Parser, name: str, default: int | None, what: str) -> None:
    """Add an integer of 1 or more; ``--n`` is also called ``-n``."""
    names = [name, "-n"] if name == "--n" else [name]
    parser.add_argument(*names, type=PositiveInt, default=default, metavar="N", help=what)


def add_table(parser: Parser) -> None:
    """Add MODEL, the model of a table, and ``--data``, the file with the rows to process."""
    parser.add_argument("model", metavar="MODEL", help="run directory or model folder of a table")
    parser.add_argument("--data", required=True, metavar="FILE", help="a CSV, TSV or Parquet file")


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
    add_json(parser)


def add_seed(parser: Parser, what: str, default: Any = 0) -> None:
    """Add the seed of the random numbers."""
    parser.add_argument("--seed", type=Seed, default=default, metavar="N", help=f"seed of {what}")


def add_out(parser: Parser, default: str | None, what: str) -> None:
    """Add the file to write, and whether it may be replaced."""
    parser.add_argument("--out", default=default, metavar="FILE", help=what)
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def add_table_out(parser: Parser, default: str | None, what: str) -> None:
    """Add the file to write, which may be a CSV file, and how its text is written."""
    add_out(parser, default, what)
    parser.add_argument(
        "--escape-formulas",
        action="store_true",
        help="write ' before text in a .csv file that a spreadsheet would run as a formula, since\n"
        "it begins with =, +, - or @; such text is written as it is by default",
    )


def add_json(parser: Parser) -> None:
    """Add whether the result is printed for scripts."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


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
    add_json(parser)
    return parser
