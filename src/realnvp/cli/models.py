"""``realnvp models``."""

from __future__ import annotations

from realnvp.cli.options import Parser
from realnvp.cli.shared import Table, tell

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
    args = parser.parse_args(argv)

    from realnvp.pretrained import cards, quality

    shipped = {
        name: {**card, "recipe": card["command"].split()[2]} for name, card in cards().items()
    }
    if args.name is None:
        rows = [
            (name, card["data"], quality(card), f"{card['parameters']:,}")
            for name, card in shipped.items()
        ]
        columns = ["name", "data", "quality", "parameters"]
        return tell(args, shipped, Table("models that come with the package", columns, rows))
    if args.name not in shipped:
        raise ValueError(f"unshipped model {args.name!r}: there are {', '.join(shipped)}")
    card = shipped[args.name]
    facts = [(key, card[key]) for key in ("recipe", "data", "command", "training")]
    facts += [
        ("quality", quality(card)),
        ("measured on", f"{card['examples']:,} held-out examples"),
        ("parameters", f"{card['parameters']:,}"),
    ]
    steps = [(f"{minutes:.2f}", f"{value:.3f}") for minutes, value in card["curve"]]
    curve = Table("its validation", ["minutes", card["unit"]], steps)
    return tell(args, card, Table(args.name, ["", "value"], facts), curve)
