"""Hashes of rows, by which equal rows are found without comparing them.

The hashes of two different rows are equal with a probability of about 2**-64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scrambled(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return other integers for different integers, whose bits look random.

    This is the last step of SplitMix64 (Steele, Lea and Flood 2014).

    >>> scrambled(np.array([0, 1, 2], np.uint64)) % 10
    array([0, 9, 0], dtype=uint64)
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def row_hashes(rows: NDArray[Any], block: int = 1 << 18) -> NDArray[np.uint64]:
    """Return a hash of each row of numbers, ``(N, D) -> (N,)``; -0 equals 0.

    It is the sum of its scrambled words of 64 bits, each times an odd number of its own.

    Args:
        rows: numbers of one type.
        block: bytes that are copied at a time, since the rows may fill the memory.

    >>> one, two, three = row_hashes(np.array([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0]]))
    >>> bool(one == two), bool(one == three)
    (False, True)
    """
    nbytes = rows.shape[1] * rows.itemsize
    width = -(-nbytes // 8)
    factors = scrambled(np.arange(1, width + 1, dtype=np.uint64)) | np.uint64(1)
    hashes = np.empty(len(rows), np.uint64)
    count = max(1, block // (8 * max(width, 1)))
    for start in range(0, len(rows), count):
        block_rows = np.ascontiguousarray(rows[start : start + count] + rows.dtype.type(0))
        padded = np.zeros((len(block_rows), 8 * width), np.uint8)
        padded[:, :nbytes] = block_rows.view(np.uint8).reshape(len(block_rows), nbytes)
        # An odd constant, since 0 is scrambled to 0: the number of leading zeros matters.
        words = scrambled(padded.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
        hashes[start : start + count] = (words * factors).sum(1, dtype=np.uint64)
    return hashes
