"""``realnvp interpolate``."""

from __future__ import annotations

import torch

from realnvp import plots
from realnvp.cli.shared import picture_parser, read_picture_arguments
from realnvp.latents import interpolate
from realnvp.utils.files import replacing

__all__ = []

EPILOG = """examples:
  realnvp interpolate runs/digits
  realnvp interpolate runs/digits --seed 3 --steps 12 --out between.png
"""


def main(argv: list[str]) -> int:
    """Draw the square of images between four of the data (paper, section 4.2)."""
    parser = picture_parser("interpolate", "Images between four of the data, by latents.", EPILOG)
    parser.add_argument("--steps", type=int, default=8, help="images along each side")
    flow, x, condition, path, args = read_picture_arguments(parser, argv, 4)
    if condition is not None:
        condition = condition[:1].expand(4, *condition.shape[1:])
    generator = torch.Generator(flow.device).manual_seed(args.seed)
    images = interpolate(flow, x, args.steps, condition, generator)
    with replacing(path) as temporary:
        plots.image_grid(images, temporary, levels=flow.levels or 256, columns=args.steps)
    print(f"{path}  {args.steps} x {args.steps} images, the data in the corners")
    return 0
