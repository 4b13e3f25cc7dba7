"""``realnvp plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from realnvp.cli.options import (
    Parser,
    add_data,
    add_device,
    add_out,
    add_seed,
    output_path,
)
from realnvp.cli.shared import examples, read_model, tell, true_log_density

if TYPE_CHECKING:
    from realnvp.plots import Plane

EPILOG = """examples:
  realnvp plot                                           all eight 2D sets
  realnvp plot runs/moons
  realnvp plot runs/moons runs/circles --out both.png    one row for each
"""


def main(argv: list[str]) -> int:
    """Draw densities in the plane."""
    parser = Parser(
        "plot",
        "Draw 2D densities, one row for each model: data, samples, the true density and the\n"
        "model's, and the latent grid as the flow bends it.",
        EPILOG,
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="run directories, saved model folders, or models that come with the package\n"
        "(default: all of its 2D sets)",
    )
    add_device(parser)
    add_data(parser)
    parser.add_argument("--label", metavar="TEXT", help="class or condition of a conditional model")
    add_seed(parser, "the samples")
    add_out(parser, "plot.png", "the picture to write")
    args = parser.parse_args(argv)
    path = output_path(args, ".png")

    from realnvp import plots
    from realnvp.data.toy import TOY
    from realnvp.pretrained import shipped_names

    names = args.models or [name for name in TOY if name in shipped_names()]
    rows = [_row(name, args) for name in names]
    plots.save_figure(plots.planes(rows), path)
    text = f"{path}  {len(rows)} densities" if len(rows) > 1 else str(path)
    return tell(args, {"out": str(path), "models": names}, text)


def _row(name: str, args: Any) -> Plane:
    """Return the row of the picture for one model."""
    from realnvp.conditions import condition_of_text
    from realnvp.data.toy import TOY
    from realnvp.plots import Plane

    args.model = name
    flow = read_model(args)
    if flow.shape != (2,):
        what = "images" if flow.levels is not None else f"{flow.dim} columns"
        raise ValueError(f"{name} models {what}: this picture is of two columns")
    split, source = examples(flow, args)
    one = condition_of_text(flow, args.label, 1)
    if one is not None and flow.classes is not None and split.condition is not None:
        split = split.select((split.condition == one).nonzero()[:, 0])
    if one is not None and args.label is None:
        raise ValueError(f"{name} is conditional: give --label")
    known = source.split(" ")[0]
    first, second = flow.column_names
    return Plane.of(
        flow,
        split.x[:3000],  # points that are drawn
        name=known if known in TOY else Path(name).name,
        condition=one,
        bounds=TOY[known].bounds if known in TOY else None,
        true_log_density=true_log_density(flow, args),
        columns=None if known in TOY else (first, second),
        seed=args.seed,
    )
