"""Cancellable work: every network of a model checks whether to continue."""

from __future__ import annotations

import threading
from contextvars import ContextVar

from torch import nn

from realnvp.conditioners import Conditioner
from realnvp.flow import Flow

__all__ = ["STOP", "Cancelled", "stoppable"]

STOP: ContextVar[threading.Event | None] = ContextVar("STOP", default=None)
"""Set once the work in this context is cancelled.

Gradio calls a function in a context of its own, so several visitors may use one model.
"""


class Cancelled(Exception):
    """A visitor has cancelled the work."""


def stoppable(flow: Flow) -> Flow:
    """Let every conditioner of a flow raise :class:`Cancelled` where :data:`STOP` is set.

    All long work, in both directions, calls them many times: the longest wait is for one network
    and one batch, not for a whole pass, or the ten passes of a class-conditional model.
    """
    for module in flow.modules():
        if isinstance(module, Conditioner):
            module.register_forward_pre_hook(_ask)
    return flow


def _ask(module: nn.Module, given: object) -> None:
    stop = STOP.get()
    if stop is not None and stop.is_set():
        raise Cancelled
