"""``realnvp models``."""

from __future__ import annotations

from typing import Any

from realnvp.cli.options import Parser, add_json
from realnvp.cli.shared import print_json, print_table

__all__ = []

EPILOG = """examples:
  realnvp models                 all models
  realnvp models mnist           the card of one: training and results
  realnvp sample mnist           draw samples from it
"""


def main(argv: list[str]) -> int:
    """List the models that come with the package, or show the card of one."""
    parser = Parser(
        "models", "List the models that come with the package, or show the card of one.", EPILOG
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="model whose card to show")
    add_json(parser)
    args = parser.parse_args(argv)

    from realnvp.pretrained import cards

    known = {}
    for name, card in cards().items():
        known[name] = {**card, "recipe": card["command"].split()[2]}
    if args.name is None:
        if args.json:
            print_json(known)
            return 0
        rows = [
            (name, card["data"], _quality(card), f"{card['parameters']:,}", card["command"])
            for name, card in known.items()
        ]
        columns = ["name", "data", "quality", "parameters", "trained by"]
        print_table("models that come with the package", columns, rows)
        return 0
    if args.name not in known:
        raise ValueError(f"unknown model {args.name!r}: there are {', '.join(known)}")
    card = known[args.name]
    if args.json:
        print_json(card)
        return 0
    facts = [(key, str(card[key])) for key in ("recipe", "data", "command")]
    facts += [
        ("quality", _quality(card)),
        ("measured on", f"{card['examples']:,} held-out examples"),
    ]
    facts += [("training", card["training"]), ("parameters", f"{card['parameters']:,}")]
    print_table(args.name, ["", "value"], facts)
    steps = [(f"{minutes:.2f}", f"{value:.3f}") for minutes, value in card["curve"]]
    print_table("its validation", ["minutes", card["unit"]], steps)
    return 0


def _quality(card: dict[str, Any]) -> str:
    name = "KL" if "kl" in card else ""
    value, error = (card["kl"], card["kl_standard_error"]) if name else (
        card["value"], card["standard_error"]
    )  # fmt: skip
    return f"{name} {value:.4f} ± {error:.4f} {card['unit']}".strip()
