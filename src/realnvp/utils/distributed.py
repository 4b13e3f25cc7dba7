"""Rank, world size and sums over the processes of one run.

Layers read it directly, because their statistics are over the whole batch. Without a process
group everything here is the trivial case of one process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_thread = threading.local()


@contextmanager
def alone() -> Iterator[None]:
    """Let this thread compute on its own, ignoring any process group."""
    before = getattr(_thread, "alone", False)
    _thread.alone = True
    try:
        yield
    finally:
        _thread.alone = before


def world_size() -> int:
    """Return the number of processes; 1 inside :func:`alone`."""
    if getattr(_thread, "alone", False):
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the index of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def all_reduce(values: Tensor) -> Tensor:
    """Return the sum over all processes, without gradients."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


class _Sum(torch.autograd.Function):
    """Sum over all processes, with gradients from all of them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return all_reduce(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return all_reduce(grad.contiguous())


def rows_of_all(row: Tensor) -> Tensor:
    """Return the vectors of all processes as rows, with gradients: ``(K,) -> (ranks, K)``.

    A sum of rows that are zero but for one's own, rather than a gather: reducing is the one
    collective whose gradient every backend has, and adding zeros is exact.
    """
    if world_size() == 1:
        return row[None]
    placed = [row if index == rank() else torch.zeros_like(row) for index in range(world_size())]
    return _Sum.apply(torch.stack(placed))


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return mean and biased variance per channel over the batch, the pixels and all processes.

    The processes may hold different numbers of examples: each counts by that number.

    Args:
        x: values ``(B, C, ...)``.

    Returns:
        mean ``(C,)``, variance ``(C,)``, and the number of values of each.

    >>> mean_and_variance(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    (tensor([2., 5.]), tensor([1., 0.]), 2)
    """
    dims = [0, *range(2, x.ndim)]
    mean = x.mean(dims)
    var = (x - mean.view(1, -1, *(1 for _ in x.shape[2:]))).square().mean(dims)
    count = x.numel() // x.shape[1]
    if world_size() == 1:
        return mean, var, count
    # Chan's formula for parts with different means: squares of large means never cancel
    rows = rows_of_all(torch.cat((mean, var, mean.new_full((1,), count))))
    means, variances, counts = rows.split((len(mean), len(mean), 1), dim=1)
    weights = counts / counts.sum()
    mean = (weights * means).sum(0)
    var = (weights * (variances + (means - mean).square())).sum(0)
    return mean, var, int(counts.sum())
