"""The file's frame: damage is found, other blocks are read, and what is asked for has bounds."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from realnvp.codec.blocks import Block
from realnvp.codec.container import (
    MARKER,
    BlockData,
    Header,
    _varint,
    read_blocks,
    read_header,
    write_block,
    write_header,
)

HEADER = Header(b"12345678", "mnist", "2.9.0", "AVX2", "0.4.1", 9, 7, True)
BLOCKS = [
    BlockData(3 * i, Block([(0, 1), (8, 1), (8, 1)], np.arange(5, dtype=np.uint32) + i), i, names)
    for i, names in enumerate([(), ("a.png", "b/c.png", "ü.png"), ()])
]


def same(one: BlockData, other: BlockData) -> bool:
    fields = ("first", "images_crc", "names")
    return (
        all(getattr(one, name) == getattr(other, name) for name in fields)
        and one.block.groups == other.block.groups
        and np.array_equal(one.block.words, other.block.words)
    )


def test_blocks_come_back_and_damage_costs_one():
    written = [write_block(block) for block in BLOCKS]
    data = write_header(HEADER) + b"".join(written)
    header, start = read_header(data)
    assert header == HEADER
    found = list(read_blocks(data, start, 64))
    assert all(same(a, b) for a, b in zip(found, BLOCKS, strict=True))
    for place in range(start + len(written[0]), start + len(written[0]) + len(written[1])):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        first, problem, last = read_blocks(bytes(damaged), start, 64)
        assert isinstance(problem, str)
        assert same(first, BLOCKS[0])
        assert same(last, BLOCKS[2])


def test_every_damage_of_the_header_is_found():
    data = write_header(HEADER)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match=r"damaged|no file|version"):
            read_header(bytes(damaged))
        with pytest.raises(ValueError, match=r"damaged|cut off|no file"):
            read_header(data[:place])


def test_a_stranger_cannot_ask_for_memory():
    body = _varint(0) + _varint(1) + bytes([0]) + _varint(2**20) + _varint(2**20)
    body += bytes(4) + _varint(0)
    frame = MARKER + struct.pack("<I", len(body))
    data = frame + struct.pack("<I", zlib.crc32(frame + body)) + body
    assert list(read_blocks(data, 0, 64)) == ["not possible: its images would be too many"]
