"""Sweeps: one run of a recipe for every combination of values of some settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from realnvp.config import Recipe
from realnvp.reports.compare import Comparison, compare
from realnvp.reports.run import Run
from realnvp.training.train import train
from realnvp.utils.progress import inform, warn

__all__ = ["combinations", "name_of", "sweep"]


def combinations(given: Sequence[str]) -> list[dict[str, str]]:
    """Return the settings of every run of a sweep.

    Args:
        given: settings with their values, such as "training.lr=0.001,0.002". Commas inside brackets
            are part of a value.

    Raises:
        ValueError: if the format is wrong, a setting is given twice, or there is only one
            combination.

    >>> combinations(["training.lr=0.1,0.2", "model.couplings=4"])
    [{'training.lr': '0.1', 'model.couplings': '4'}, {'training.lr': '0.2', 'model.couplings': '4'}]
    """
    values: dict[str, list[str]] = {}
    for text in given:
        name, equals, listed = text.partition("=")
        name = name.strip().lstrip("-")
        found = list(dict.fromkeys(_split(listed)))
        if not equals or not name or not all(found):
            raise ValueError(f"--sweep is written as section.setting=VALUE,VALUE,..., got {text!r}")
        if name in values:
            raise ValueError(f"--sweep {name} is given twice: put all of its values into one")
        values[name] = found
    runs = [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]
    if len(runs) < 2:
        raise ValueError("a sweep needs at least two runs: give a setting several values")
    return runs


def _split(text: str) -> list[str]:
    """Split at the commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in ")}]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def name_of(settings: dict[str, str]) -> str:
    """Return the name of a run's folder.

    >>> name_of({"training.lr": "0.1", "data.source": "a/b.csv"})
    'lr=0.1,source=a_b.csv'
    """
    text = ",".join(f"{name.rpartition('.')[2]}={value}" for name, value in settings.items())
    return "".join(c if c.isalnum() or c in "=,.+-_" else "_" for c in text)


def sweep(
    runs: Sequence[dict[str, str]],
    make: Callable[[dict[str, str]], Recipe],
    out: Path,
    *,
    resume: bool = False,
    **options: Any,
) -> Comparison:
    """Train one run after the other, and compare them.

    A run whose loss is repeatedly not finite ends, and the others continue.

    Args:
        runs: settings of each run.
        make: returns the recipe of some settings. All are made first, so that a mistake in the last
            one is found before any training.
        out: folder of the runs.
        resume: keep finished runs as they are, continue an unfinished one, and start those that do
            not exist.
        options: further arguments of :func:`realnvp.train`.

    Raises:
        ValueError: if two runs would have one folder, or several processes are asked for; and see
            :func:`realnvp.train`.
        FloatingPointError: if no run could be trained.
        Interrupted: after Ctrl-C or SIGTERM; the sweep can be resumed.
    """
    recipes = {name_of(settings): make(settings) for settings in runs}
    if len(recipes) < len(runs):
        raise ValueError("two runs of the sweep would have the same folder: name settings in full")
    if any(r.training.devices not in (1, "1") or r.training.nodes != 1 for r in recipes.values()):
        raise ValueError("a sweep trains in one process: leave --devices and --nodes out")
    failed: FloatingPointError | None = None
    done = []
    for number, (name, recipe) in enumerate(recipes.items(), 1):
        folder = out / name
        if not options.get("quiet"):
            inform(f"run {number} of {len(recipes)}: {name}")
        begun = resume and (folder / "config.yaml").is_file()
        try:
            train(recipe, folder, resume=begun, **options)
        except FloatingPointError as error:
            failed = error
            warn(f"{folder}: {error}")
            continue
        done.append(folder)
    if not done:
        assert failed is not None
        raise failed
    opened = [Run.open(out / name) for name in recipes if (out / name / "config.yaml").is_file()]
    return compare(opened)
