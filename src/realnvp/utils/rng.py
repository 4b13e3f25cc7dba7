"""Noise that belongs to an example, not to the process or the batch that computes it.

Every number is a function of a seed and of a position: there is no state to save, a resumed run
draws what the uninterrupted one would have drawn, and two processes that share a batch draw what
one process would have drawn for the whole of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["normal_of", "seed_of", "uniform"]

BLOCK = 32
"""Examples that share a seed: a process draws at most two blocks that it does not use whole."""


def seed_of(*numbers: int) -> int:
    """A seed for a purpose and a position, such as a run's seed, a stream and a step.

    >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0)
    (True, False)
    """
    if min(numbers) < 0:
        raise ValueError(f"a seed must be 0 or more, got {min(numbers)}")
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def uniform(
    seed: Sequence[int],
    start: int,
    count: int,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Uniform numbers in [0, 1) for some of a row of numbered examples.

    Args:
        seed: of the row; see :func:`seed_of`.
        start: number of the first example.
        count: how many.
        shape: of one example.
        dtype: of the numbers.
        device: where they are drawn. Other kinds of devices draw other numbers.

    Returns:
        ``(count, *shape)``, of which each example depends on the seed and its own number only.

    >>> torch.equal(uniform([0], 0, 50, [2])[40:], uniform([0], 40, 10, [2]))
    True
    """
    generator = torch.Generator(device)
    first, last = start // BLOCK, max(start + count - 1, start) // BLOCK
    blocks = [
        torch.rand(
            (BLOCK, *shape),
            generator=generator.manual_seed(seed_of(*seed, block)),
            dtype=dtype,
            device=device,
        )
        for block in range(first, last + 1)
    ]
    return torch.cat(blocks)[start - first * BLOCK :][:count]


def normal_of(uniform: Tensor) -> Tensor:
    """Normal numbers from uniform ones in [0, 1): the quantiles; of 0 and 1, of numbers near.

    >>> normal_of(torch.tensor([0.5, 0.0])).isfinite()
    tensor([True, True])
    """
    return torch.special.ndtri(uniform.clamp(2.0**-25, 1 - 2.0**-24))
