"""Weighted samples: how many they are worth, and draws in proportion to their weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def draw_weighted(
    weight: Tensor, generator: torch.Generator | None = None, count: int | None = None
) -> Tensor:
    """Return indices of samples, drawn in proportion to their weights, in ascending order.

    By systematic sampling, each one is drawn its expected number of times, rounded down or up.

    Args:
        weight: ``(N,)`` weights of the samples.
        generator: source of the one random number; PyTorch's global one by default.
        count: number of indices; N by default.

    >>> draw_weighted(torch.tensor([1.0, 0.0, 3.0, 0.0]), torch.Generator().manual_seed(0))
    tensor([0, 2, 2, 2])
    """
    device = torch.device("cpu") if generator is None else generator.device
    count = len(weight) if count is None else count
    ends = weight.double().to(device).cumsum(0)
    first = torch.rand((), generator=generator, dtype=torch.float64, device=device)
    places = (torch.arange(count, device=device) + first) / count
    index = torch.searchsorted(ends, places * ends[-1], right=True)
    return index.clamp(max=len(weight) - 1)


def effective_fraction(log_weights: Tensor) -> float:
    r"""Return the effective sample size of weights, as a fraction of their number.

    .. math:: \frac{(\sum w)^2}{n \sum w^2}

    >>> effective_fraction(torch.zeros(4)), effective_fraction(torch.tensor([0.0, -math.inf]))
    (1.0, 0.5)
    """
    if not log_weights.max() > -math.inf:
        return 0.0
    ratio = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)
    return float(ratio.exp()) / len(log_weights)
