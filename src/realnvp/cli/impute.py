"""``realnvp impute``."""

from __future__ import annotations

from realnvp.cli.options import Parser, add_candidates, add_table, output_path
from realnvp.cli.shared import print_json, read_model, table_rows

__all__ = []

EPILOG = """examples:
  realnvp impute runs/table --data gaps.csv                      imputed.csv
  realnvp impute runs/table --data gaps.csv --seed 1 --out second.csv   multiple imputation

The table that the model was trained on need not have had missing values. Each one is drawn from its
distribution given the known values of its row, by sampling importance resampling.
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

    import torch

    from realnvp.data.tables import write_frame
    from realnvp.estimator.inference import impute
    from realnvp.utils.progress import Bar, warn

    flow = read_model(args)
    path = output_path(args, ".csv", ".parquet")
    schema, frame, condition = table_rows(flow, args)
    x = torch.as_tensor(schema.encode(frame, where=args.data, unknown=True)[0])
    with Bar("imputing", visible=not args.json) as bar:
        filled, effective = impute(
            flow, schema, x, condition, candidates=args.candidates, seed=args.seed,
            progress=lambda done, all_: bar.update(done / all_),
        )  # fmt: skip
    table = schema.decode(filled.numpy()).set_axis(frame.index)
    found = frame.copy()
    gaps = {name: int(frame[name].isna().sum()) for name in schema.names if name in frame}
    for name, count in gaps.items():
        if count:
            found[name] = table[name]
    write_frame(found, path)
    changed = effective.isfinite()
    few = int((effective < FEW).sum())
    result = {
        "out": str(path),
        "rows": len(frame),
        "imputed_rows": int(changed.sum()),
        "imputed": {name: count for name, count in gaps.items() if count},
        "median_effective_candidates": float(effective[changed].median())
        if changed.any()
        else None,
        "rows_with_few_candidates": few,
    }
    if few:
        warn(
            f"{few:,} row{'' if few == 1 else 's'} had fewer than {FEW} effective candidates of "
            f"{args.candidates:,}: such draws are unreliable; increase --candidates"
        )
    if args.json:
        print_json(result)
    else:
        print(f"{path}  {sum(gaps.values()):,} gaps in {result['imputed_rows']:,} rows filled in")
    return 0
