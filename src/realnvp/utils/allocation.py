"""Keep freed memory in the process, for the tensors of the next batch or training step.

The C library of Linux (glibc) returns large blocks to the system as soon as they are freed. Every
tensor of a batch is then made of new pages, and the first touch of each page of 4 KB is a fault,
for which the system fills it with zeros: scoring a table took more than twice as long, in batches
of a thousand rows or more. The size that counts as large grows with the largest block that was
freed so far, up to 32 MB (``man mallopt``, M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import ctypes
import platform

import torch

LARGEST = 2**25 - 2**16
"""Bytes of the largest block, with its header and alignment, that raises glibc's threshold."""


def keep_freed_memory() -> None:
    """Let later tensors of up to 32 MB reuse up to 64 MB of freed memory.

    Nothing is written to the block, so it costs no memory. With other C libraries, nothing changes.
    """
    torch.empty(LARGEST, dtype=torch.uint8)


def keep_all_freed_memory() -> None:
    """Let glibc keep freed blocks of any size, as a process that trains needs them in every step.

    Otherwise every large activation is mapped again in each step, and its pages are touched for the
    first time: 4 % of the time of MNIST's recipes.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
