"""One thread of PyTorch for small tensors, on which several would mostly wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()
_users = 0  # contexts that are open
_usual = 1


@contextmanager
def single_thread() -> Iterator[None]:
    """Let PyTorch use one thread inside this context.

    PyTorch's number of threads belongs to the process. Several Python threads may be in this
    context at the same time; after the last one, the number is what it was before the first.
    """
    global _users, _usual
    with _LOCK:
        if _users == 0:
            _usual = torch.get_num_threads()
        _users += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            torch.set_num_threads(_usual)
