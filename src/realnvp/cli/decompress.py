"""``realnvp decompress``."""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from realnvp.cli.options import Parser, add_out, free_path
from realnvp.cli.shared import tell

if TYPE_CHECKING:
    from realnvp.codec import Contents

EPILOG = """examples:
  realnvp decompress mnist.nvp --out mnist.npz
  realnvp decompress photos.nvp --model runs/photos --out photos     PNG files, with their names
"""


def main(argv: list[str]) -> int:
    """Write the images of a compressed file."""
    args = _parser().parse_args(argv)
    path = Path(args.out)
    if path.suffix not in ("", ".npz"):
        raise ValueError(f"--out must be a .npz file or a folder, got {args.out!r}")
    if not (path.is_dir() and not any(path.iterdir())):
        free_path(args, path)
    data = Path(args.file).read_bytes()

    from realnvp.codec import read_contents
    from realnvp.codec.container import read_header
    from realnvp.pretrained import load, shipped_names
    from realnvp.reports.samples import array_names
    from realnvp.utils.progress import Bar

    header, _ = read_header(data)
    model = args.model
    if model is None:
        if header.model not in shipped_names():
            raise ValueError(
                "the file was compressed with a model that does not come with the package: "
                "give it with --model"
            )
        model = header.model
    flow = load(model)
    started = time.monotonic()
    with Bar("decompressing", visible=not args.json) as bar:
        contents = read_contents(flow, data, progress=bar.adding(header.count))
    seconds = time.monotonic() - started
    if path.suffix == ".npz":
        _write_array(path, contents, array_names(flow))
    else:
        _write_folder(path, contents)
    count = len(contents.images)
    result = {"out": str(path), "images": count, "seconds": seconds}
    return tell(args, result, f"{path}  {count:,} images")


def _parser() -> Parser:
    parser = Parser(
        "decompress", "Restore the images of a file written by realnvp compress.", EPILOG
    )
    parser.add_argument("file", metavar="FILE", help="a file written by realnvp compress")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="the model that it was compressed with; not needed for shipped models",
    )
    add_out(
        parser,
        "images.npz",
        "a .npz array, with labels and names; or a folder of PNG files",
    )
    return parser


def _write_array(path: Path, contents: Contents, names: tuple[str, str]) -> None:
    import numpy as np

    from realnvp.utils.files import write_atomically

    images, condition = names
    arrays: dict[str, Any] = {images: contents.images.numpy()}
    if contents.condition is not None:
        arrays[condition] = contents.condition.numpy()
    if contents.names:
        arrays["names"] = np.array(contents.names)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def _write_folder(folder: Path, contents: Contents) -> None:
    """Write a PNG file for each image, in a folder for each class if only labels are known.

    Names that would leave the folder are refused.
    """
    from PIL import Image

    from realnvp.utils.files import write_atomically

    images = contents.images.permute(0, 2, 3, 1).numpy()
    if images.dtype != "uint8" or images.shape[-1] not in (1, 3):
        raise ValueError("PNG files hold only grey and color images of 8 bits: write a .npz file")
    names = contents.names or [f"{index:06d}.png" for index in range(len(images))]
    if contents.condition is not None and not contents.names:
        if contents.condition.ndim > 1:
            raise ValueError("a folder cannot hold the condition vectors: write a .npz file")
        labels = contents.condition.tolist()
        names = [f"{label}/{name}" for label, name in zip(labels, names, strict=True)]
    files = [PurePosixPath(name).with_suffix(".png") for name in names]
    times = Counter(files)  # photo.jpg next to photo.png becomes photo.jpg.png
    files = [
        file if times[file] == 1 else PurePosixPath(f"{name.removesuffix('.png')}.png")
        for file, name in zip(files, names, strict=True)
    ]
    if len(set(files)) != len(files):
        raise ValueError("two images have the same name: write a .npz file")
    for file in files:
        # On Windows, a backslash separates folders, and a colon follows a drive.
        foreign = os.name == "nt" and any(mark in str(file) for mark in "\\:")
        if file.is_absolute() or ".." in file.parts or foreign:
            raise ValueError(
                f"the name {str(file)[:50]!r} leads out of the folder: write a .npz file"
            )
    for file, image in zip(files, images, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG")
        write_atomically(folder / file, buffer.getvalue())
