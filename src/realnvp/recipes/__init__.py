"""Recipes: YAML files of settings, variants of them with ``base:``, and their former names.

Each ``*.yaml`` next to this file is a recipe that comes with the package. A recipe may have other
settings for longer runs, under ``budgets:``. Files may be untrusted: aliases, size and depth are
bounded, and every section and key is checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from realnvp.config import (
    DataConfig,
    ImageModel,
    ImageRecipe,
    Recipe,
    TrainingConfig,
    VectorModel,
    VectorRecipe,
)
from realnvp.utils.errors import did_you_mean
from realnvp.utils.settings import require

__all__ = [
    "config_sections",
    "flat_settings",
    "load_recipe",
    "made",
    "read_recipe",
    "recipe_names",
    "recipe_summary",
]

KINDS = {"image": ImageRecipe, "vector": VectorRecipe}

LIMITS = {"minutes", "epochs", "steps"}
"""Settings that end training: one that is given replaces all of them."""

SECTIONS = ("model", "data", "training")


class _Loader(yaml.SafeLoader):
    """Load plain YAML, without aliases: a few nested ones expand to any size."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not for recipes: write the values out")
        return super().compose_node(parent, index)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package.

    >>> "digits" in recipe_names()
    True
    """
    return sorted(file.name[:-5] for file in _folder().iterdir() if file.name.endswith(".yaml"))


def _folder() -> Any:
    return files("realnvp") / "recipes"


def recipe_summary(name: str) -> str:
    """Return the first line of the comment at the top of a recipe of the package.

    >>> recipe_summary("mnist-glow")
    "MNIST with Glow's parts (arXiv 1807.03039)."
    """
    return _text(name, Path(name)).partition("\n")[0].removeprefix("# ")


def read_recipe(name: str, minutes: float | None = None) -> dict[str, Any]:
    """Return the settings of a recipe; those it leaves out have the defaults of the dataclasses.

    A recipe is a YAML file of ``kind``, ``seed`` and the sections ``model``, ``data`` and
    ``training``. One that begins with ``base: NAME`` is a variant of another recipe, with some of
    its settings replaced. Under ``budgets``, a number of minutes has settings that replace others
    in runs of that many minutes or more; a variant that changes the model or the training settings
    does not inherit its base's budgets.

    Args:
        name: name of a recipe that comes with the package, or path to a YAML file.
        minutes: budget whose settings to return; None is the recipe's own.

    Raises:
        ValueError: if there is no such recipe, or it is not valid.

    >>> read_recipe("circles")["data"]
    {'source': 'circles'}
    >>> read_recipe("mnist-multiscale")["training"]["optimizer"]
    'muon'
    >>> read_recipe("mnist-multiscale", minutes=60)["training"]["optimizer"]
    'adam'
    """
    settings = _read(name, Path(), ())
    if minutes is not None:
        settings = _merge(settings, {"training": {"minutes": minutes}})
    return _of_budget(settings)


def _read(name: str, folder: Path, variants: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings of a recipe.

    Args:
        name: name of the recipe, or path relative to the folder.
        folder: folder of the variant that names this recipe as its base.
        variants: recipes that this one is the base of.
    """
    path = folder / name
    settings = _parse(name, _text(name, path))
    base, inherited = settings.pop("base", None), None
    if base is not None:
        require(isinstance(base, str), f"base in recipe {name} must be a name, got {base!r}")
        variants = (*variants, str(name if name in recipe_names() else path.resolve()))
        target = base if base in recipe_names() else str((path.parent / base).resolve())
        require(target not in variants, f"recipe {name} is based on itself, through base: {base}")
        inherited = _read(base, path.parent, variants)
        settings.setdefault("kind", inherited["kind"])
    kind = settings.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"{name} must have kind: image or kind: vector, or base: and the name of a recipe"
        )
    if inherited is not None:
        if kind != inherited["kind"]:
            raise ValueError(
                f"recipe {name} is of kind {kind}, but its base {base} of kind {inherited['kind']}"
            )
        if not (settings["model"] or settings["training"] or settings["budgets"]):
            settings["budgets"] = inherited["budgets"]
        settings = _merge(inherited, settings)
    for part in (settings, *settings["budgets"].values()):
        _check_keys(kind, part, f"recipe {name}")
    return settings


def _text(name: str, path: Path, limit: int = 1_000_000) -> str:
    """Return the text of a recipe that comes with the package, or of a YAML file.

    Args:
        name: name of the recipe.
        path: its path, if it is a file.
        limit: largest size of a file in bytes, which parsing multiplies.
    """
    if name in recipe_names():
        return str((_folder() / f"{name}.yaml").read_text("utf-8"))
    if path.suffix in (".yaml", ".yml") and path.is_file():
        if path.stat().st_size > limit:
            raise ValueError(f"{name} is not a recipe: it is too large")
        return path.read_text("utf-8")
    if path.suffix in (".yaml", ".yml"):
        raise FileNotFoundError(f"there is no file {path.absolute()}")
    hint = did_you_mean(name, recipe_names())
    raise ValueError(
        f"unknown recipe {name!r}: {hint}there are {', '.join(recipe_names())}, "
        f"or give a path to a .yaml file"
    )


