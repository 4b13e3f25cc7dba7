"""Keep freed memory in the process, for the tensors of the next batch.

The C library of Linux (glibc) returns large blocks to the system as soon as they are freed. Every
tensor of a batch is then made of new pages, and the first touch of each page of 4 KB is a fault,
for which the system fills it with zeros: scoring a table took more than twice as long, in batches
of a thousand rows or more. The size that counts as large grows with the largest block that was
freed so far, up to 32 MB (``man mallopt``, M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import torch

__all__ = ["keep_freed_memory"]

LARGEST = 2**25 - 2**16
"""Bytes of the largest block, with its header and alignment, that raises glibc's threshold."""


def keep_freed_memory() -> None:
    """Let later tensors of up to 32 MB reuse freed memory, of which 64 MB are kept.

    Nothing is written to the block, so that it costs no memory. With other C libraries, nothing
    changes.
    """
    torch.empty(LARGEST, dtype=torch.uint8)
