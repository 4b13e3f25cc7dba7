"""``realnvp compare``."""

from __future__ import annotations

from typing import Any

from realnvp.cli.options import Parser, add_out, output_path
from realnvp.cli.shared import Table, tell

EPILOG = """examples:
  realnvp compare runs/mnist runs/mnist-paper             a table
  realnvp compare runs/lr/* --out lr.png                  and a picture: curves, samples
  realnvp compare runs/mnist runs/mnist-paper --json
"""


def main(argv: list[str]) -> int:
    """Compare runs: the settings that differ, results, overlaid curves."""
    parser = Parser(
        "compare",
        "Compare runs: the settings that differ, results with standard errors, and in a picture\n"
        "the curves in one plot and the last samples side by side.",
        EPILOG,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories, two or more")
    add_out(parser, "", "a .png picture to write as well (default: none)")
    args = parser.parse_args(argv)
    path = output_path(args, ".png") if args.out else None

    from realnvp import plots
    from realnvp.reports.compare import compare
    from realnvp.reports.run import Run

    comparison = compare([Run.open(folder) for folder in args.runs])
    texts: list[Any] = [Table(f"{len(comparison.runs)} runs", *comparison.rows())]
    if comparison.settings:
        texts.append(Table("settings that differ", *comparison.setting_rows()))
    if path is not None:
        plots.save_figure(comparison.figure(), path)
        texts.append(f"{path}  overlaid curves, samples side by side")
    result = {**comparison.as_dict(), "out": None if path is None else str(path)}
    return tell(args, result, *texts)
