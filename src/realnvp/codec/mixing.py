"""Context mixing: a small lossless code for a few images, without a model.

The first images of a file have to be coded before the flow can be used, and their bytes matter most
in small files. So they are worth some computing time: each bit of a pixel is predicted by several
contexts of its neighbors, whose adaptive probabilities are mixed by weights that learn along the
way (Mahoney, Adaptive weighing of context models for lossless data compression, 2005), and goes to
an arithmetic coder. All numbers are integers, so every machine computes the same. The predictor may
have learned from other images before.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_MIXED", "Predictor", "mix", "primed", "unmix"]

MAX_MIXED = 1 << 14
"""Largest number of values that are coded in this way: each bit takes about 5 microseconds."""

SQUASH = (
    1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047, 2549, 2994, 3348,
    3607, 3785, 3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094,
)  # fmt: skip
"""4096 times the logistic function, at multiples of 1/2 from -8 to 8."""

CONTEXTS = 8
TABLE_BITS = 16
"""Number of probabilities of each context, which different neighborhoods may share."""

LIMIT = 30
"""Approximate number of bits over which a probability is averaged, with more weight on the
latest."""

RATE = 2
"""Learning rate of the weights, in units of 2^-10."""


def _squash(x: int) -> int:
    """Return 4096 times the logistic function of ``x / 256``."""
    x = max(-2047, min(2047, x)) + 2048
    return (SQUASH[x >> 7] * (128 - (x & 127)) + SQUASH[(x >> 7) + 1] * (x & 127) + 64) >> 7


def _stretches() -> list[int]:
    """Return the inverse of :func:`_squash` for 0 to 4095."""
    table, x = [], -2047
    for p in range(4096):
        while x < 2047 and _squash(x) < p:
            x += 1
        table.append(x)
    return table


STRETCH = _stretches()


class Predictor:
    """Probabilities of bits, which learn from each bit."""

    def __init__(self) -> None:
        self._p = [array("H", [1 << 15]) * (1 << TABLE_BITS) for _ in range(CONTEXTS)]
        self._seen = [bytearray(1 << TABLE_BITS) for _ in range(CONTEXTS)]
        self._weights: dict[int, list[int]] = {}
        self._slots: list[int] = []
        self._inputs: list[int] = []
        self._mixer: list[int] = []
        self._output = 0

    def predict(self, contexts: tuple[int, ...], node: int, mixer: int) -> int:
        """Return 4096 times the probability that the next bit is 1: 1 to 4095."""
        mask = (1 << TABLE_BITS) - 1
        self._slots = slots = [
            ((context + node * 0x2F0B4C47) * 0x9E3779B1 >> 13) & mask for context in contexts
        ]
        self._inputs = inputs = [
            STRETCH[p[slot] >> 4] if seen[slot] else 0
            for p, seen, slot in zip(self._p, self._seen, slots, strict=True)
        ]
        self._mixer = self._weights.setdefault(mixer, [23000] * CONTEXTS)
        total = sum(w * x for w, x in zip(self._mixer, inputs, strict=True))
        self._output = _squash(total >> 16)
        return self._output

    def learn(self, bit: int) -> None:
        """Update with the bit that was predicted last."""
        error = ((bit << 12) - self._output) * RATE
        for i, (x, slot) in enumerate(zip(self._inputs, self._slots, strict=True)):
            self._mixer[i] += (x * error + 512) >> 10
            p, seen = self._p[i], self._seen[i]
            count = seen[slot] = min(seen[slot] + 1, LIMIT)
            p[slot] += ((65535 if bit else 0) - p[slot]) * 5 // (5 * count + 3)


class _Encoder:
    """An arithmetic coder of bits (of 32 bits, without carries)."""

    def __init__(self) -> None:
        self._low, self._high = 0, 0xFFFFFFFF
        self._out = bytearray()

    def code(self, p: int, bit: int) -> int:
        """Code a bit that is 1 with probability ``p / 4096``."""
        middle = self._low + ((self._high - self._low) * p >> 12)
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        while not (self._low ^ self._high) >> 24:
            self._out.append(self._high >> 24)
            self._low, self._high = (
                (self._low << 8) & 0xFFFFFFFF,
                (self._high << 8 & 0xFFFFFFFF) | 255,
            )
        return bit

    def finish(self) -> bytes:
        """Return the bytes; the decoder reads zeros after them."""
        for size in range(5):  # the shortest number of the interval
            unit = 1 << (32 - 8 * size)
            value = -(-self._low // unit) * unit
            if value <= self._high:
                return bytes(self._out) + value.to_bytes(4, "big")[:size]
        raise AssertionError("four bytes are enough")


class _Decoder:
    """Decoder of the bits that an encoder wrote."""

    def __init__(self, data: bytes) -> None:
        self._low, self._high = 0, 0xFFFFFFFF
        self._data, self._place = data, 4
        self._value = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def code(self, p: int, _: int) -> int:
        """Return the next bit, which is 1 with probability ``p / 4096``."""
        middle = self._low + ((self._high - self._low) * p >> 12)
        bit = int(self._value <= middle)
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        while not (self._low ^ self._high) >> 24:
            byte = self._data[self._place] if self._place < len(self._data) else 0
            self._place += 1
            self._value = (self._value << 8 & 0xFFFFFFFF) | byte
            self._low, self._high = (
                (self._low << 8) & 0xFFFFFFFF,
                (self._high << 8 & 0xFFFFFFFF) | 255,
            )
        return bit


class _NoCoder:
    """Feeds known bits to the predictor, which learns from them."""

    def code(self, _: int, bit: int) -> int:
        """Return the bit."""
        return bit


def primed(x: NDArray[np.int64], levels: int) -> Predictor:
    """Return probabilities that have learned from images ``(B, C, H, W)``."""
    predictor = Predictor()
    for _ in _walk(x.tolist(), _NoCoder(), levels, predictor):
        pass
    return predictor


def mix(x: NDArray[np.int64], levels: int, predictor: Predictor | None = None) -> bytes:
    """Return images ``(B, C, H, W)``, of at most :data:`MAX_MIXED` values, as bytes.

    Args:
        x: images.
        levels: number of grey levels.
        predictor: result of :func:`primed`; it is not changed.

    >>> x = np.arange(64).reshape(1, 1, 8, 8)
    >>> bool((unmix(mix(x, 64), x.shape, 64) == x).all())
    True
    >>> len(mix(x, 64)) > len(mix(x, 64, primed(x, 64)))
    True
    """
    coder = _Encoder()
    for _ in _walk(x.tolist(), coder, levels, copy.deepcopy(predictor) or Predictor()):
        pass
    return coder.finish()


def unmix(
    data: bytes, shape: tuple[int, ...], levels: int, predictor: Predictor | None = None
) -> NDArray[np.int64]:
    """Invert :func:`mix`.

    Raises:
        ValueError: if there is a value that is not below ``levels``.
    """
    images = np.zeros(shape, np.int64).tolist()
    learned = copy.deepcopy(predictor) or Predictor()
    for value in _walk(images, _Decoder(data), levels, learned):
        if value >= levels:
            raise ValueError("its plain images are damaged")
    return np.array(images, np.int64).reshape(shape)


def _walk(
    images: list[list[list[list[int]]]],
    coder: _Encoder | _Decoder | _NoCoder,
    levels: int,
    predictor: Predictor,
) -> Iterator[int]:
    """Code every value of images, which a decoder fills in, and yield it."""
    bits = (levels - 1).bit_length()
    coarse = max(bits - 3, 0)
    for image in images:
        for c, plane in enumerate(image):
            for y, row in enumerate(plane):
                above = plane[y - 1] if y else [0] * len(row)
                second = plane[y - 2] if y > 1 else [0] * len(row)
                for i in range(len(row)):
                    w, ww = row[i - 1] if i else 0, row[i - 2] if i > 1 else 0
                    n, nn, nw = above[i], second[i], above[i - 1] if i else 0
                    ne = above[i + 1] if i + 1 < len(row) else 0
                    other = image[c - 1][y][i] >> coarse if c else 0
                    plane_of = max(0, min(levels - 1, w + n - nw))
                    contexts = (
                        _key(1, c, w >> coarse, n >> coarse),
                        _key(2, c, w >> 1, other),
                        _key(3, c, n >> 1, 0),
                        _key(4, c, (w + n) >> 2, ne >> coarse),
                        _key(5, c, plane_of >> 1, other),
                        _key(
                            _key(6, c, w >> coarse + 1, n >> coarse + 1),
                            ne >> coarse + 1,
                            nw >> coarse + 1,
                            (ww >> coarse + 2) << 2 | nn >> coarse + 2,
                        ),
                        _key(7, c, y << 16 | i, w >> coarse),
                        _key(8, c, y << 16 | i, (n >> coarse) << 4 | w >> coarse),
                    )
                    zeros = (not w) | (not n) << 1 | (not ne) << 2 | (not nw) << 3
                    node = 1
                    for place in range(bits - 1, -1, -1):
                        mixer = zeros << 1 | (node > 1)
                        bit = row[i] >> place & 1
                        bit = coder.code(predictor.predict(contexts, node, mixer), bit)
                        predictor.learn(bit)
                        node = node << 1 | bit
                    row[i] = node - (1 << bits)
                    yield row[i]


def _key(a: int, b: int, c: int, d: int) -> int:
    """Return a hash of four small numbers."""
    return (((a * 0x2C1B3C6D + b) * 0x297A2D39 + c) * 0x1B56C4E9 + d) * 0x9E3779B1 & 0xFFFFFFFF
