"""A plain lossless code, for images that come first and those that a flow cannot code."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from realnvp.codec.mixing import MAX_MIXED, mix, unmix

__all__ = ["deflate", "pack_plain", "unpack_plain"]

FILTERS = 3
"""Pixels as they are, less the one above, or less the one at the left, as in PNG."""

MIXED = FILTERS
"""The first byte of data of :func:`realnvp.codec.mixing.mix`; below it is a filter."""


def pack_plain(x: Tensor, levels: int) -> bytes:
    """Return images ``(B, C, H, W)`` by the code that makes fewer bytes of them.

    >>> len(pack_plain(torch.zeros(9, 1, 8, 8, dtype=torch.int64), 256)) < 50
    True
    """
    packed = deflate(x, levels)
    if x.numel() > MAX_MIXED:
        return packed
    return min(packed, bytes([MIXED]) + mix(x.numpy().astype(np.int64), levels), key=len)


def deflate(x: Tensor, levels: int) -> bytes:
    """Return images by the best of a few filters, and DEFLATE (RFC 1951), which takes no time."""
    pixels = x.numpy().astype(np.int64)
    packed = []
    for kind in range(FILTERS):
        residual = pixels.copy()
        if kind:
            axis = 2 if kind == 1 else 3
            residual = np.diff(pixels, axis=axis, prepend=0) % levels
        coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
        packed.append(bytes([kind]) + coder.compress(_bytes(residual, levels)) + coder.flush())
    return min(packed, key=len)


def unpack_plain(data: bytes, shape: tuple[int, ...], levels: int) -> Tensor:
    """Invert :func:`pack_plain`; memory is bounded by the shape.

    Raises:
        ValueError: if the data are not of images of this shape.
    """
    if not data or data[0] > MIXED:
        raise ValueError("its plain images are damaged")
    if data[0] == MIXED:
        if np.prod(shape) > MAX_MIXED:
            raise ValueError("its plain images are damaged")
        return torch.from_numpy(unmix(data[1:], shape, levels))
    dtype = _dtype(levels)
    size = int(np.prod(shape)) * dtype.itemsize
    try:
        raw = zlib.decompressobj(-15).decompress(data[1:], size + 1)
    except zlib.error as error:
        raise ValueError("its plain images are damaged") from error
    if len(raw) != size:
        raise ValueError("its plain images are damaged")
    x = np.frombuffer(raw, dtype).reshape(shape).astype(np.int64)
    if data[0]:
        x = np.cumsum(x, axis=1 + data[0]) % levels
    return torch.from_numpy(x)


def _dtype(levels: int) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    return np.dtype("u1") if levels <= 256 else np.dtype("<u2")


def _bytes(x: np.ndarray, levels: int) -> bytes:
    return x.astype(_dtype(levels)).tobytes()
