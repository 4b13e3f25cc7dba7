"""The exponential moving average of a model's weights, which is what is evaluated and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

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

    Attributes:
        average: the averages, by name.
        updates: how many there were.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        tensors = {n: t for n, t in model.state_dict().items() if t.is_floating_point()}
        self._model = tensors
        self.average = {name: tensor.clone() for name, tensor in tensors.items()}
        # Sharded parameters and whole buffers cannot be averaged in one call.
        kinds = {type(tensor) for tensor in tensors.values()}
        names = [[n for n, t in tensors.items() if type(t) is kind] for kind in kinds]
        self._pairs = [([self.average[n] for n in g], [tensors[n] for n in g]) for g in names]

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        for mine, its in self._pairs:
            torch._foreach_lerp_(mine, its, 1 - decay)
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
        for name, mine in self.average.items():
            its = self._model[name]
            kept = its.clone()
            its.copy_(mine)
            mine.copy_(kept)
