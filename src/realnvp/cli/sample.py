"""``realnvp sample``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realnvp.cli.options import (
    Parser,
    add_count,
    add_model,
    add_seed,
    add_table_out,
    output_path,
)
from realnvp.cli.shared import given_condition, read_model, tell
from realnvp.utils.errors import some_of

if TYPE_CHECKING:
    import torch

    from realnvp.columns.schema import TableSchema
    from realnvp.flow import Flow

EPILOG = """examples:
  realnvp sample runs/digits                           a grid of 100, samples.png
  realnvp sample runs/digits -n 5000 --out many.npz    as an array
  realnvp sample runs/moons -n 1000 --out points.csv   as a table
  realnvp sample runs/table -n 10000                   rows of a table, samples.csv
  realnvp sample runs/table -n 10000 --out synthetic.csv --reject "age > 120"
  realnvp sample runs/table --out ideal.csv --given "cut=Ideal,color=E"
  realnvp sample runs/table --out old.csv --given "sex=female" --where "age > 60"
  realnvp sample runs/digits --temperature 0.7         likelier, less varied
  realnvp sample mnist --label 7 --sure 0.99           images that the model reads as a 7
"""

TABLES = ".csv", ".parquet"

FORMATS = (".png", ".npz", ".npy", *TABLES)


def main(argv: list[str]) -> int:
    """Draw samples, and write them in the format of the file's ending."""
    args = _parser().parse_args(argv)
    if args.out:
        output_path(args, *FORMATS)  # refused immediately, before PyTorch is imported
    import torch

    from realnvp.conditions import condition_of_text
    from realnvp.pretrained import table_of
    from realnvp.reports.samples import write_samples

    flow = read_model(args)
    schema = table_of(flow)
    args.out = args.out or ("samples.png" if schema is None else "samples.csv")
    path = output_path(args, *FORMATS)
    if path.suffix in TABLES and flow.levels is not None:
        raise ValueError("images are written as .png, .npz or .npy")
    generator = torch.Generator(flow.device).manual_seed(args.seed)
    result = {"out": str(path), "n": args.n, "temperature": args.temperature}
    text = f"{path}  {args.n:,} samples at temperature {args.temperature:g}"
    if schema is not None and args.sure is not None:
        raise ValueError("--sure is for models of images and points, not for those of tables")
    if schema is not None and path.suffix in (*TABLES, ".png"):
        _write_table(flow, schema, args, generator, path)
        return tell(args, result, text)
    if args.given or args.where or args.reject:
        raise ValueError(
            "--given, --where and --reject are for models of tables, and for .csv, .parquet and "
            ".png"
        )
    condition = condition_of_text(flow, args.label, args.n)
    if condition is not None:
        condition = condition.to(flow.device)
    if args.sure is not None:
        samples, drawn = _sure_samples(flow, condition, args, generator)
        text += f", kept of {drawn:,} because the model is {args.sure:.0%} sure of their label"
        result |= {"sure": args.sure, "drawn": drawn}
    else:
        samples = flow.sample(args.n, args.temperature, condition, generator).cpu()
    if not torch.isfinite(samples).all() and schema is None:
        raise ValueError(
            f"samples at temperature {args.temperature:g} are not finite: lower --temperature"
        )
    write_samples(flow, samples, condition, path, escape=args.escape_formulas)
    return tell(args, result, text)


