"""Sizes of compressed images beside the model's bits/dim and other lossless codecs.

    python benchmarks/codec.py --count 1000 64 --mnist mnist.npz --fashion-root FOLDER

Images are those that the shipped models were not trained on: the official test images, or where
there are none, the part that was held out and looked at once. Writes benchmarks/results/codec.md.
"""

from __future__ import annotations

import argparse
import io
import lzma
import math
import time

import numpy as np
import torch
from PIL import Image

import realnvp
from common import table, write
from realnvp.codec import compress, decompress
from realnvp.config import DataConfig
from realnvp.data import load_part
from realnvp.pretrained import shipped_names

TEXT = """`make bench BENCHES=codec`: bits per value of images that the models were not trained on,
headers included; every image came back. MB of raw pixels are per second of one core; what goes in
is also decoded, to verify it. *Model* is one draw of the noise. Other codecs: PNG optimized, WebP
of method 6, JPEG XL of effort 9, xz -9e; *tiled* is all images in one, *single* each by itself."""


def held_out(name: str, source: str, root: str | None, count: int) -> torch.Tensor:
    """Return the first of the images that the shipped model did not train on."""
    flow = realnvp.load(name)
    known = flow.trained_on["data"]
    config = DataConfig(**{**known, "source": source, **({"root": root} if root else {})})
    _, split = load_part(config, None, None)
    return split.x[:count]


def encoded(image: Image.Image, kind: str) -> int:
    """Return the bytes of an image in a lossless format."""
    buffer = io.BytesIO()
    options = {
        "PNG": {"optimize": True},
        "WEBP": {"lossless": True, "quality": 100, "method": 6},
        "JXL": {"lossless": True, "effort": 9},
    }[kind]
    image.save(buffer, kind, **options)
    return buffer.tell()


def others(x: np.ndarray) -> dict[str, float]:
    """Return bits/dim of other codecs, of single images and of all in one tiled image."""
    n, channels, height, width = x.shape
    columns = math.ceil(math.sqrt(n))
    padded = np.zeros((columns * math.ceil(n / columns), channels, height, width), np.uint8)
    padded[:n] = x
    tiled = padded.reshape(-1, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    tiled = tiled.reshape(-1, columns * width, channels)
    pictures = {"tiled": [tiled], "single": list(x.transpose(0, 2, 3, 1))}
    sizes = {"xz": len(lzma.compress(x.tobytes(), preset=9 | lzma.PRESET_EXTREME))}
    kinds = {"PNG": "PNG", "WebP": "WEBP"}
    try:
        import pillow_jxl  # noqa: F401

        kinds["JPEG XL"] = "JXL"
    except ImportError:
        pass
    for title, kind in kinds.items():
        for how, arrays in pictures.items():
            images = [Image.fromarray(a[..., 0] if channels == 1 else a) for a in arrays]
            sizes[f"{title}, {how}"] = sum(encoded(image, kind) for image in images)
    return {key: 8 * size / x.size for key, size in sizes.items()}


def measure(name: str, x: torch.Tensor, verify: bool) -> dict[str, float]:
    """Compress and decompress images by a shipped model; they must come back."""
    flow = realnvp.load(name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model = torch.cat([flow.bits_per_dim(part, None, generator) for part in x.split(50)])
    started = time.process_time()
    data = compress(flow, x, model=name, verify=verify)
    middle = time.process_time()
    if not torch.equal(decompress(flow, data), x):
        raise AssertionError(f"{name}: images did not come back")
    end = time.process_time()
    size = 8 * len(data) / x.numel()
    row = {"file": size, "model": model.mean().item(), "ratio": size / model.mean().item()}
    row["MB/s in"] = x.numel() / 1e6 / (middle - started)
    row["MB/s out"] = x.numel() / 1e6 / (end - middle)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, nargs="+", default=[1000, 64])
    parser.add_argument(
        "--sets", nargs="+", default=["digits", "mnist", "fashion-mnist", "cifar10"]
    )
    parser.add_argument("--mnist", default="mnist", help="where MNIST is")
    parser.add_argument("--fashion-root", help="folder of Fashion-MNIST")
    parser.add_argument("--no-verify", action="store_true", help="do not decode while compressing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = {"digits": "digits", "mnist": args.mnist, "fashion-mnist": "fashion-mnist"}
    rows: list[dict[str, str]] = []
    skipped = ""
    for name in args.sets:
        if name not in shipped_names():
            skipped += f"\n\n{name}: skipped, since no model of it comes with the package."
            continue
        root = args.fashion_root if name == "fashion-mnist" else None
        for count in args.count:
            x = held_out(name, source.get(name, name), root, count)
            row = measure(name, x, not args.no_verify)
            sizes = {key: f"{value:.3f}" for key, value in others(x.numpy()).items()}
            shown = {key: f"{value:.4f}" for key, value in row.items()}
            rows.append({"set": name, "images": f"{len(x):,}", **shown, **sizes})
            columns = list(rows[0])
            cells = [[r.get(column, "") for column in columns] for r in rows]
            write("codec", "Lossless compression", TEXT, table(columns, cells) + skipped)


if __name__ == "__main__":
    main()
