"""Which errors are the user's, and how they read in one line."""

from __future__ import annotations

import errno
import os

import pytest

from realnvp.utils.errors import Interrupted, RemoteRankError, describe, is_expected, some_of


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), OSError(errno.ENOSPC, "No space left on device"), MemoryError(),
        FloatingPointError("x"), RuntimeError("CUDA out of memory. Tried to allocate"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("Storage size calculation overflowed with sizes=[9223372036854775807]"),
    ],
)  # fmt: skip
def test_errors_that_a_user_can_mend(error):
    assert is_expected(error)
    assert "\n" not in describe(error)


@pytest.mark.parametrize(
    "error", [KeyError("x"), TypeError("x"), RuntimeError("mat1 and mat2 shapes"), IndexError()]
)
def test_bugs_are_not_hidden(error):
    assert not is_expected(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.csv"), "a.csv: make room"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "a: change its permissions"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "not text in UTF-8"),
        (RuntimeError("out of memory"), "lower the batch size"),
        (ValueError("two\n   lines"), "two lines"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_are_described_with_a_remedy(error, words):
    assert words in describe(error)


def test_exit_statuses_are_those_of_shells():
    assert Interrupted("saved", 15).status == 143
    assert RemoteRankError(130).status == 130


def test_long_lists_are_cut():
    assert some_of(list("abc"), most=3) == "a, b, c"
    assert some_of([str(i) for i in range(30)], most=2) == "0, 1, ... (30 in all)"
