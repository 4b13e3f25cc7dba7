"""``realnvp recipes``."""

from __future__ import annotations

import yaml

from realnvp.cli.options import Parser
from realnvp.cli.shared import Table, tell
from realnvp.recipes import read_recipe, recipe_names, recipe_summary

EPILOG = """examples:
  realnvp recipes                          all of them
  realnvp recipes mnist > mine.yaml        a copy to edit: realnvp train mine.yaml
  realnvp recipes mnist --minutes 60       the settings for an hour

A recipe of your own may begin with base: mnist, and then needs only the settings that differ.
"""


def main(argv: list[str]) -> int:
    """List the recipes, or print one."""
    parser = Parser("recipes", "List the recipes, or show one.", EPILOG)
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="recipe to print as YAML")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="X",
        help="training budget, for recipes whose settings depend on it",
    )
    args = parser.parse_args(argv)
    if args.recipe is not None:
        settings = read_recipe(args.recipe, args.minutes)
        return tell(args, settings, yaml.safe_dump(settings, sort_keys=False).rstrip("\n"))
    recipes = {name: read_recipe(name, args.minutes) for name in recipe_names()}
    rows = []
    for name, recipe in recipes.items():
        training = recipe["training"]
        budget = [f"{training[k]} {k}" for k in ("minutes", "epochs", "steps") if k in training]
        rows.append((name, recipe_summary(name), ", ".join(budget)))
    return tell(args, recipes, Table("recipes", ["name", "what it is", "budget"], rows))
