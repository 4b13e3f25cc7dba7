"""``realnvp interpolate``."""

from __future__ import annotations

from realnvp.cli.options import add_count, output_path, picture_parser
from realnvp.cli.shared import read_picture, tell

__all__ = []

EPILOG = """examples:
  realnvp interpolate runs/digits
  realnvp interpolate runs/digits --seed 3 --steps 12 --out between.png
"""


def main(argv: list[str]) -> int:
    """Draw the square of images between four of the data (paper, section 4.2)."""
    parser = picture_parser(
        "interpolate", "Interpolate between the latents of four of the data's images.", EPILOG
    )
    add_count(parser, "--steps", 8, "images along each side")
    args = parser.parse_args(argv)
    path = output_path(args, ".png")

    from realnvp.latents import interpolate
    from realnvp.utils.tiles import image_grid

    flow, x, condition, generator = read_picture(args, 4)
    images = interpolate(flow, x, args.steps, condition, generator)
    image_grid(images, path, levels=flow.levels or 256, columns=args.steps)
    text = f"{path}  {args.steps} x {args.steps} images, the data in the corners"
    return tell(args, {"out": str(path), "images": len(images)}, text)
