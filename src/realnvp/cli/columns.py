"""``realnvp columns``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from realnvp.cli.options import Parser
from realnvp.cli.shared import Table, read_file, tell

EPILOG = """examples:
  realnvp columns people.csv                                 the kind of each column
  realnvp train table --data people.csv --data.columns.year integer --data.columns.id drop
"""


def main(argv: list[str]) -> int:
    """Show the kinds of the columns of a table."""
    parser = Parser(
        "columns",
        "Show the kind of each column of a table, as train detects it. To declare another kind,\n"
        "train with --data.columns.NAME KIND.",
        EPILOG,
    )
    parser.add_argument("file", metavar="FILE", help="a CSV, TSV or Parquet file")
    parser.add_argument("--keep-range", action="store_true", help="as with --data.keep_range true")
    args = parser.parse_args(argv)

    from realnvp.columns.schema import TableSchema

    path = Path(args.file).expanduser()
    frame = read_file(args.file)
    refused: dict[str, str] = {}
    of = partial(TableSchema.of, frame, where=str(path), keep_range=args.keep_range)
    try:
        schema = of()
    except ValueError:  # of the first such column: find all
        for name in frame.columns:
            try:
                TableSchema.of(frame[[name]], where=str(path))
            except ValueError as error:
                refused[name] = str(error)
        schema = of(dict.fromkeys(refused, "drop"))
    observed = schema.observed(frame)
    rows = [
        (c.name, "refused", "", "", refused[c.name])
        if c.name in refused
        else (c.name, c.kind, str(c.size), " to ".join(observed.get(c.name, ())), c.describe())
        for c in schema.columns
    ]
    header = ["column", "kind", "features", "observed", "what it holds"]
    result = {"rows": len(frame), **schema.as_dict(), "observed": observed, "refused": refused}
    shown = Table(f"{path}: {len(frame):,} rows", header, rows)
    return tell(args, result, shown, status=2 if refused else 0)
