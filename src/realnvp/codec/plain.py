"""A lossless code without a flow, for the first images and those that the flow cannot code."""

from __future__ import annotations

import lzma

import numpy as np
import torch
from torch import Tensor

__all__ = ["pack_plain", "unpack_plain"]

FILTERS = 3
"""Filters: none, minus the pixel above, or minus the one on the left, as in PNG."""

LZMA = [{"id": lzma.FILTER_LZMA1, "preset": 6, "dict_size": 1 << 16, "pb": 0}]
"""Settings of the code, which has no header; part of the format."""


def pack_plain(x: Tensor, levels: int) -> bytes:
    """Return images ``(B, C, H, W)`` by LZMA, after the filter that makes them smallest.

    >>> len(pack_plain(torch.zeros(9, 1, 8, 8, dtype=torch.int64), 256)) < 50
    True
    """
    pixels = x.numpy().astype(np.int64)
    packed = []
    for kind in range(FILTERS):
        residual = pixels
        if kind:
            residual = np.diff(pixels, axis=1 + kind, prepend=0) % levels
        content = residual.astype(_dtype(levels)).tobytes()
        packed.append(bytes([kind]) + lzma.compress(content, lzma.FORMAT_RAW, filters=LZMA))
    return min(packed, key=len)


def unpack_plain(data: bytes, shape: tuple[int, ...], levels: int) -> Tensor:
    """Invert :func:`pack_plain`; memory is bounded by the shape.

    Raises:
        ValueError: if the data are not of images of this shape.
    """
    kind = data[0] if data else FILTERS
    dtype = _dtype(levels)
    size = int(np.prod(shape)) * dtype.itemsize
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=LZMA)
        raw = decoder.decompress(data[1:], size + 1)
    except lzma.LZMAError as error:
        raise ValueError("its plain images are damaged") from error
    if kind >= FILTERS or len(raw) != size:
        raise ValueError("its plain images are damaged")
    x = np.frombuffer(raw, dtype).reshape(shape).astype(np.int64)
    if kind:
        x = np.cumsum(x, axis=1 + kind) % levels
    return torch.from_numpy(x)


def _dtype(levels: int) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    return np.dtype("u1") if levels <= 256 else np.dtype("<u2")
