"""``realnvp plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from realnvp.cli.options import Parser, add_data, add_device, add_out, add_seed, output_path
from realnvp.cli.shared import (
    column_names,
    examples,
    label_condition,
    read_model,
    true_log_density,
)

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from realnvp.flow import Flow
    from realnvp.plots import Plane

__all__ = []

EPILOG = """examples:
  realnvp plot                                           all eight 2D sets
  realnvp plot runs/moons
  realnvp plot runs/moons runs/circles --out both.png    one row for each
"""


POINTS = 3000


def main(argv: list[str]) -> int:
    """Draw densities in the plane."""
    parser = Parser(
        "plot",
        "A picture of 2D densities, one row for each model: data and samples, the true density\n"
        "and the model's, and the grid of the latents as the flow bends it.",
        EPILOG,
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="run folders, saved model folders, or models that come with the package;\n"
        "all of its 2D sets, if left out",
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
    from realnvp.utils.files import replacing

    names = args.models or [name for name in TOY if name in shipped_names()]
    rows = [_row(name, args) for name in names]
    with replacing(path) as temporary:
        plots.planes(rows, temporary)
    print(f"{path}  {len(rows)} densities" if len(rows) > 1 else path)
    return 0


def _row(name: str, args: Any) -> Plane:
    """Return what is drawn of one model."""
    import torch

    from realnvp.data.toy import TOY
    from realnvp.plots import Plane

    args.model = name
    flow = read_model(args)
    if flow.shape != (2,):
        what = "images" if flow.levels is not None else f"{flow.dim} columns"
        raise ValueError(f"{name} models {what}: this picture is of two columns")
    split, source = examples(flow, args)
    one = label_condition(flow, args.label, 1)
    if one is not None and flow.classes is not None and split.condition is not None:
        split = split.select((split.condition == one).nonzero()[:, 0])
    data = split.x[:POINTS]
    if one is not None and args.label is None:
        raise ValueError(f"{name} is conditional: give --label")
    generator = torch.Generator(flow.device).manual_seed(args.seed)
    samples = flow.sample(len(data), condition=_repeat(one, len(data), flow), generator=generator)

    def log_density(points: NDArray) -> NDArray:
        x = torch.as_tensor(points, dtype=flow.dtype, device=flow.device)
        with torch.no_grad():
            # Integers have the density at the middle of their cell.
            middle = torch.full_like(x, 0.5) if flow.noisy else None
            x[:, list(flow.integers)] = x[:, list(flow.integers)].floor()
            return flow.log_prob(x, _repeat(one, len(x), flow), middle).cpu().numpy()

    def decode(latents: NDArray) -> NDArray:
        z = torch.as_tensor(latents, dtype=flow.dtype, device=flow.device)
        with torch.no_grad():
            return flow.decode(z, _repeat(one, len(z), flow)).cpu().numpy()

    known = source.split(" ")[0]
    first, second = column_names(flow)
    return Plane(
        known if known in TOY else Path(name).name,
        data.numpy(),
        samples.cpu().numpy(),
        TOY[known].bounds if known in TOY else _bounds(data.numpy()),
        log_density,
        true_log_density(flow, args),
        decode,
        None if known in TOY else (first, second),
    )


def _bounds(data: NDArray) -> tuple[float, float, float, float]:
    """Return the range of nearly all of the data, with a margin."""
    import numpy as np

    low, high = np.quantile(data, [0.002, 0.998], axis=0)
    margin = 0.15 * (high - low) + 1e-6
    (left, bottom), (right, top) = low - margin, high + margin
    return float(left), float(right), float(bottom), float(top)


def _repeat(condition: torch.Tensor | None, n: int, flow: Flow) -> torch.Tensor | None:
    return None if condition is None else condition.expand(n, *condition.shape[1:]).to(flow.device)
