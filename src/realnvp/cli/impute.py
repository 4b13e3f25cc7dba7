"""``realnvp impute``."""

from __future__ import annotations

from realnvp.cli.options import Parser, add_candidates, add_table, output_path
from realnvp.cli.shared import read_model, table_rows, tell

EPILOG = """examples:
  realnvp impute runs/table --data gaps.csv                      imputed.csv
  realnvp impute runs/table --data gaps.csv --seed 1 --out second.csv   multiple imputation

The table that the model was trained on need not have had missing values. Each one is drawn from its
distribution given the known values of its row, by sampling importance resampling. A value that
training shows to be impossible, such as an unknown category, tells nothing about the others of its
row, and stays.
"""

FEW = 10
"""Effective number of candidates below which a draw is unreliable."""


def main(argv: list[str]) -> int:
    """Fill in the missing values of a table by draws given the rest of each row."""
    parser = Parser(
        "impute",
        "Fill in the missing values of a table by draws given the rest of each row.",
        EPILOG,
    )
    add_table(parser)
    add_candidates(
        parser,
        "candidate draws per row, of which one is chosen",
        "imputed.csv",
        "a .csv or .parquet table with the columns of the data",
    )
    args = parser.parse_args(argv)

    import numpy as np

    from realnvp.columns.impossible import missing_instead
    from realnvp.data.tables import write_frame
    from realnvp.tables.inference import filled_table, impute, known_rows
    from realnvp.utils.progress import Bar, warn

    flow = read_model(args)
    path = output_path(args, ".csv", ".parquet")
    schema, frame, condition = table_rows(flow, args)
    x = known_rows(
        flow, schema, frame, where=args.data, unknown=True,
        tolerate=lambda found: warn(f"{missing_instead(found)}; they stay in the table"),
    )  # fmt: skip
    with Bar("imputing", visible=not args.json) as bar:
        filled, effective = impute(
            flow, schema, x, condition, candidates=args.candidates, seed=args.seed,
            progress=bar.count,
        )  # fmt: skip
    table = filled_table(schema, frame, filled)
    write_frame(table, path, escape=args.escape_formulas)
    imputed = frame.isna() & table.notna()  # not those of a column that was always empty
    counts = imputed.sum()
    drawn = effective.numpy()
    drawn = drawn[(imputed.any(axis=1).to_numpy() | (drawn == 0)) & np.isfinite(drawn)]
    few, failed = int((drawn < FEW).sum()), int((drawn == 0).sum())
    result = {
        "out": str(path),
        "rows": len(frame),
        "imputed_rows": int(imputed.any(axis=1).sum()),
        "imputed": {name: int(count) for name, count in counts.items() if count},
        "median_effective_candidates": float(np.median(drawn)) if len(drawn) else None,
        "rows_with_few_candidates": few,
    }
    if few:
        warn(
            f"{few:,} row{'' if few == 1 else 's'} had fewer than {FEW} effective candidates of "
            f"{args.candidates:,}: such draws are unreliable; increase --candidates"
        )
    if failed:
        warn(
            f"{failed:,} row{' keeps its' if failed == 1 else 's keep their'} missing values: no "
            "candidate is possible given the known ones"
        )
    text = f"{counts.sum():,} missing values in {result['imputed_rows']:,} rows filled in"
    return tell(args, result, f"{path}  {text}")
