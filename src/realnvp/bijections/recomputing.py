"""Whether a layer is run again, for gradients, on a batch whose statistics it already took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["is_recomputing", "recomputing"]

_depth = 0


def is_recomputing() -> bool:
    """Inside :func:`recomputing`: statistics must give what they gave, and not move again."""
    return _depth > 0


@contextmanager
def recomputing() -> Iterator[None]:
    """Layers are run again inside this context."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
