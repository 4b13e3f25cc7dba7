"""The exponential moving average of a model's weights, which is what is evaluated and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["EMA"]


class EMA:
    r"""Moving average of the weights and of the running statistics.

    .. math:: \bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta, \qquad
        d = \min(\mathrm{decay}, (1 + t) / (10 + t))

    with a shorter memory in the first steps :math:`t`, whose weights are worth forgetting.
    Statistics are averaged too: those of the newest weights would not fit the averaged ones.

    Args:
        model: whose tensors are averaged; they are read, and swapped by :meth:`applied`.
        decay: per step; 0 follows the model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._model = [t for t in model.state_dict().values() if t.is_floating_point()]
        self._average = [t.clone() for t in self._model]

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        torch._foreach_lerp_(self._average, self._model, 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside this context, and its own again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for mine, its in zip(self._average, self._model, strict=True):
            kept = its.clone()
            its.copy_(mine)
            mine.copy_(kept)

    def state_dict(self) -> dict[str, list[Tensor] | int]:
        """For a checkpoint."""
        return {"updates": self.updates, "average": self._average}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a checkpoint."""
        self.updates = state["updates"]
        for mine, saved in zip(self._average, state["average"], strict=True):
            mine.copy_(saved)
