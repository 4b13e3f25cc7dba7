"""``realnvp interpolate``."""

from __future__ import annotations

from realnvp.cli.options import add_count, output_path, picture_parser
from realnvp.cli.shared import print_json, read_picture

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
    from realnvp.utils.files import replacing
    from realnvp.utils.tiles import image_grid

    flow, x, condition, generator = read_picture(args, 4)
    images = interpolate(flow, x, args.steps, condition, generator)
    with replacing(path) as temporary:
        image_grid(images, temporary, levels=flow.levels or 256, columns=args.steps)
    if args.json:
        print_json({"out": str(path), "images": len(images)})
    else:
        print(f"{path}  {args.steps} x {args.steps} images, the data in the corners")
    return 0
