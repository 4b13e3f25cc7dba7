"""Sizes of compressed images beside the model's bits/dim and other lossless codecs.

    python benchmarks/codec.py [NAME[=SOURCE] ...] [--count 1000 64]

NAME is a shipped model, and SOURCE a file of its data, or the folder of a named set; without, they
are read, or downloaded, by name. Images are those that the model was not trained on: the official
test images, or where there are none, the part that was held out to be looked at once. Results are
kept in CACHE, so that sets may be run one by one. Writes benchmarks/results/codec.md.
"""

from __future__ import annotations

import argparse
import io
import lzma
import math
import sys
import time

import numpy as np
import torch
from PIL import Image

import realnvp
from common import Cache, held_out, table, write
from realnvp.codec import compress, decompress, fingerprint
from realnvp.pretrained import shipped_names

SETS = ("digits", "mnist", "fashion-mnist", "cifar10")

TEXT = """`make bench BENCHES=codec`: bits per value of images that the models were not trained on,
headers included; every image came back. MB of raw pixels are per second of one core; what goes in
is also decoded, to verify it. *Model* is one draw of the noise. Other codecs: PNG optimized, WebP
of method 6, JPEG XL of effort 9, xz -9e; *tiled* is all images in one, *single* each by itself."""


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
    parser.add_argument("models", nargs="*", default=list(SETS), metavar="NAME[=SOURCE]")
    parser.add_argument("--count", type=int, nargs="+", default=[1000, 64])
    parser.add_argument("--no-verify", action="store_true", help="do not decode while compressing")
    parser.add_argument("--cache", default="codec.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sources = dict(pair.partition("=")[::2] for pair in args.models)
    cache = Cache(args.cache)
    skipped, rows = {}, []
    for name in dict.fromkeys([*SETS, *sources]):
        if name not in shipped_names():
            skipped[name] = "no model of it comes with the package"
            continue
        model = fingerprint(realnvp.load(name)).hex()
        for count in sorted(args.count):
            key = (name, count, model)
            if key not in cache:
                if name not in sources:
                    continue
                try:
                    x = held_out(name, sources[name], count)
                except (ValueError, OSError, RuntimeError) as error:
                    skipped[name] = str(error).splitlines()[0]
                    continue
                found = measure(name, x, not args.no_verify)
                cache.add(key, {"set": name, "images": len(x), **found, **others(x.numpy())})
            rows.append(cache[key])
            print(rows[-1], file=sys.stderr, flush=True)
    columns = [column for column in max(rows, key=len, default={}) if column != "key"]
    cells = [[shown(row.get(column, "")) for column in columns] for row in rows]
    notes = [f"{name}: skipped, since {why}." for name, why in skipped.items()]
    write("codec", "Lossless compression", TEXT, table(columns, cells), *notes)


def shown(value: object) -> str:
    """Return a cell of the table."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
