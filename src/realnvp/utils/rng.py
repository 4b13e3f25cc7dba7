"""Noise per example, independent of the process or the batch that computes it.

Every number is a function of a seed, a stream and a position. So there is no state to save; a
resumed run draws what the uninterrupted one would have drawn; and two processes that share a batch
draw what one process would have drawn for the whole batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import IntEnum, unique
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from realnvp.utils.hashing import row_hashes, scrambled

BLOCK = 32
"""Number of examples that share a seed: at most two blocks of a batch are used only in part."""


@unique
class Stream(IntEnum):
    """Purposes of random numbers, which are independent of each other for the same seed."""

    NOISE = 0
    """Dequantization noise of training."""
    ORDER = 1
    """Order of the examples in an epoch."""
    FLIPS = 2
    """Which images are mirrored."""
    SHIFTS = 3
    """How far images are moved."""
    SMOOTHING = 4
    """Normal noise on the rows of a table in training."""
    DRAWS = 5
    """Dequantization noise of an evaluation."""
    ROUND_TRIP = 6
    """Dequantization noise of encoding and decoding."""
    MOMENTS = 7
    """Dequantization noise of the data that a model is initialized from."""
    SAMPLE = 8
    """Which rows of a large table are trained on."""


def seed_of(*numbers: int) -> int:
    """Return a seed for a purpose and a position, such as a run's seed, a stream and a step.

    Args:
        numbers: integers, 0 or more. Their order and their number matter.

    Raises:
        ValueError: if a number is negative.

    >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0)
    (True, False)
    >>> seed_of(3, 7) == seed_of(3, 7, 0)
    False
    """
    if min(numbers) < 0:
        raise ValueError(f"a seed must be 0 or more, got {min(numbers)}")
    # From text, since np.random.SeedSequence pads with zeros: (3, 7) and (3, 7, 0) would be the
    # same.
    text = ",".join(str(int(number)) for number in numbers)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def uniform(
    seed: Sequence[int],
    start: int,
    count: int,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return uniform numbers in [0, 1) for consecutive examples of a sequence.

    Args:
        seed: seed of the sequence; see :func:`seed_of`.
        start: index of the first example.
        count: number of examples.
        shape: shape of one example.
        dtype: type of the numbers.
        device: where they are drawn. Other kinds of devices draw other numbers.

    Returns:
        ``(count, *shape)``; each example depends on the seed and its own index only.

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


def uniform_of_rows(rows: Tensor, seed: Sequence[int]) -> Tensor:
    """Return uniform numbers in [0, 1) for rows of numbers, ``(N, D) -> (N, D)`` in float64.

    A row's numbers depend on its values and the seed only, wherever it stands in whatever table.

    >>> rows = torch.tensor([[0.0, 1.0], [2.0, torch.nan]])
    >>> one, two = uniform_of_rows(rows, (0, 5)), uniform_of_rows(rows.flip(0), (0, 5))
    >>> bool((one == two.flip(0)).all()), bool((one == uniform_of_rows(rows, (1, 5))).any())
    (True, False)
    """
    values = rows.detach().cpu().double().nan_to_num(nan=np.finfo(np.float64).max).numpy()
    hashes = row_hashes(values) + np.uint64(seed_of(*seed))
    steps = np.arange(1, rows.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words = scrambled(scrambled(hashes)[:, None] + steps)
    return torch.from_numpy((words >> np.uint64(11)) * 2.0**-53).to(rows.device)


def normal_of(uniform: Tensor) -> Tensor:
    """Return the normal quantiles of numbers in [0, 1]; finite at 0 and 1, too.

    >>> normal_of(torch.tensor([0.5, 0.0])).isfinite()
    tensor([True, True])
    """
    return torch.special.ndtri(uniform.clamp(2.0**-25, 1 - 2.0**-24))


class seeded(TorchDispatchMode):
    """Draw the random numbers of this thread from a separate generator.

    Layers initialize their weights from PyTorch's global generator, which all threads share. Inside
    this context they draw what they would draw after ``torch.manual_seed(seed)``, while the global
    generator is neither used nor changed, so that several threads can build models at the same
    time.

    Args:
        seed: seed of the generator.

    >>> with seeded(3):
    ...     a = torch.nn.Linear(2, 2).weight
    >>> _ = torch.manual_seed(3)
    >>> torch.equal(a, torch.nn.Linear(2, 2).weight)
    True
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch would import its compiler, only to keep it away from the method

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not _takes_generator(func):  # ``randn`` and the like have an overload that does
            name = f"{func._overloadname}_generator".removeprefix("default_")
            func = getattr(func.overloadpacket, name, func)
        if _takes_generator(func) and kwargs.get("generator") is None:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)


def _takes_generator(func: Any) -> bool:
    return any(argument.name == "generator" for argument in func._schema.arguments)
