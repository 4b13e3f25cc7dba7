"""``realnvp levels``."""

from __future__ import annotations

import torch

from realnvp import plots
from realnvp.cli.shared import picture_parser, read_picture_arguments
from realnvp.latents import levels
from realnvp.utils.files import replacing

__all__ = []

EPILOG = """examples:
  realnvp levels runs/digits
  realnvp levels runs/mnist --n 16 --out levels.png
"""


def main(argv: list[str]) -> int:
    """Draw images with ever more of their latents drawn anew (paper, appendix D)."""
    parser = picture_parser(
        "levels", "What each scale holds: images with the finer latents drawn anew.", EPILOG
    )
    parser.add_argument("-n", "--n", type=int, default=10, help="images")
    flow, x, condition, path, args = read_picture_arguments(parser, argv, None)
    generator = torch.Generator(flow.device).manual_seed(args.seed)
    rows = levels(flow, x, condition, generator)
    with replacing(path) as temporary:
        plots.image_grid(rows.flatten(0, 1), temporary, levels=flow.levels or 256, columns=len(x))
    print(f"{path}  {len(rows)} rows: the data, then ever fewer scales kept, down to the coarsest")
    return 0