def _parse(name: str, text: str) -> dict[str, Any]:
    """Return the settings in the text of a recipe.

    Raises:
        ValueError: if it is not a mapping of sections, which are mappings with text for keys, or
            its budgets are invalid.
    """
    try:
        settings = yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError(f"{name} is not a recipe: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: dates, and overlong integers
        raise ValueError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{name} is not a recipe: it must be a mapping of sections")
    budgets = _section(name, settings, "budgets")
    for minutes, changes in budgets.items():
        number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
        if not (
            number and minutes > 0 and isinstance(changes, dict) and set(changes) <= {*SECTIONS}
        ):
            raise ValueError(
                f"budgets in recipe {name} must be numbers of minutes with the sections "
                f"{', '.join(SECTIONS)}, got {str(minutes)[:50]}"
            )
    for part in (settings, *budgets.values()):
        sections = [_section(name, part, section) for section in SECTIONS]
        for key in (key for keys in (part, *sections) for key in keys):
            if not isinstance(key, str):
                raise ValueError(f"the key {str(key)[:50]} in recipe {name} is not text")
    if any(not LIMITS.isdisjoint(changes["training"]) for changes in budgets.values()):
        raise ValueError(f"budgets in recipe {name} must not change the budget")
    return settings


def _section(name: str, settings: dict[Any, Any], section: str) -> dict[Any, Any]:
    """Return a section, which is created if it was left out or has only comments."""
    if settings.get(section) is None:
        settings[section] = {}
    values = settings[section]
    if not isinstance(values, dict):
        raise ValueError(f"{section} in recipe {name} must be a section with keys")
    return values


def _merge(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe with some of them replaced.

    One budget (minutes, epochs or steps) replaces all of them.
    """
    merged = {**settings, **changes}
    for section in SECTIONS:
        values, new = settings.get(section, {}), changes.get(section, {})
        if section == "training" and not LIMITS.isdisjoint(new):
            values = {key: value for key, value in values.items() if key not in LIMITS}
        merged[section] = {**values, **new}
    return merged


def _of_budget(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe for its budget of minutes, without those for others."""
    budgets = settings.pop("budgets")
    minutes = settings["training"].get("minutes")
    number = isinstance(minutes, int | float)  # otherwise it is refused later
    reached = [least for least in budgets if number and least <= minutes]
    return _merge(settings, budgets[max(reached)]) if reached else settings


def _check_keys(kind: str, settings: dict[str, Any], where: str) -> None:
    """Raise ValueError if a section or a key does not exist."""
    sections = config_sections(kind)
    known = ["kind", "seed", "budgets", *sections]
    given = [*settings]
    for section, config in sections.items():
        known += [f"{section}.{field.name}" for field in dataclasses.fields(config)]
        given += [f"{section}.{key}" for key in settings.get(section, {})]
    for key in given:
        if key not in known:
            raise ValueError(
                f"{where} has an unknown setting {key}: {did_you_mean(str(key), known)}"
                f"realnvp train RECIPE --help lists all of them"
            )


def config_sections(kind: str) -> dict[str, type]:
    """Return the dataclass of each section of a recipe of this kind."""
    model = ImageModel if kind == "image" else VectorModel
    return {"model": model, "data": DataConfig, "training": TrainingConfig}


def load_recipe(
    name: str,
    *,
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Recipe:
    """Return a recipe, with some of its settings replaced.

    Args:
        name: name of a recipe that comes with the package, or path to a YAML file.
        model: settings of the model to replace, by name.
        data: settings of the data to replace.
        training: training settings to replace. A budget (minutes, epochs or steps) that is
            given here replaces all of the recipe's.
        seed: seed of weights, noise and order.

    Raises:
        ValueError: if there is no such recipe or setting, or a value is out of range.

    >>> load_recipe("moons", training={"steps": 3}).training.steps
    3
    """
    settings = _read(name, Path(), ())
    changes = {"model": model or {}, "data": data or {}, "training": training or {}}
    _check_keys(settings["kind"], changes, f"recipe {name}")
    # Some settings depend on the budget; settings that are given replace them.
    settings = _merge(_of_budget(_merge(settings, {"training": changes["training"]})), changes)
    sections = {
        section: made(section, config, settings[section])
        for section, config in config_sections(settings["kind"]).items()
    }
    return KINDS[settings["kind"]](
        **sections, seed=settings.get("seed", 0) if seed is None else seed
    )


def made(section: str, config: Callable[..., Any], settings: dict[str, Any]) -> Any:
    """Return ``config(**settings)``; an error names the setting as ``section.key``."""
    try:
        return config(**settings)
    except ValueError as error:
        if str(error).partition(" ")[0] in settings:
            raise ValueError(f"{section}.{error}") from error
        raise


def flat_settings(settings: Any) -> dict[str, Any]:
    """Return the settings of all sections as ``section.name``.

    A setting that is itself a mapping, such as ``data.columns``, is one value.

    >>> flat_settings({"kind": "image", "training": {"lr": 0.5}})
    {'kind': 'image', 'training.lr': 0.5}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items() if isinstance(settings, dict) else ():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            found[name] = value
    return found
