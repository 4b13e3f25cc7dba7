"""Normalization between couplings, with its log-determinant, so that deep flows can be trained."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from realnvp.bijections.base import (
    Bijection,
    check_channels,
    check_exponent,
    spread_log_det,
)
from realnvp.utils.distributed import mean_and_variance

__all__ = ["ActNorm", "RunningBatchNorm", "is_recomputing", "recomputing"]

_recomputing = threading.local()


def is_recomputing() -> bool:
    """Return True inside :func:`recomputing`, where statistics must not be updated again."""
    return getattr(_recomputing, "depth", 0) > 0


@contextmanager
def recomputing() -> Iterator[None]:
    """Do not update statistics inside this context, in which layers run for the second time."""
    _recomputing.depth = getattr(_recomputing, "depth", 0) + 1
    try:
        yield
    finally:
        _recomputing.depth -= 1


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    check_channels(len(value), x)
    return value.view(1, -1, *(1 for _ in x.shape[2:]))


class RunningBatchNorm(Bijection):
    r"""Batch norm by running averages (arXiv 1605.08803, section 3.7 and appendix E).

    .. math::
        z = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
        \log |\det J| = -\tfrac{1}{2} H W \sum_c \log(\sigma_c^2 + \epsilon), \qquad
        \mu = (1 - m)\,\mu_\mathrm{running} + m\,\mu_\mathrm{batch}

    and similarly for :math:`\sigma^2`, the *biased* variance (PyTorch keeps the unbiased one). In
    training mode, the averages are updated with every batch, gradients flow through the batch's
    part only, and the first batch initializes them. In evaluation mode they stay as they are, and
    only then can the layer be inverted. Over several processes, the batch's statistics are over
    all of them.

    Args:
        channels: channels of an image ``(B, C, H, W)``, or columns of a vector ``(B, C)``.
        momentum: weight :math:`m` of the current batch.
        eps: added to the variance.

    Attributes:
        replayed: the averages of the batch that is being recomputed,
            see :mod:`realnvp.bijections.recompute`.

    >>> norm = RunningBatchNorm(1)
    >>> z, log_det = norm(torch.tensor([[-2.0], [2.0]]))  # variance 4
    >>> log_det
    tensor([-0.6931, -0.6931])
    """

    term = "norm"

    running_mean: Tensor
    running_var: Tensor
    initialized: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 2.0**-16) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.replayed: tuple[Tensor, Tensor] | None = None
        self.register_buffer("running_mean", torch.zeros(channels))
        # A power of two as eps makes 1 - eps exact, so that construction gives the identity.
        self.register_buffer("running_var", torch.full((channels,), 1 - eps))
        self.register_buffer("initialized", torch.tensor(False))

    def check_values(self) -> None:
        if not (self.running_var >= 0).all():
            raise ValueError(f"running_var must be 0 or more, got {self.running_var.min().item()}")

    def _update(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_channels(len(self.running_mean), x)
        mean, var, count = mean_and_variance(x)
        if count < 2:
            raise ValueError(
                "a batch of one value per channel has no variance to normalize by: use larger "
                'batches, or norm "act"'
            )
        if is_recomputing():  # the averages have been updated already: only gradients flow
            mean, var = (self.momentum * (value - value.detach()) for value in (mean, var))
            old_mean, old_var = self._averages()
            return old_mean + mean, old_var + var
        with torch.no_grad():
            # where() instead of a branch: a branch would wait for the GPU at every layer
            old_mean = torch.where(self.initialized, self.running_mean, mean)
            old_var = torch.where(self.initialized, self.running_var, var)
        mean = (1 - self.momentum) * old_mean + self.momentum * mean
        var = (1 - self.momentum) * old_var + self.momentum * var
        with torch.no_grad():
            self.running_mean.copy_(mean)
            self.running_var.copy_(var)
            self.initialized.fill_(True)
        return mean, var

    def _averages(self) -> tuple[Tensor, Tensor]:
        """Return the running averages; in recomputing a batch, as in its first pass."""
        if is_recomputing() and self.replayed is not None:
            return self.replayed
        return self.running_mean, self.running_var

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, var = self._update(x) if self.training else self._averages()
        var = var + self.eps
        z = (x - _per_channel(mean, x)) * _per_channel(var.rsqrt(), x)
        return z, spread_log_det(-0.5 * var.log(), x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.training and not is_recomputing():
            raise RuntimeError(
                "RunningBatchNorm has an inverse in evaluation mode only: call .eval() first"
            )
        mean, var = self._averages()
        var = var + self.eps
        x = z * _per_channel(var.sqrt(), z) + _per_channel(mean, z)
        return x, spread_log_det(0.5 * var.log(), z)


class ActNorm(Bijection):
    r"""A learned shift and scale per channel, initialized by the first batch (arXiv 1807.03039).

    .. math:: z = (x - \mathrm{shift}) \odot \exp(-\mathrm{log\_scale}), \qquad
        \log |\det J| = -H W \sum_c \mathrm{log\_scale}_c

    The first batch in training mode sets shift and scale so that its output has mean 0 and
    standard deviation 1 per channel; sampling and evaluation never do. Over several processes, it
    is the batch of all.

    Args:
        channels: channels of an image ``(B, C, H, W)``, or columns of a vector ``(B, C)``.
        floor: smallest standard deviation, so that noise in a constant channel is not amplified.

    >>> norm = ActNorm(1)
    >>> norm(torch.tensor([[1.0], [3.0]]))[0].flatten().tolist()
    [-1.0, 1.0]
    """

    term = "norm"

    initialized: Tensor

    def __init__(self, channels: int, floor: float = 1e-3) -> None:
        super().__init__()
        self.floor = floor
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialized", torch.tensor(False))
        self._is_initialized = (
            False  # a copy of the flag on the CPU: reading a buffer waits for the GPU
        )

    def check_values(self) -> None:
        check_exponent("log_scale", self.log_scale)

    def _initialize(self, x: Tensor) -> None:
        if not self.initialized:
            check_channels(len(self.shift), x)
            with torch.no_grad():
                mean, var, _ = mean_and_variance(x)
                self.shift.copy_(mean)
                self.log_scale.copy_(var.sqrt().clamp(min=self.floor).log())
                self.initialized.fill_(True)
        self._is_initialized = True

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_initialized = False

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.training and not self._is_initialized and not is_recomputing():
            self._initialize(x)
        z = (x - _per_channel(self.shift, x)) * _per_channel(torch.exp(-self.log_scale), x)
        return z, spread_log_det(-self.log_scale, x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = z * _per_channel(torch.exp(self.log_scale), z) + _per_channel(self.shift, z)
        return x, spread_log_det(self.log_scale, z)
