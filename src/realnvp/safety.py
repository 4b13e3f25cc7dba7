"""What keeps a long training safe: signals that stop it cleanly."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_signals"]

# Not all exist everywhere: a hang-up is what a closed terminal sends.
NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and a hang-up end the loop after the current step; a second one at once.

    A signal that is ignored stays so, as under ``nohup``.

    Returns:
        a list that holds the number of the signal as soon as one came.
    """
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    old = {}
    try:
        for number in NUMBERS:
            if signal.getsignal(number) != signal.SIG_IGN:
                old[number] = signal.signal(number, catch)
    except ValueError:  # not the main thread: the signals are somebody else's
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
