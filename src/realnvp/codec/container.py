"""The file format: a header, and blocks that can be read independently.

All numbers are little-endian. The header is ``NVP``, the version of the format, what it was made
with, and a CRC-32::

    "NVP" version:u8 fingerprint:6 size:varint texts:size count:varint probe:u16 crc:u32

where the texts are five lines, the model, the versions and the rest of :class:`Header`, as a raw
DEFLATE stream with the dictionary :data:`USUAL`. Each block is::

    marker:2 length:varint crc:u32 | first:varint runs:varint run... size:varint names:size words...

and a run of equal groups ``shape:u8 times:varint``, where the upper half of the shape is the depth
and the lower half the logarithm of the number of images; if that is 15, the number follows as a
varint. Zero bytes at the end of the words are left out. The CRC covers the rest of the block, and
detects damage. Images that are not decoded as they were encoded are detected by a second CRC, of
the images, at the bottom of the block's stack (:mod:`realnvp.codec.blocks`). The marker is checked
as well.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from realnvp.codec.blocks import Block

__all__ = ["Header", "read_blocks", "read_header", "write_block", "write_header"]

MAGIC = b"NVP"
VERSION = 4
MARKER = b"\xf5\xb1"
FINGERPRINT = 6
PORTABLE = "portable"

USUAL = b"""DEFAULT
AVX2
cifar10
fashion-mnist
mnist
digits
2.13.0+cpu
AVX512
0.5.0
"""
"""Texts that headers are likely to have; part of the format."""

MAX_BLOCK = 1 << 16
"""Most images of a block."""

MAX_VALUES = 1 << 28
"""Most pixel values of a block: the memory that a file may ask for."""

MAX_TEXT = 64

MAX_NAME = 1024
"""Most bytes of the name of an image, with the line's end."""

ANY_SIZE = 15
"""Replaces the logarithm of the number of images of a group if it is not a power of two."""


@dataclass(frozen=True)
class Header:
    """The header of a file: model, versions, and number of images.

    Args:
        fingerprint: 6 bytes that name the model.
        model: its name, if it comes with the package; else empty.
        torch: version of PyTorch.
        processor: vector instructions that it used.
        constriction: version of the entropy coder.
        count: number of images.
        probe: 16 bits of a probe of the arithmetic; see :mod:`realnvp.codec.files`.
        portable: networks computed in float64.
    """

    fingerprint: bytes
    model: str
    torch: str
    processor: str
    constriction: str
    count: int
    probe: int
    portable: bool


def write_header(header: Header) -> bytes:
    """Return the header's bytes.

    >>> made = Header(b"123456", "mnist", "2.9.0", "AVX2", "0.4.1", 1000, 7, False)
    >>> read_header(write_header(made))[0] == made
    True
    """
    lines = (header.model, header.torch, header.processor, header.constriction)
    texts = "\n".join([line[:MAX_TEXT] for line in lines] + [PORTABLE if header.portable else ""])
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=USUAL)
    packed = coder.compress(texts.encode()) + coder.flush()
    body = MAGIC + bytes([VERSION]) + header.fingerprint + _varint(len(packed)) + packed
    body += _varint(header.count) + struct.pack("<H", header.probe)
    return body + struct.pack("<I", zlib.crc32(body))


def read_header(data: bytes) -> tuple[Header, int]:
    """Return the header, and where the blocks begin.

    Raises:
        ValueError: if it is not such a file, or damaged.
    """
    if data[:3] != MAGIC:
        raise ValueError("this is not a file written by realnvp compress")
    if len(data) > 3 and data[3] != VERSION:
        raise ValueError(
            f"the file has version {data[3]} of the format, and this realnvp reads version "
            f"{VERSION}: use the version that wrote it"
        )
    reader = _Reader(data, 4)
    try:
        fingerprint = reader.take(FINGERPRINT)
        packed = reader.take(reader.varint())
        count = reader.varint()
        (probe,) = struct.unpack("<H", reader.take(2))
        end = reader.place
        (crc,) = struct.unpack("<I", reader.take(4))
    except EOFError as error:
        raise ValueError("the header of the file is damaged or cut off") from error
    if crc != zlib.crc32(data[:end]):
        raise ValueError("the header of the file is damaged")
    try:
        texts = zlib.decompressobj(-15, zdict=USUAL).decompress(packed, 8 * MAX_TEXT * 4)
        model, made_by, processor, coder, portable = texts.decode().split("\n")
    except (zlib.error, ValueError) as error:
        raise ValueError("the header of the file is invalid") from error
    header = Header(
        fingerprint, model, made_by, processor, coder, count, probe, portable == PORTABLE
    )
    return header, reader.place


