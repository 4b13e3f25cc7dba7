"""A lossless code without a flow, for the first images and those that the flow cannot code."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from realnvp.codec.mixing import MAX_MIXED, Predictor, mix, unmix

__all__ = ["deflate", "pack_plain", "unpack_plain"]

FILTERS = 3
"""Filters: none, minus the pixel above, or minus the one on the left, as in PNG."""

MIXED, PRIMED = FILTERS, FILTERS + 1
"""The first byte of data of :func:`realnvp.codec.mixing.mix`, without and with a predictor that has
learned before; below these it is a filter."""


def pack_plain(x: Tensor, levels: int, predictor: Predictor | None = None) -> bytes:
    """Return images ``(B, C, H, W)`` in the code with the fewest bytes.

    Args:
        x: images.
        levels: number of grey levels.
        predictor: predictor that has learned from images that may be similar.

    >>> len(pack_plain(torch.zeros(9, 1, 8, 8, dtype=torch.int64), 256)) < 50
    True
    """
    packed = [deflate(x, levels)]
    if x.numel() <= MAX_MIXED:
        values = x.numpy().astype(np.int64)
        packed.append(bytes([MIXED]) + mix(values, levels))
        if predictor is not None:
            packed.append(bytes([PRIMED]) + mix(values, levels, predictor))
    return min(packed, key=len)


def deflate(x: Tensor, levels: int) -> bytes:
    """Return images by the best of a few filters, and DEFLATE (RFC 1951), which is fast."""
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


def unpack_plain(
    data: bytes, shape: tuple[int, ...], levels: int, predictor: Predictor | None = None
) -> Tensor:
    """Invert :func:`pack_plain`; memory is bounded by the shape.

    Raises:
        ValueError: if the data are not of images of this shape.
    """
    kind = data[0] if data else PRIMED + 1
    learned = predictor if kind == PRIMED else None
    if kind > PRIMED or (kind == PRIMED and learned is None):
        raise ValueError("its plain images are damaged")
    if kind >= MIXED:
        if np.prod(shape) > MAX_MIXED:
            raise ValueError("its plain images are damaged")
        return torch.from_numpy(unmix(data[1:], shape, levels, learned))
    dtype = _dtype(levels)
    size = int(np.prod(shape)) * dtype.itemsize
    try:
        raw = zlib.decompressobj(-15).decompress(data[1:], size + 1)
    except zlib.error as error:
        raise ValueError("its plain images are damaged") from error
    if len(raw) != size:
        raise ValueError("its plain images are damaged")
    x = np.frombuffer(raw, dtype).reshape(shape).astype(np.int64)
    if kind:
        x = np.cumsum(x, axis=1 + kind) % levels
    return torch.from_numpy(x)


def _dtype(levels: int) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    return np.dtype("u1") if levels <= 256 else np.dtype("<u2")


def _bytes(x: np.ndarray, levels: int) -> bytes:
    return x.astype(_dtype(levels)).tobytes()
