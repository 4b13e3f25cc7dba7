"""Shuffled batches from memory or from files, a function of the seed and the step.

What a batch takes from files is read in a thread while the model is busy with the batch before it.
As every batch is a function of its step, reading ahead changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from realnvp.data.dataset import Split
from realnvp.data.stored_images import StoredImages
from realnvp.utils.rng import Stream, seed_of
from realnvp.utils.weights import draw_weighted

Result = TypeVar("Result")


class Prefetcher(Generic[Result]):
    """A function of a step whose next result a thread computes ahead of time.

    The function is called in that one thread only, so that its state needs no lock.

    Args:
        function: function of a step, and of arguments that rarely change.

    >>> square = Prefetcher(lambda step, plus: step**2 + plus)
    >>> square(3, 0), square(4, 0), square(9, 1)
    (9, 16, 82)
    """

    def __init__(self, function: Callable[..., Result]) -> None:
        self._function = function
        self._pool = ThreadPoolExecutor(1, "ahead")  # whose thread ends with the last reference
        self._next: tuple[tuple[int, ...], Future[Result]] | None = None

    def __call__(self, step: int, *rest: int) -> Result:
        wanted, prepared = (step, *rest), self._next
        if prepared is not None and prepared[0] == wanted:
            result = prepared[1]
        else:
            result = self._pool.submit(self._function, *wanted)
        following = (step + 1, *rest)
        self._next = following, self._pool.submit(self._function, *following)
        return result.result()


class Batches:
    """Shuffled batches of a split that is on the device, for any step, without a state.

    Every epoch is a permutation of the examples, and the batches are cut from the epochs one after
    the other: where the number of examples is not a multiple of the batch size, one batch has the
    last of an epoch and the first of the next. So no example is dropped, and none occurs twice in
    an epoch. Where examples have weights, each occurs in proportion to its weight, on average.

    Args:
        split: the examples, on the device; or images that stay in files.
        batch_size: examples of a batch, over all processes; at most the whole split.
        seed: seed of the order, the flips and the shifts.
        flip: turn every image left to right half of the time.
        shift: move every image by up to this many pixels, down or up and right or left, half of the
            time; its edge is repeated.
        device: device of the batches, by default that of the examples.

    Attributes:
        size: examples of a batch.
        per_epoch: number of batches per epoch, not always an integer.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        flip: bool = False,
        shift: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.split = split
        self._device = split.x.device if device is None else device
        self.size = min(batch_size, len(split))
        self.per_epoch = len(split) / self.size
        self._seed, self._flip, self._shift = seed, flip, shift
        self._orders: dict[int, Tensor] = {}
        in_memory = isinstance(split.x, Tensor)
        self._take = self._gather if in_memory else Prefetcher(self._gather)

    @property
    def stored(self) -> str | None:
        """Description of the files that training examples stay in; None if they are in memory."""
        x = self.split.x
        return None if isinstance(x, Tensor) else x.where

    def share(self, rank: int, world_size: int) -> range:
        """Return the positions in a batch that belong to a process: shares differ by one at most.

        >>> batches = Batches(Split(torch.zeros(9, 2)), 5, seed=0, flip=False)
        >>> batches.share(0, 2), batches.share(1, 2)
        (range(0, 2), range(2, 5))
        """
        return range(rank * self.size // world_size, (rank + 1) * self.size // world_size)

    def indices(self, step: int) -> Tensor:
        """Return the indices of the examples in the batch of a step, over all processes."""
        epoch, start = divmod(step * self.size, len(self.split))
        order = self._order(epoch, start, start + self.size)
        if len(order) < self.size:
            order = torch.cat((order, self._order(epoch + 1, 0, self.size - len(order))))
        return order

    def get(self, step: int, rank: int = 0, world_size: int = 1) -> tuple[Tensor, Tensor | None]:
        """Return the share of a process of the batch of a step: examples and their condition."""
        share = self.share(rank, world_size)
        x, condition = self._take(step, rank, world_size)
        x = x.to(self._device, non_blocking=True)  # which waits, unless the memory is pinned
        if condition is not None:
            condition = condition.to(self._device, non_blocking=True)
        if self._flip:
            generator = torch.Generator().manual_seed(seed_of(self._seed, Stream.FLIPS, step))
            flipped = torch.rand(self.size, generator=generator) < 0.5
            flipped = flipped[share.start : share.stop].to(x.device)
            x = torch.where(flipped[:, None, None, None], x.flip(-1), x)
        if self._shift:
            generator = torch.Generator().manual_seed(seed_of(self._seed, Stream.SHIFTS, step))
            by = torch.randint(-self._shift, self._shift + 1, (self.size, 2), generator=generator)
            by *= torch.rand((self.size, 1), generator=generator) < 0.5
            x = shift_images(x, by[share.start : share.stop].to(x.device))
        return x, condition

    def _gather(self, step: int, rank: int, world_size: int) -> tuple[Tensor, Tensor | None]:
        """Return a process's share of a batch, as it is kept, and its condition."""
        share = self.share(rank, world_size)
        index = self.indices(step)[share.start : share.stop]
        x, condition = self.split.x, self.split.condition
        return self._pinned(x[index]), None if condition is None else condition[index]

    def _pinned(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or self._device.type != "cuda":
            return x
        with torch.cuda.device(self._device):  # for this thread, which would use the first device
            return x.pin_memory()

    def _order(self, epoch: int, start: int, stop: int) -> Tensor:
        """Return the indices of the examples at positions ``start`` to ``stop`` of an epoch."""
        order = self._orders.get(epoch)
        if order is None:
            for old in [each for each in list(self._orders) if each < epoch - 1]:
                self._orders.pop(old, None)
            shuffle = torch.Generator().manual_seed(seed_of(self._seed, Stream.ORDER, epoch))
            order = torch.randperm(len(self.split), generator=shuffle)
            if self.split.weight is not None:
                order = draw_weighted(self.split.weight, shuffle)[order]
            order = self._orders[epoch] = order.to(self.split.x.device)
        return order[start:stop]


def shift_images(x: Tensor, by: Tensor) -> Tensor:
    """Return images shifted down and right by ``(B, 2)`` pixels, with repeated edges.

    >>> shift_images(torch.arange(3.0).view(1, 1, 1, 3), torch.tensor([[0, 1]])).flatten()
    tensor([0., 0., 1.])
    """
    rows, columns = (
        (torch.arange(size, device=x.device) - move[:, None]).clamp(0, size - 1)
        for size, move in zip(x.shape[2:], by.unbind(1), strict=True)
    )
    example = torch.arange(len(x), device=x.device)[:, None, None]
    return x[example, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def to_device(split: Split, device: torch.device) -> Split:
    """Move a split to the device's memory: uint8 images are small, and need no workers there.

    Labels are left out: training does not use them.
    """
    tensors = {name: getattr(split, name) for name in ("x", "condition", "weight")}
    return Split(**{name: t.to(device) for name, t in tensors.items() if t is not None})


def to_device_unless_stored(split: Split, device: torch.device) -> Split:
    """Move a split to the device's memory, except examples that are better left in files.

    Labels are left out. An accelerator holds images of the cache where they take at most half
    of its free memory, and the setting ``data.storage`` allows it; on the CPU, they are in memory
    as soon as they are read.
    """
    if isinstance(split.x, StoredImages):
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        if not (split.x.on_device and split.x.numel() <= free // 2):
            return replace(to_device(replace(split, x=split.x[:0]), device), x=split.x)
    return to_device(split, device)
