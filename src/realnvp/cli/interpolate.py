"""``realnvp interpolate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from realnvp.cli.options import add_count, output_path, picture_parser
from realnvp.cli.shared import existing_file, read_image_model, read_picture, tell

if TYPE_CHECKING:
    import torch

    from realnvp.flow import Flow

EPILOG = """examples:
  realnvp interpolate runs/digits
  realnvp interpolate runs/digits --seed 3 --steps 12 --out between.png
  realnvp interpolate runs/photos me.jpg you.jpg                a row from one to the other
  realnvp interpolate mnist one.png two.png --out walk.gif      an animation
"""


def main(argv: list[str]) -> int:
    """Draw the square of images between four (paper, section 4.2), or a path through some."""
    parser = picture_parser(
        "interpolate",
        "Interpolate between the latents of images: your own, or four of the data's.",
        EPILOG,
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="files of two images or more, which are cropped and resized to the model's size;\n"
        "light strokes on black for mnist (default: four of the data's images)",
    )
    add_count(parser, "--steps", 8, "images along each side, or from one image to the next")
    args = parser.parse_args(argv)
    path = output_path(args, ".png", ".gif", ".webp")

    import torch

    from realnvp.latents import interpolate, walk
    from realnvp.utils.tiles import image_grid, tiles

    if args.images:
        flow, x = _own_images(args)
        condition, generator = None, torch.Generator(flow.device).manual_seed(args.seed)
    else:
        flow, x, condition, generator = read_picture(args, 4)
    levels = flow.levels or 256
    if path.suffix == ".png" and len(x) == 4:
        images = interpolate(flow, x, args.steps, condition, generator)
        image_grid(images, path, levels=levels, columns=args.steps)
        text = f"{path}  {args.steps} x {args.steps} images, {_source(args)} in the corners"
        return tell(args, {"out": str(path), "images": len(images)}, text)
    images = walk(flow, x, args.steps, condition, generator)
    if path.suffix == ".png":
        image_grid(images, path, levels=levels, columns=len(images))
    else:
        from realnvp.plots import save_animation

        frames = [tiles(one[None], levels=levels, border=0, width=300) for one in images]
        save_animation(frames, path)
    text = f"{path}  {len(images)} images, from one to the next of {len(x)} of {_source(args)}"
    return tell(args, {"out": str(path), "images": len(images)}, text)


def _own_images(args: Any) -> tuple[Flow, torch.Tensor]:
    """Return the model, and the images of the arguments in the form that it takes."""
    import torch

    from realnvp.data.images import fit_image
    from realnvp.utils.progress import inform

    if len(args.images) < 2:
        raise ValueError("interpolation needs two images or more, got one")
    if args.data is not None or args.split is not None:
        raise ValueError("give either files of images, or --data and --split")
    # Pictures unlike the training data are stretched further than float32 resolves.
    flow = read_image_model(args).double()
    assert flow.levels is not None
    parts = []
    for name in args.images:
        image, changes = fit_image(existing_file(name), flow.shape, flow.levels)
        inform(changes)
        parts.append(image)
    return flow, torch.cat(parts).to(flow.device)


def _source(args: Any) -> str:
    return "your images" if args.images else "the data"
