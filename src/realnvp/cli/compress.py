"""``realnvp compress``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from realnvp.cli.options import (
    Parser,
    add_count,
    add_data,
    add_model,
    add_out,
    add_seed,
    output_path,
)
from realnvp.cli.shared import examples, read_model, row_names, tell

EPILOG = """examples:
  realnvp compress mnist --data mnist --out mnist.nvp
  realnvp compress runs/photos --data photos/ --out photos.nvp    keeps the names, but for .png
  realnvp compress digits --data digits --out digits.nvp --portable

realnvp decompress FILE restores every pixel as the model receives it: images that are cropped or
resized for the model are stored that way, with a warning. See docs/compression.md.
"""


def main(argv: list[str]) -> int:
    """Write images to a file about as small as their bits/dim."""
    args = _parser().parse_args(argv)
    path = output_path(args, ".nvp")

    import torch

    from realnvp.codec import compress
    from realnvp.evaluation import log_likelihoods
    from realnvp.utils.files import write_atomically
    from realnvp.utils.progress import Bar, warn

    flow = read_model(args, torch.device("cpu"))
    if flow.levels is None:
        raise ValueError(f"{args.model} is a model of vectors, and only images can be compressed")
    split, name = examples(flow, args)
    if flow.condition_dim and flow.classes is None and split.condition is None:
        raise ValueError(
            f"{args.model} is a conditional model, and the data have no conditions: give a .npz "
            "array with x and y"
        )
    source = args.data or name.rpartition(" (")[0]
    names = row_names(source, split).get("image", [])
    changed = _count_changed(Path(source).expanduser(), names, flow.shape)
    if changed:
        _, height, width = flow.shape
        warn(
            f"{changed:,} of {len(names):,} images were cropped, resized or converted to the "
            f"{width}x{height} pixels of the model: the file restores these, so keep the originals"
        )
    started = time.monotonic()
    with Bar("compressing", visible=not args.json) as bar:
        content = compress(
            flow,
            split.x[:],  # all of it, where it is in files
            split.condition,
            names=names,
            model=args.model if flow.origin == "shipped" else "",
            verify=not args.no_verify,
            portable=args.portable,
            batch=args.batch_size,
            progress=bar.adding(len(split)),
        )
    seconds = time.monotonic() - started
    write_atomically(path, content)
    with Bar("evaluating", visible=not args.json) as bar:
        log_p = log_likelihoods(flow, split, seed=args.seed, progress=bar.count)
    result = {
        "out": str(path),
        "images": len(split),
        "bytes": len(content),
        "bits_per_dim": 8 * len(content) / split.x.numel(),
        "model_bits_per_dim": -log_p.mean().item() * flow.unit[0],
        "seconds": seconds,
    }
    return tell(
        args,
        result,
        f"{path}  {len(split):,} images in {len(content):,} bytes: "
        f"{result['bits_per_dim']:.4f} bits/dim (the model: {result['model_bits_per_dim']:.4f})",
    )


def _parser() -> Parser:
    parser = Parser(
        "compress",
        "Compress images without loss to about their bits/dim under a model. Every group of\n"
        "images is decoded and compared; images that differ are stored without the model.",
        EPILOG,
    )
    add_model(parser)
    add_data(parser)
    add_out(parser, "images.nvp", "the file to write")
    add_count(
        parser,
        "--batch-size",
        None,
        "largest number of images per batch (default: 1 to 256, by their size)",
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="compute in float64, which takes longer, so that other processors decompress the file",
    )
    parser.add_argument("--no-verify", action="store_true", help="do not decode and compare")
    add_seed(parser, "the noise of the model's bits/dim")
    return parser


def _count_changed(folder: Path, names: Sequence[str], shape: tuple[int, ...]) -> int:
    """Return how many image files hold other pixels than a model of this image shape receives."""
    from PIL import Image

    count = 0
    for name in names:
        with Image.open(folder / name) as image:  # the header only
            # By a quarter; the size of a TIFF file is that of the turned image already.
            turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) >= 5
            size = image.size if turned else image.size[::-1]
            exact = ("1", "L") if shape[0] == 1 else ("1", "L", "P", "RGB")
            count += size != shape[1:] or image.mode not in exact or "transparency" in image.info
    return count
