"""Work that ends soon after it is cancelled: every network of a model asks whether to go on."""

from __future__ import annotations

import threading
from contextvars import ContextVar

from torch import nn

from realnvp.conditioners import Conditioner
from realnvp.flow import Flow

__all__ = ["STOP", "Cancelled", "stoppable"]

STOP: ContextVar[threading.Event | None] = ContextVar("STOP", default=None)
"""Set once what runs in this context is not wanted any longer.

Gradio calls a function in a context of its own, so several visitors may use one model.
"""


class Cancelled(Exception):
    """A visitor does not want to wait any longer."""


def stoppable(flow: Flow) -> Flow:
    """Let every conditioner of a flow raise :class:`Cancelled` where :data:`STOP` is set.

    All long work, in both directions, goes through them many times: the longest wait is that for
    one network and one batch, not for a whole pass, or ten of a class-conditional model.
    """
    for module in flow.modules():
        if isinstance(module, Conditioner):
            module.register_forward_pre_hook(_ask)
    return flow


def _ask(module: nn.Module, given: object) -> None:
    stop = STOP.get()
    if stop is not None and stop.is_set():
        raise Cancelled
