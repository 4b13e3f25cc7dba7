"""What keeps a long training safe: signals that stop it cleanly, and NaNs that are named."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from realnvp.bijections import Bijection
from realnvp.models import Flow

__all__ = ["Interrupted", "first_bad_layer", "stop_signals"]


class Interrupted(Exception):
    """The user stopped the training; everything is saved."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM end the loop after the current step; a second one ends it at once."""
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        old = [signal.signal(number, catch) for number in numbers]
    except ValueError:  # not the main thread: the signals are somebody else's
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in zip(numbers, old, strict=True):
            signal.signal(number, handler)


def first_bad_layer(flow: Flow, x: Tensor, condition: Tensor | None) -> str:
    """Name the first layer whose output is not finite, for an error that helps."""
    found: list[str] = []

    def check(name: str):
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            tensors = output if isinstance(output, tuple) else (output,)
            if not found and not all(torch.isfinite(t).all() for t in tensors):
                found.append(f"{name} ({type(module).__name__})")

        return hook

    hooks = [
        module.register_forward_hook(check(name))
        for name, module in flow.named_modules()
        if not list(module.children()) or isinstance(module, Bijection)
    ]
    try:
        with torch.no_grad(), flow.evaluating():
            flow.loss_terms(x, condition)
    finally:
        for handle in hooks:
            handle.remove()
    return found[0] if found else "the gradient (every layer's output is finite)"
