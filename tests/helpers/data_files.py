"""Small files of every format, made for the tests of `realnvp.data`."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from realnvp.config import DataConfig
from realnvp.data import Dataset, Split, load_data, load_examples
from realnvp.data.tables import KnownColumns

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 8, 6), dtype=np.uint8)
RGB = RNG.integers(0, 256, (12, 8, 6, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3
TABLE = RNG.normal(size=(12, 3))


def load(source: object, **settings) -> Dataset:
    return load_data(DataConfig(str(source), **settings))


def examples(source: object, *, settings: dict | None = None, **model) -> Split:
    """Load everything in a source, as for a model of these arguments."""
    known = KnownColumns(categories=model.pop("categories", None))
    return load_examples(DataConfig(str(source), **(settings or {})), known, **model)


def refused(source: object, message: str, **settings) -> str:
    """Check that a source is refused in one line that matches, and return that line."""
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load(source, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def save(array: np.ndarray, path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def idx_bytes(array: np.ndarray) -> bytes:
    kind = {"u1": 0x08, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path / "a.npy", array)
    return path / "a.npy"


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path / "a.npz", **arrays)
    return path / "a.npz"


def csv_file(path: Path, text: str) -> Path:
    return write(path / "a.csv", text)


def png16(path: Path) -> Path:
    """Write a color PNG of 16 bits per channel, which Pillow reads as 8 bits and cannot write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(7))) + chunk(b"IEND", b"")
    return write(path, b"\x89PNG\r\n\x1a\n" + header + body)


def tiff16(path: Path) -> Path:
    """Write a color TIFF of 16 bits per channel, with one pixel; see `png16`."""
    values, size = struct.pack("<3H", 1000, 2000, 3000), 3
    tags = {256: 1, 257: 1, 258: 14, 259: 1, 262: 2, 273: 8, 277: size, 278: 1, 279: len(values)}
    entries = b"".join(
        struct.pack("<HHII", tag, 3, size if tag == 258 else 1, value)
        for tag, value in tags.items()
    )
    bits = struct.pack("<3H", 16, 16, 16)
    folder = struct.pack("<H", len(tags)) + entries + bytes(4)
    return write(path, b"II*\0" + struct.pack("<I", 20) + values + bits + folder)


def mnist_folder(folder: Path, compress: bool) -> torch.Tensor:
    for part, images, labels in (("train", GREY, LABELS), ("t10k", GREY[::-1], LABELS[::-1])):
        for name, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            content = idx_bytes(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if compress else ''}"
            write(path, gzip.compress(content) if compress else content)
    return torch.from_numpy(GREY[:, None].copy())


def celeba_folder(root: Path) -> None:
    codes = [0, 0, 1, 2, 0]
    for i in range(len(codes)):
        image = np.full((218, 178, 3), 40 * i, np.uint8)
        image[:35] = image[-35:] = image[:, :15] = image[:, -15:] = 255  # what the crop takes off
        save(image, root / f"celeba/img_align_celeba/{i:06d}.jpg", quality=95)
    listed = "".join(f"{i:06d}.jpg {code}\n" for i, code in enumerate(codes))
    write(root / "celeba/list_eval_partition.txt", listed)


def rows(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


def check_split(data: Dataset, everything: torch.Tensor) -> None:
    """Check that the parts share no example, and together are everything."""
    parts = [rows(s.x) for s in (data.train, data.validation, data.test) if s is not None]
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == len(everything)
    assert set().union(*parts) == rows(everything)
