"""``realnvp predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from realnvp.cli.options import Parser, add_candidates, add_keep, add_table, output_path
from realnvp.cli.shared import Table, identifiers, read_model, table_rows, tell

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from realnvp.columns.impossible import Impossible
    from realnvp.columns.schema import TableSchema

EPILOG = """examples:
  realnvp predict runs/diamonds --data new.csv --column cut            probability of each cut
  realnvp predict runs/diamonds --data new.csv --column price    mean, median, 90 % interval
  realnvp predict runs/diamonds --data new.csv --column price --quantiles 0.25,0.5,0.75
  realnvp predict runs/diamonds --data new.csv --column price --keep id,name

If the file has the column, the predictions are compared with it. A value of another column that
training shows to be impossible, such as an unknown category, counts as missing, with a warning.
"""


def main(argv: list[str]) -> int:
    """Predict a column of a table given the others."""
    args = _parser().parse_args(argv)
    probabilities = _probabilities(args.quantiles)

    import numpy as np
    import pandas as pd

    from realnvp.columns.impossible import missing_instead
    from realnvp.data.tables import write_frame
    from realnvp.tables.inference import category_proba, quantiles
    from realnvp.utils.errors import did_you_mean, some_of
    from realnvp.utils.progress import Bar, warn

    flow = read_model(args)
    path = output_path(args, ".csv", ".parquet")
    schema, frame, condition = table_rows(flow, args)
    rows = identifiers(frame, args.keep, args.data)
    kinds = {column.name: column.kind for column in schema.columns}
    if args.column not in schema.names:
        hint = did_you_mean(args.column, schema.names)
        raise ValueError(
            f"the model has no column {args.column!r}: {hint}there are {some_of(schema.names)}"
        )
    truth = frame[args.column] if args.column in frame.columns else None

    def tolerate(found: list[Impossible]) -> None:
        warn(missing_instead(found))

    result: dict[str, Any] = {"out": str(path), "rows": len(frame), "column": args.column}
    if kinds.get(args.column) == "categorical":
        with Bar("predicting", visible=not args.json) as bar:
            p = category_proba(
                flow, schema, frame, args.column, condition,
                candidates=args.candidates, seed=args.seed, where=args.data, tolerate=tolerate,
                progress=bar.count,
            )  # fmt: skip
        predicted = p.columns.to_numpy()[p.to_numpy().argmax(1)]
        answers = p.rename(columns=lambda value: "p(missing)" if value is None else f"p({value})")
        answers.insert(0, args.column, predicted)
        if truth is not None:
            result |= _compared(p, schema.encode_values(args.column, truth)[:, 0])
    else:
        with Bar("predicting", visible=not args.json) as bar:
            predicted = quantiles(
                flow, schema, frame, args.column, sorted({*probabilities, 0.5}), condition,
                candidates=args.candidates, seed=args.seed, where=args.data, tolerate=tolerate,
                progress=bar.count,
            )  # fmt: skip
        answers, effective = predicted.table, predicted.effective
        drawn = effective[np.isfinite(effective)]
        if len(drawn):
            result["median_effective_candidates"] = float(np.median(drawn))
        if truth is not None and len(probabilities) > 1:
            result |= _coverage(answers[probabilities], truth, schema, args.column)
        column = schema.column(args.column)
        if not args.as_written:
            answers = answers.apply(column.parsed)
        answers = answers.rename(columns=lambda q: f"{args.column} ({q:g})")
        answers.insert(0, f"{args.column} (mean)", predicted.mean)
    taken = [name for name in answers if name in rows]
    answers = answers.rename(columns={name: f"{name} (predicted)" for name in taken})
    answers = pd.concat([rows, answers.set_axis(rows.index)], axis=1)
    write_frame(answers, path, escape=args.escape_formulas)
    numbers = [
        (name.replace("_", " "), f"{value:.4g}")
        for name, value in result.items()
        if isinstance(value, float)
    ]
    shown = Table(f"{args.column} given the other columns", ["", "value"], numbers)
    texts = [shown] if numbers else []
    return tell(args, result, *texts, f"{path}  {len(frame):,} rows")


def _parser() -> Parser:
    parser = Parser(
        "predict",
        "Predict a column of a table from the others: the probability of each category, exact by\n"
        "Bayes' rule, or the mean, the median and other quantiles of a number or a date.",
        EPILOG,
    )
    add_table(parser)
    parser.add_argument("--column", required=True, metavar="NAME", help="column to predict")
    parser.add_argument(
        "--quantiles",
        default="0.05,0.5,0.95",
        metavar="X,X,...",
        help="probabilities of the quantiles of a number, beside the median",
    )
    parser.add_argument(
        "--as-written",
        action="store_true",
        help="write numbers and dates as the training table has them, such as $1,200.00",
    )
    add_keep(parser)
    add_candidates(
        parser,
        "draws per row with other unknown values, of which the quantiles are taken",
        "predictions.csv",
        "a .csv or .parquet table",
    )
    return parser


def _probabilities(text: str) -> list[float]:
    try:
        probabilities = sorted({float(word) for word in text.split(",")})
    except ValueError as error:
        raise ValueError(f'--quantiles is a list such as "0.05,0.5,0.95", got {text!r}') from error
    if not all(0 < p < 1 for p in probabilities):
        raise ValueError(f"--quantiles are between 0 and 1, got {text!r}")
    return probabilities


def _compared(p: pd.DataFrame, truth: np.ndarray) -> dict[str, Any]:
    """Return the accuracy of the likeliest category, and the mean log-probability of the true one.

    A category that is unknown to the model counts as wrong, and is excluded from the mean.

    Args:
        p: probabilities of the categories.
        truth: ``(N,)`` indices of the true ones, NaN if unknown.
    """
    import numpy as np

    place = np.nan_to_num(truth, nan=-1).astype(int)
    known = place >= 0
    given = p.to_numpy(dtype=np.float64)[known, place[known]]
    return {
        "accuracy": float((p.to_numpy().argmax(1) == place).mean()),
        "log_probability": float(np.log(np.maximum(given, 1e-300)).mean()) if len(given) else None,
        "examples": int(known.sum()),
    }


def _coverage(
    answers: pd.DataFrame, truth: pd.Series, schema: TableSchema, name: str
) -> dict[str, Any]:
    """Return the share of true values between the outermost quantiles, and its expected value."""
    import numpy as np

    def keys(values: pd.Series) -> np.ndarray:
        return schema.column(name).sort_keys(schema.encode_values(name, values))

    lowest, highest = answers.columns[0], answers.columns[-1]
    true = keys(truth)
    there = np.isfinite(true)
    inside = (keys(answers[lowest]) <= true) & (true <= keys(answers[highest]))
    return {
        "coverage": float(inside[there].mean()) if there.any() else None,
        "nominal_coverage": round(float(highest) - float(lowest), 9),
        "examples": int(there.sum()),
    }
