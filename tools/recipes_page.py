"""The page of the recipes: each file, and what was measured with it.

Measurements are those of the models that come with the package, whose cards hold their curves, and
those of ``benchmarks/results/mnist.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

HEAD = """# Recipes

*Generated from `src/realnvp/recipes`.* `realnvp recipes NAME` shows one with every default filled
in. Under each is what was measured with it: the models that come with the package (`realnvp models
NAME`) with their validation curves, and [MNIST in a given time](../benchmarks/mnist.md). Others:
[how the recipes of MNIST were found](../benchmarks/search.md), [2D sets](../benchmarks/toy.md),
[tables](../benchmarks/tables.md), [the paper's recipes on a GPU](../benchmarks/gpu.md).
"""


def recipe_of(card: dict[str, Any]) -> str:
    """Return the name of the recipe that a model was trained with.

    >>> recipe_of({"command": "realnvp train mnist-paper --minutes 3"})
    'mnist-paper'
    """
    return card["command"].split()[2]


def measured(name: str) -> list[tuple[str, str, str]]:
    """Return the measurements of a recipe: what was run, the result, and of what.

    >>> measured("celeba-paper")
    []
    """
    from realnvp.pretrained import cards

    rows = []
    for model, card in cards().items():
        if recipe_of(card) != name:
            continue
        result = f"{card['value']:.4f} ± {card['standard_error']:.4f} {card['unit']}"
        if "kl" in card:
            result += f", KL {card['kl']:.4f} ± {card['kl_standard_error']:.4f}"
        run = f"`{model}`: `{card['command']}`, {card['training']}"
        rows.append((run, result, f"{card['examples']:,} held-out examples"))
    results = json.loads((ROOT / "benchmarks" / "results" / "mnist.json").read_text("utf-8"))
    for key, row in results.items():
        recipe, _, budget = key.rpartition(", ")
        if recipe == name:
            result = f"{row['bits_per_dim']:.4f} ± {row['standard_error']:.4f} bits/dim"
            machine = row["machine"].partition(";")[0]
            rows.append((f"{budget}, one core of {machine}", result, "5,000 held-out images"))
    return rows


def curves(name: str) -> Any:
    """Return a picture of the validation curves of the models of a recipe; None without one."""
    from realnvp.plots import run_curves
    from realnvp.pretrained import cards

    found = {model: card for model, card in cards().items() if recipe_of(card) == name}
    if not found:
        return None
    runs = {
        model: [
            {"kind": "validation", "step": i, "seconds": 60 * minutes, "loss": loss}
            for i, (minutes, loss) in enumerate(card["curve"])
        ]
        for model, card in found.items()
    }
    units = {card["unit"] for card in found.values()}
    assert len(units) == 1, units
    if units == {"bits/dim"}:
        return run_curves(runs, "bits/dim")
    return run_curves(runs, "nats (log-density)", sign=-1.0)


def page() -> str:
    """Return the page as Markdown."""
    from realnvp.plots import data_uri
    from realnvp.recipes import recipe_names

    parts = [HEAD]
    for name in recipe_names():
        text = (ROOT / "src" / "realnvp" / "recipes" / f"{name}.yaml").read_text("utf-8")
        parts.append(f"## {name}\n\n```yaml\n{text}```\n")
        if rows := measured(name):
            body = "\n".join(f"| {run} | {result} | {of} |" for run, result, of in rows)
            parts.append(f"| measured | result | of |\n|---|---|---|\n{body}\n")
        if (figure := curves(name)) is not None:
            image = f'<img alt="validation curves" width="560" src="{data_uri(figure, dpi=80)}">'
            parts.append(f"{image}\n")
    return "\n".join(parts)