def write_block(block: Block) -> bytes:
    """Return a block's bytes."""
    runs = [(depth, n, len(list(same))) for (depth, n), same in itertools.groupby(block.groups)]
    body = _varint(block.first) + _varint(len(runs))
    for depth, size, times in runs:
        power = size.bit_length() - 1
        simple = size == 1 << power and power < ANY_SIZE
        body += bytes([depth << 4 | (power if simple else ANY_SIZE)])
        body += (b"" if simple else _varint(size)) + _varint(times)
    text = "\n".join(block.names).encode(errors="surrogateescape")  # a file may have any name
    names = zlib.compress(text, 9) if block.names else b""
    body += _varint(len(names)) + names
    body += block.words.astype("<u4").tobytes().rstrip(b"\0")
    framed = MARKER + _varint(len(body))
    return framed + struct.pack("<I", zlib.crc32(framed + body)) + body


def read_blocks(data: bytes, start: int, dim: int) -> Iterator[Block]:
    """Yield the blocks.

    Args:
        data: the file.
        start: where the blocks begin.
        dim: number of values of an image, which bounds what a block may ask for.

    Raises:
        ValueError: if a block is damaged.
    """
    reader = _Reader(data, start)
    while reader.place < len(data):
        begin = reader.place
        try:
            marker = reader.take(len(MARKER))
            length = reader.varint()
            framed = data[begin : reader.place]
            (crc,) = struct.unpack("<I", reader.take(4))
            body = reader.take(length)
        except EOFError as error:
            raise ValueError("is damaged or cut off") from error
        if marker != MARKER or zlib.crc32(body, zlib.crc32(framed)) != crc:
            raise ValueError("is damaged")
        yield _read_body(body, dim)


def _read_body(body: bytes, dim: int) -> Block:
    """Return the block of undamaged bytes."""
    inner = _Reader(body, 0)
    try:
        groups: list[tuple[int, int]] = []
        images, first = 0, inner.varint()
        for _ in range(inner.varint()):
            depth, power = divmod(inner.take(1)[0], 16)
            size = inner.varint() if power == ANY_SIZE else 1 << power
            times = inner.varint()
            images += size * times
            if not size or images > MAX_BLOCK or images * dim > MAX_VALUES:
                raise ValueError("too many images")
            groups += [(depth, size)] * times
        packed = inner.take(inner.varint())
        names = _names(packed, images) if packed else ()
        rest = body[inner.place :]
        words = np.frombuffer(rest + bytes(-len(rest) % 4), "<u4").astype(np.uint32)
    except (EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"is invalid: {error}") from error
    return Block(groups, words, first, names)


def _names(packed: bytes, images: int) -> tuple[str, ...]:
    """Return the names of a block: file names without folders above."""
    raw = zlib.decompressobj().decompress(packed, MAX_NAME * images + 1)
    names = tuple(raw.decode(errors="surrogateescape").split("\n"))
    if len(names) != images or len(raw) > MAX_NAME * images:
        raise ValueError("a block does not have a name for each image")
    return names


def _varint(value: int) -> bytes:
    """Return an integer in groups of 7 bits, the lowest first.

    >>> _varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class _Reader:
    """Reads bytes in order, and raises EOFError if they end too early.

    Args:
        data: the bytes.
        place: offset at which to begin.
    """

    def __init__(self, data: bytes, place: int) -> None:
        self.data = data
        self.place = place

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if count > len(self.data) - self.place:
            raise EOFError
        self.place += count
        return self.data[self.place - count : self.place]

    def varint(self) -> int:
        """Return the next integer, of at most 35 bits."""
        value = 0
        for shift in range(0, 35, 7):
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise EOFError
