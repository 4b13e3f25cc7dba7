"""Batch norm inside the conditioners, whose batch is that of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from realnvp.bijections.recomputing import is_recomputing
from realnvp.ranks import mean_and_variance, ranks

__all__ = ["BatchNorm2d"]


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, and over several processes the statistics are those of the whole batch.

    PyTorch's ``SyncBatchNorm`` computes on GPUs only; this one on whatever the processes reduce.
    One process takes the fused path of its parent, of which it has the parameters and the state.

    >>> BatchNorm2d(2)(torch.ones(3, 2, 4, 4)).abs().max().item()
    0.0
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if ranks() == 1:
            if is_recomputing():  # the averages have moved already
                return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
            return super().forward(x)
        # Under autocast x may be narrow: statistics need float32, as the fused kernels use.
        wide = x.to(self.running_mean.dtype)  # type: ignore[union-attr]
        mean, var, count = mean_and_variance(wide)
        if not is_recomputing():
            self._follow(mean.detach(), var.detach() * (count / max(count - 1, 1)))
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return (wide * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        """Move the running averages; like the parent, they hold the unbiased variance."""
        assert self.num_batches_tracked is not None  # this class always tracks
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
