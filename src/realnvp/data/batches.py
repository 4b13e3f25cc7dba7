"""Shuffled batches from memory, the same for a step however it was reached."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from realnvp.data.dataset import Split

__all__ = ["Batches", "step_seed", "to_device"]


def step_seed(seed: int, *position: int) -> int:
    """A seed for one step, of its own for every run, step and process."""
    return int(np.random.SeedSequence([seed, *position]).generate_state(1, np.uint64)[0])


class Batches:
    """Shuffled batches of a split that is on the device, for any step, without a state.

    Every epoch is a permutation of the examples; the remainder that fills no batch is left to
    other epochs.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, flip: bool) -> None:
        self.split = split
        self.size = min(batch_size, len(split))
        self.per_epoch = len(split) // self.size
        self._seed, self._flip = seed, flip
        self._epoch, self._order = -1, torch.empty(0)

    def get(
        self, step: int, rank: int, ranks: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """This process's part of the batch of a step: examples and their condition."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            shuffle = torch.Generator().manual_seed(step_seed(self._seed, 1, epoch))
            order = torch.randperm(len(self.split), generator=shuffle)
            self._epoch, self._order = epoch, order.to(self.split.x.device)
        index = self._order[position * self.size : (position + 1) * self.size][rank::ranks]
        x = self.split.x[index]
        if self._flip:
            flipped = torch.rand(len(x), generator=generator, device=x.device) < 0.5
            x = torch.where(flipped[:, None, None, None], x.flip(-1), x)
        return x, None if self.split.condition is None else self.split.condition[index]


def to_device(split: Split, device: torch.device) -> Split:
    """The whole split in the device's memory: uint8 images are small, and no worker is needed."""
    condition = None if split.condition is None else split.condition.to(device)
    return Split(split.x.to(device), condition)
