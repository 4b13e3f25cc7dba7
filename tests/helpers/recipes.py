"""The models of recipes, in small, and that of a table with columns of every kind."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from realnvp import Flow, image_flow, vector_flow
from realnvp.data import load_data
from realnvp.recipes import load_recipe, read_recipe, recipe_names
from realnvp.training.initialization import build

__all__ = ["distinct_recipes", "mixed_table", "recipe_flow", "some_condition"]


def _small(name: str, tiny: bool = False) -> dict[str, Any]:
    """Return the options of a recipe's model with two layers of a kind, or with one."""
    data = "moons" if name == "table" else "digits"
    given = None if read_recipe(name)["data"]["source"] else {"source": data}
    recipe = load_recipe(name, data=given)
    most = {"blocks": 2, "steps": 2, "couplings": 2}
    if tiny:
        coarse = vars(recipe.model).get("architecture") == "coarse_to_fine"
        most |= {"blocks": 1, "steps": 1, "scales": 2 if coarse else 1}
    small = {
        option: v if option not in most else most[option] if isinstance(v, list)
        else min(v, most[option])
        for option, v in vars(recipe.model).items()
    }  # fmt: skip
    small["classes"] = 3 if recipe.data.condition == "label" else None
    if small.get("mixture_init") == "auto":  # which data decide
        small["mixture_init"] = 2
    return {**small, "hidden": 4}


def recipe_flow(name: str, tiny: bool = False) -> Flow:
    """Return the flow of a recipe, in small; three classes, if its density is given a label."""
    options = _small(name, tiny)
    if "scales" not in options:
        return vector_flow(3, **options)
    side = 2 ** options["scales"]
    return image_flow((1, side, side), **options)


def distinct_recipes() -> list[str]:
    """Return recipes, without those whose tiny flow is that of another one."""
    return [*{repr(_small(name, True)): name for name in reversed(recipe_names())}.values()]


def some_condition(flow: Flow, n: int) -> Tensor | None:
    """Return conditions of a flow, or None if it takes none."""
    if flow.classes is not None:
        return torch.arange(n) % flow.classes
    return torch.linspace(-1, 1, n * flow.condition_dim).view(n, -1) if flow.condition_dim else None


def mixed_table() -> tuple[Flow, Tensor]:
    """Return the flow of a table of numbers, integers, gaps and categories, and six rows."""
    rng = np.random.default_rng(0)
    kind = rng.choice(["a", "b", "c"], 90)
    frame = pd.DataFrame({
        "number": rng.normal(size=90), "kind": kind, "count": rng.integers(0, 9, 90),
        "place": np.where(rng.random(90) < 0.8, kind, "elsewhere"),
        "gaps": np.where(rng.random(90) < 0.9, rng.normal(size=90), np.nan),
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / "rows.csv", index=False)
        recipe = load_recipe("table", data={"source": f"{folder}/rows.csv"})
        model = dataclasses.replace(recipe.model, hidden=4, mixture_init=1)
        dataset = load_data(recipe.data)
        return build(dataclasses.replace(recipe, model=model), dataset), dataset.train.x[:6]
