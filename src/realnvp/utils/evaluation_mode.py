"""Temporary evaluation mode of a module, which several threads may share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_LOCK = threading.Lock()
"""Guards the counts of all modules: a module with its own lock could not be copied."""


class EvaluationMode:
    """Put a module into evaluation mode while at least one thread needs it.

    The first thread that enters switches the mode, and the last one that leaves restores it.

    >>> layer, mode = nn.Dropout(), EvaluationMode()
    >>> with mode.of(layer):
    ...     print(layer.training)
    False
    >>> layer.training
    True
    """

    def __init__(self) -> None:
        self._threads = 0
        self._were_training: list[nn.Module] = []

    @contextmanager
    def of(self, module: nn.Module) -> Iterator[None]:
        """Compute in evaluation mode inside this context.

        Args:
            module: always the same one.
        """
        if torch.compiler.is_compiling() and not any(m.training for m in module.modules()):
            yield  # nothing to change, and a lock cannot be part of a graph
            return
        with _LOCK:
            if self._threads == 0:
                self._were_training = [m for m in modules(module) if m.training]
                for each in self._were_training:
                    each.training = False
            self._threads += 1
        try:
            yield
        finally:
            with _LOCK:
                self._threads -= 1
                if self._threads == 0:
                    for each in self._were_training:
                        each.training = True
                    self._were_training = []


def modules(module: nn.Module) -> Iterator[nn.Module]:
    """Yield what ``module.modules()`` does in a tenth of the time, which matters for small flows.

    A module that occurs several times is yielded several times.
    """
    waiting: list[nn.Module | None] = [module]
    for each in waiting:  # which grows
        if each is not None:
            yield each
            waiting.extend(each._modules.values())
