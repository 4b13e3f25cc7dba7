"""``realnvp compare-rows``."""

from __future__ import annotations

from realnvp.cli.options import Parser, add_out, add_seed, output_path
from realnvp.cli.shared import Table, read_file, tell

EPILOG = """examples:
  realnvp sample runs/people -n 5000 --out synthetic.csv
  realnvp compare-rows people.csv synthetic.csv
  realnvp compare-rows people.csv synthetic.csv --kept-aside others.csv --out rows.png

The classifier's AUC is 0.5 if it cannot tell synthetic rows from real ones. Without rows that were
kept aside, nothing is said about privacy but how many rows are copies.
"""


def main(argv: list[str]) -> int:
    """Compare synthetic rows with real ones: a classifier, columns, pairs, copies."""
    parser = Parser(
        "compare-rows",
        "Compare synthetic rows with real ones: whether a classifier tells them apart, distances\n"
        "of columns and pairs, copies, and nearest rows.",
        EPILOG,
    )
    parser.add_argument("real", metavar="REAL", help="the table that the model was trained on")
    parser.add_argument("synthetic", metavar="SYNTHETIC", help="rows that the model drew")
    parser.add_argument("--kept-aside", metavar="FILE", help="real rows that it has not seen")
    add_seed(parser, "the classifier, and of which rows it sees")
    add_out(parser, "", "a .png picture to write as well (default: none)")
    args = parser.parse_args(argv)
    path = output_path(args, ".png") if args.out else None

    from realnvp import plots
    from realnvp.columns.schema import TableSchema
    from realnvp.tables.comparison import compare_rows

    frames = [read_file(each) for each in (args.real, args.synthetic, args.kept_aside) if each]
    comparison = compare_rows(*frames, seed=args.seed)
    numbers = [
        ("AUC of a classifier (0.5 is best)", f"{comparison.auc:.3f} ± {comparison.auc_error:.3f}"),
        ("rows with impossible values", f"{comparison.impossible:.2%}"),
        ("copies of real rows", f"{comparison.copies:.2%}"),
    ]
    if comparison.copies_by_chance is not None and comparison.nearer_to_real is not None:
        numbers += [
            ("copies of rows kept aside, by chance", f"{comparison.copies_by_chance:.2%}"),
            ("nearer to a real row than to one kept aside (50 % is best)",
             f"{comparison.nearer_to_real:.1%}"),
        ]  # fmt: skip
    distances = sorted(comparison.columns.items(), key=lambda each: -each[1])
    texts = [Table(f"{args.synthetic} beside {args.real}", ["", "value"], numbers)]
    for what, each in (("column", distances), ("pair", list(comparison.pairs.items()))):
        rows = [(name, f"{distance:.3f}") for name, distance in each[:8]]
        texts.append(Table(f"largest distances of a {what} (0 is best)", [what, "distance"], rows))
    if path is not None:
        schema = TableSchema.of(frames[0])
        names = [name for name in schema.names if name in frames[1]]
        shown = [schema.parsed(frame[names]) for frame in frames[:2]]
        plots.save_figure(plots.table_rows(shown[1], shown[0]), path)
    result = {**comparison.as_dict(), "out": None if path is None else str(path)}
    return tell(args, result, *texts, *([] if path is None else [f"{path}  both tables"]))
