"""From a recipe and the command line to a validated :class:`~realnvp.config.Recipe`.

A recipe is a YAML file with the sections of the dataclasses in :mod:`realnvp.config`. Every one of
its keys can be set on the command line as ``--section.key value``.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from realnvp.config import BUDGETS, KINDS, Recipe, config_sections, read_recipe

__all__ = ["Parser", "add_settings", "expand", "make_recipe"]

# The settings that people set most have short forms.
SHORT = {
    "data.source": "--data",
    "data.root": "--data-root",
    "data.size": "--data-size",
    "data.channels": "--data-channels",
    "data.background": "--data-background",
    "data.skip_unreadable": "--data-skip-unreadable",
    "data.condition": "--condition",
    "training.minutes": "--minutes",
    "training.epochs": "--epochs",
    "training.steps": "--steps",
    "training.precision": "--precision",
    "training.memory": "--memory",
    "training.compile": "--compile",
    "training.devices": "--devices",
    "training.nodes": "--nodes",
    "training.strategy": "--strategy",
}


class _Help(DefaultHelpFormatter):
    """Keeps the lines of the examples, folds the long list of options, and says defaults once."""

    def _get_help_string(self, action: Any) -> str:
        text = str(super()._get_help_string(action))
        if action.default is None or "default: " in (action.help or ""):
            text = text.replace(", default: %(default)s", "").replace(" (default: %(default)s)", "")
        return text

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(indent + line for line in text.splitlines(keepends=True))

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        positional = [
            action.metavar or action.dest for action in actions if not action.option_strings
        ]
        super().add_usage(" ".join(["%(prog)s", *positional, "[options]"]), actions, groups, prefix)


class Parser(ArgumentParser):
    """A parser whose errors are ValueErrors of one line, which the command line reports."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _Help)
        # What the command line says is also looked up before it is parsed, by whole names.
        super().__init__(*args, exit_on_error=False, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        one_line = re.sub(r"\s+", " ", str(message)).strip()
        one_line = re.sub(r'^Parser key "(.+?)": ', r"--\1: ", one_line)
        raise ValueError(f"{one_line} (see {self.prog} --help)")


def _documentation(section: type) -> dict[str, str]:
    """What the docstring's Args say of each field."""
    text = (section.__doc__ or "").partition("Args:")[2]
    entries = re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |\Z)", text + "\n", re.M | re.S)
    return {name: re.sub(r"\s+", " ", doc).strip() for name, doc in entries}


def add_settings(parser: Parser, name: str) -> None:
    """Add every setting of a recipe as an option, with the recipe's values as defaults.

    Raises:
        ValueError: if the recipe has a key that does not exist.
    """
    settings = read_recipe(name)
    flat = {"seed": settings.pop("seed", 0)}
    kind = settings.pop("kind")
    for section, values in settings.items():
        if not isinstance(values, dict):
            raise ValueError(f"{section} in recipe {name} must be a section with keys")
        flat.update({f"{section}.{key}": value for key, value in values.items()})
    known = {"seed"}
    parser.add_argument(
        "--seed", type=int, default=flat["seed"], help="of weights, noise and order"
    )
    for section, config in config_sections(kind).items():
        group = parser.add_argument_group(f"{section} settings")
        documentation = _documentation(config)
        hints = get_type_hints(config)
        for field in dataclasses.fields(config):
            key = f"{section}.{field.name}"
            known.add(key)
            short = f" Short: {SHORT[key]}." if key in SHORT else ""
            group.add_argument(
                f"--{key}",
                type=hints[field.name],
                default=flat.get(key, field.default),
                help=documentation[field.name] + short,
            )
    for key in flat:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"recipe {name} has an unknown key {key}{hint}")


def expand(argv: Sequence[str]) -> list[str]:
    """Short forms of settings written out.

    >>> expand(["digits", "--minutes", "5", "--data=mnist"])
    ['digits', '--training.minutes', '5', '--data.source=mnist']
    """
    long = {short: f"--{key}" for key, short in SHORT.items()}
    pairs = [token.partition("=") for token in argv]
    return [long.get(name, name) + equals + value for name, equals, value in pairs]


def make_recipe(name: str, parsed: Any, argv: Sequence[str]) -> Recipe:
    """The validated recipe from parsed options.

    A budget that is given on the command line replaces those of the recipe.

    Args:
        name: of the recipe.
        parsed: what the parser returned.
        argv: the expanded command line, to see which budgets were given.
    """
    kind = read_recipe(name)["kind"]
    values = {section: dict(vars(parsed[section])) for section in config_sections(kind)}
    given = {token.partition("=")[0] for token in argv}
    asked = {key for key in BUDGETS if f"--training.{key}" in given}
    if asked:
        values["training"] |= dict.fromkeys(BUDGETS - asked)
    configs = {section: make(**values[section]) for section, make in config_sections(kind).items()}
    return KINDS[kind](**configs, seed=parsed.seed)
