"""The file's frame: damage is found, and what is asked for has bounds."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from realnvp.codec.blocks import Block
from realnvp.codec.container import (
    ANY_SIZE,
    MARKER,
    VERSION,
    Header,
    _varint,
    read_blocks,
    read_header,
    write_block,
    write_header,
)

HEADER = Header(b"123456", "mnist", "2.9.0", "AVX2", "0.4.1", 9, 7, True)
BLOCKS = [
    Block([(0, 3), (8, 1)], np.arange(5, dtype=np.uint32) + i, 4 * i, names)
    for i, names in enumerate([(), ("a.png", "b/c.png", "ü.png", "d"), ()])
]


def same(one: Block, other: Block) -> bool:
    fields = ("first", "names", "groups")
    return all(getattr(one, name) == getattr(other, name) for name in fields) and np.array_equal(
        one.words, other.words
    )


def test_blocks_come_back_and_damage_is_found():
    written = [write_block(block) for block in BLOCKS]
    data = write_header(HEADER) + b"".join(written)
    header, start = read_header(data)
    assert header == HEADER
    found = list(read_blocks(data, start, 64))
    assert all(same(a, b) for a, b in zip(found, BLOCKS, strict=True))
    for place in range(start + len(written[0]), start + len(written[0]) + len(written[1])):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        found = read_blocks(bytes(damaged), start, 64)
        assert same(next(found), BLOCKS[0])
        with pytest.raises(ValueError, match="is damaged"):
            next(found)


def test_every_damage_of_the_header_is_found():
    data = write_header(HEADER)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match=r"damaged|not a file|version"):
            read_header(bytes(damaged))
        with pytest.raises(ValueError, match=r"damaged|cut off|not a file"):
            read_header(data[:place])


def test_the_frame_takes_few_bytes():
    usual = Header(b"123456", "mnist", "2.13.0+cpu", "AVX512", "0.5.0", 1000, 7, False)
    assert len(write_header(usual)) < 32
    groups = [(0, 4), (4, 1), *[(10, 8)] * 100]
    assert len(write_block(Block(groups, np.arange(1, 2, dtype=np.uint32)))) < 20


def test_files_of_another_version_are_refused_in_one_line():
    for version in (VERSION - 1, VERSION + 1):
        with pytest.raises(ValueError, match=f"version {version} of the format") as found:
            read_header(b"NVP" + bytes([version]) + bytes(50))
        assert "\n" not in str(found.value)


def test_a_stranger_cannot_ask_for_memory():
    body = _varint(0) + _varint(1) + bytes([ANY_SIZE]) + _varint(2**20) + _varint(2**20)
    frame = MARKER + _varint(len(body))
    data = frame + struct.pack("<I", zlib.crc32(frame + body)) + body
    with pytest.raises(ValueError, match="is invalid: too many images"):
        next(read_blocks(data, 0, 64))
