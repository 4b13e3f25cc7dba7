"""``realnvp levels``."""

from __future__ import annotations

from realnvp.cli.options import add_count, output_path, picture_parser
from realnvp.cli.shared import read_picture, tell

EPILOG = """examples:
  realnvp levels runs/digits
  realnvp levels runs/mnist --n 16 --out levels.png
"""


def main(argv: list[str]) -> int:
    """Draw images with more and more of their latents resampled (paper, appendix D)."""
    parser = picture_parser(
        "levels", "Show what each scale holds: images with their finer latents resampled.", EPILOG
    )
    add_count(parser, "--n", 10, "images")
    args = parser.parse_args(argv)
    path = output_path(args, ".png")

    from realnvp.latents import levels
    from realnvp.utils.tiles import image_grid

    flow, x, condition, generator = read_picture(args, args.n)
    rows = levels(flow, x, condition, generator)
    image_grid(rows.flatten(0, 1), path, levels=flow.levels or 256, columns=len(x))
    kept = "the data, then fewer scales kept, down to the coarsest alone"
    result = {"out": str(path), "images": len(x), "scales": len(rows)}
    return tell(args, result, f"{path}  {len(rows)} rows: {kept}")