def _parser() -> Parser:
    parser = Parser("sample", "Draw samples from a model.", EPILOG)
    add_model(parser)
    add_count(parser, "--n", 100, "number of samples")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="X",
        help="standard deviation of the prior; below 1, samples are likelier and less varied, and\n"
        "not draws from the model's density",
    )
    parser.add_argument(
        "--label",
        metavar="TEXT",
        help="class or condition of a conditional model (default: all classes)",
    )
    parser.add_argument(
        "--sure",
        type=float,
        metavar="P",
        help="for a model of classes: keep samples whose class has this probability or more by\n"
        "Bayes' rule; they are easier to read, and not draws from the density",
    )
    parser.add_argument(
        "--given",
        metavar="NAME=VALUE,...",
        help="values of columns of a table: the condition of a conditional model; other columns\n"
        "are drawn given these values",
    )
    parser.add_argument(
        "--where",
        action="append",
        metavar="RULE",
        help="keep only rows of a table that satisfy a rule, in the syntax of pandas' query; may\n"
        "be repeated",
    )
    parser.add_argument(
        "--reject",
        action="append",
        metavar="RULE",
        help="leave out rows of a table that satisfy a rule, in the syntax of pandas' query; may\n"
        "be repeated; one that a missing value makes unknown is not satisfied",
    )
    add_seed(parser, "the latents")
    add_table_out(
        parser,
        None,
        "a .png picture, a .npz or .npy array, or a .csv or .parquet table; .npz and tables\n"
        "also hold the condition of each sample (default: samples.csv of a table's model, else\n"
        "samples.png)",
    )
    return parser


def _sure_samples(
    flow: Flow, condition: torch.Tensor | None, args: Any, generator: torch.Generator
) -> tuple[torch.Tensor, int]:
    """Return the samples that ``--sure`` keeps, in the order of their labels, and the draws."""
    from realnvp.evaluation import sure_samples
    from realnvp.utils.progress import Bar

    if flow.classes is None:
        raise ValueError("--sure is for models of classes, and this model has none")
    if not 0 < args.sure < 1:
        raise ValueError(f"--sure must be a probability between 0 and 1, got {args.sure:g}")
    assert condition is not None  # the classes in turn, if none is asked for
    with Bar("drawing", visible=not args.json) as bar:
        samples, drawn = sure_samples(
            flow, condition, args.sure, args.temperature, generator, progress=bar.count
        )
    return samples.cpu(), drawn


def _write_table(
    flow: Flow, schema: TableSchema, args: Any, generator: torch.Generator, path: Path
) -> None:
    """Write rows with the columns, types and decimals of the table, or a picture of them."""
    from realnvp import plots
    from realnvp.data.tables import write_frame
    from realnvp.pretrained import condition_names, table_of
    from realnvp.tables.sampling import sample_table
    from realnvp.utils.progress import Bar

    given = _given(args.given)
    names = [name for name in condition_names(flow) if name in given]
    own = {name: given.pop(name) for name in names}
    unknown = [name for name in given if name not in schema.names]
    if unknown:
        raise ValueError(
            f"--given {unknown[0]}: the model has no such column; its columns are "
            f"{some_of([*schema.names, *condition_names(flow)])}"
        )

    def condition(n: int) -> torch.Tensor | None:
        found = given_condition(flow, own, args.label, n)
        return None if found is None else found.to(flow.device)

    with Bar("drawing", visible=not args.json) as bar:
        frame = sample_table(
            flow, schema, args.n, condition=condition, given=given, where=args.where or (),
            reject=args.reject or (), temperature=args.temperature, generator=generator,
            progress=bar.count,
        )  # fmt: skip
    if path.suffix == ".png":
        plots.save_figure(plots.table_rows(schema.parsed(frame[[*schema.names]])), path)
        return
    if table_of(flow, "condition_table") is not None:
        frame = frame.assign(**own)
    write_frame(frame, path, escape=args.escape_formulas)


def _given(text: str | None) -> dict[str, str]:
    """Return the values of ``--given`` by name."""
    # A comma that no name and equals sign follow is part of a value, as in price=$1,200.
    parts = re.split(r",(?=[^,=]*=)", text or "")
    pairs = [part.partition("=") for part in parts if part.strip()]
    for name, equals, value in pairs:
        if range_ := re.search(r"(?:^|,)\s*([^,=<>]+?\s*[<>!]=?[^,]*)", f"{name}{equals}{value}"):
            raise ValueError(
                f"--given has values, and {range_[1].strip()!r} is a rule: give it with --where"
            )
        if not equals or not name.strip() or not value.strip():
            raise ValueError(f'--given is written as "name=value,name=value", got {text!r}')
    return {name.strip(): value.strip() for name, _, value in pairs}
