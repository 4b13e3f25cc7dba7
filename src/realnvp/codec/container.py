"""The file: a header, and blocks that can be read each by itself.

All numbers are little-endian. The header is ``NVP``, the version of the format, what it was made
with, and a CRC-32::

    "NVP" version:u8 flags:u8 fingerprint:8 model:text torch:text processor:text constriction:text
    count:varint probe:u32 crc:u32

and each block is::

    marker:4 length:u32 crc:u32 | first:varint runs:varint (depth:u8 size:varint times:varint)...
    images_crc:u32 names:varint bytes... words:u32...

The first CRC is of what follows it, and tells damage; the second of the images, and tells that they
were decoded otherwise than encoded. The marker, from which readers go on after damage, is checked
with them.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from realnvp.codec.blocks import Block

__all__ = ["BlockData", "Header", "read_blocks", "read_header", "write_block", "write_header"]

MAGIC = b"NVP"
VERSION = 1
MARKER = b"\xf5blk"
PORTABLE = 1
"""Flag: networks computed in float64."""

MAX_BLOCK = 1 << 16
"""Most images of a block."""

MAX_VALUES = 1 << 28
"""Most pixel values of a block: the memory that a file may ask for."""

MAX_TEXT = 64


@dataclass(frozen=True)
class Header:
    """What a file was made with.

    Args:
        fingerprint: 8 bytes that name the model.
        model: its name, if it comes with the package; else empty.
        torch: version of PyTorch.
        processor: vector instructions that it used.
        constriction: version of the entropy coder.
        count: number of images.
        probe: CRC of a probe of the arithmetic; see :mod:`realnvp.codec.files`.
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


@dataclass(frozen=True)
class BlockData:
    """A block as it is in a file.

    Args:
        first: index of its first image.
        block: its groups and words.
        images_crc: CRC-32 of the images.
        names: their names; empty if they have none.
    """

    first: int
    block: Block
    images_crc: int
    names: tuple[str, ...] = ()


def write_header(header: Header) -> bytes:
    """Return the header's bytes.

    >>> made = Header(b"12345678", "mnist", "2.9.0", "AVX2", "0.4.1", 1000, 7, False)
    >>> read_header(write_header(made))[0] == made
    True
    """
    body = MAGIC + bytes([VERSION, PORTABLE if header.portable else 0]) + header.fingerprint
    for text in (header.model, header.torch, header.processor, header.constriction):
        raw = text.encode()[:MAX_TEXT]
        body += bytes([len(raw)]) + raw
    body += _varint(header.count) + struct.pack("<I", header.probe)
    return body + struct.pack("<I", zlib.crc32(body))


def read_header(data: bytes) -> tuple[Header, int]:
    """Return the header, and where the blocks begin.

    Raises:
        ValueError: if it is none, or damaged.
    """
    if data[:3] != MAGIC:
        raise ValueError("this is no file of compressed images: realnvp compress writes them")
    if len(data) > 3 and data[3] != VERSION:
        raise ValueError(
            f"the file has version {data[3]} of the format, and this realnvp reads version "
            f"{VERSION}: use the version that wrote it"
        )
    reader = _Reader(data, 4)
    try:
        flags = reader.take(1)[0]
        fingerprint = reader.take(8)
        model, made_by, processor, coder = (
            reader.take(reader.take(1)[0]).decode() for _ in range(4)
        )
        count = reader.varint()
        (probe,) = struct.unpack("<I", reader.take(4))
        end = reader.place
        (crc,) = struct.unpack("<I", reader.take(4))
    except (_Short, UnicodeDecodeError) as error:
        raise ValueError("the header of the file is damaged or cut off") from error
    if crc != zlib.crc32(data[:end]):
        raise ValueError("the header of the file is damaged")
    portable = bool(flags & PORTABLE)
    header = Header(fingerprint, model, made_by, processor, coder, count, probe, portable)
    return header, reader.place


def write_block(data: BlockData) -> bytes:
    """Return a block's bytes."""
    runs = [
        (depth, n, len(list(same))) for (depth, n), same in itertools.groupby(data.block.groups)
    ]
    body = _varint(data.first) + _varint(len(runs))
    for depth, size, times in runs:
        body += bytes([depth]) + _varint(size) + _varint(times)
    names = zlib.compress("\n".join(data.names).encode(), 9) if data.names else b""
    body += struct.pack("<I", data.images_crc) + _varint(len(names)) + names
    body += data.block.words.astype("<u4").tobytes()
    framed = struct.pack("<I", len(body))
    return MARKER + framed + struct.pack("<I", zlib.crc32(MARKER + framed + body)) + body


def read_blocks(data: bytes, start: int, dim: int) -> Iterator[BlockData | str]:
    """Yield the blocks, and for each stretch of the file that is none, what is wrong with it.

    Args:
        data: the file.
        start: where the blocks begin.
        dim: number of values of an image, which bounds what a block may ask for.
    """
    place = start
    while place < len(data):
        found = _block_at(data, place, dim)
        if not isinstance(found, str):
            block, place = found
            yield block
            continue
        yield found
        place = data.find(MARKER, place + 1)
        while place >= 0 and isinstance(_block_at(data, place, dim), str):
            place = data.find(MARKER, place + 1)
        if place < 0:
            return


def _block_at(data: bytes, place: int, dim: int) -> tuple[BlockData, int] | str:
    """Return the block at a place and where it ends, or what is wrong with it."""
    reader = _Reader(data, place)
    try:
        marker = reader.take(4)
        length_bytes = reader.take(4)
        (crc,) = struct.unpack("<I", reader.take(4))
        if marker != MARKER:
            return "damaged"
        body = reader.take(struct.unpack("<I", length_bytes)[0])
    except _Short:
        return "damaged or cut off"
    if zlib.crc32(body, zlib.crc32(marker + length_bytes)) != crc:
        return "damaged"
    inner = _Reader(body, 0)
    try:
        groups: list[tuple[int, int]] = []
        images, first = 0, inner.varint()
        for _ in range(inner.varint()):
            depth, size, times = inner.take(1)[0], inner.varint(), inner.varint()
            images += size * times
            if not size or images > MAX_BLOCK or images * dim > MAX_VALUES or depth > 16:
                return "not possible: its images would be too many"
            groups += [(depth, size)] * times
        (images_crc,) = struct.unpack("<I", inner.take(4))
        packed = inner.take(inner.varint())
        names = _names(packed, images) if packed else ()
        rest = body[inner.place :]
        if len(rest) % 4:
            return "not possible"
        words = np.frombuffer(rest, "<u4").astype(np.uint32)
    except (_Short, ValueError, zlib.error):
        return "not possible"
    return BlockData(first, Block(groups, words), images_crc, names), reader.place


def _names(packed: bytes, images: int) -> tuple[str, ...]:
    """Return the names of a block: file names without folders above."""
    raw = zlib.decompressobj().decompress(packed, 1024 * images + 1)
    names = tuple(raw.decode().split("\n"))
    if len(names) != images or len(raw) > 1024 * images:
        raise ValueError("a block has not a name for each image")
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


class _Short(Exception):
    """The data end before what is read."""


class _Reader:
    """Reads bytes in order.

    Args:
        data: the bytes.
        place: where to begin.
    """

    def __init__(self, data: bytes, place: int) -> None:
        self.data = data
        self.place = place

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if count > len(self.data) - self.place:
            raise _Short
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
        raise _Short
