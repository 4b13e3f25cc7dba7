r"""Coupling layers: half of the variables determine how the other half is transformed.

A mask splits :math:`x` into a *passive* part, which passes unchanged, and an *active* part. A
conditioner, any network, reads the passive part and gives the parameters of an elementwise map of
the active one (arXiv 1605.08803, section 3.2). The Jacobian is triangular whatever the network,
so its log-determinant is the sum of the elementwise ones; and since the map leaves the passive part
unchanged, the inverse computes the same parameters and never inverts the network.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from realnvp.bijections.base import Bijection, check_exponent, sum_per_example
from realnvp.utils.tracing import is_transformed

__all__ = ["AffineCoupling", "BlockMask", "ChannelMask", "CheckerboardMask", "Coupling", "Mask"]


class Mask(Protocol):
    """Protocol of the masks, which split a coupling's input and join it again."""

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``x`` into ``(passive, active)``."""

    def take(self, parameters: Tensor) -> Tensor:
        """Return the part of a conditioner's output that belongs to the active part."""

    def merge(self, passive: Tensor, active: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        """Join the parts, and sum the active part's log-determinants per example."""

    def sizes(self, channels: int) -> tuple[int, int]:
        """Return the channels of the passive and the active part of ``channels`` channels."""


class ChannelMask:
    """Split the channels of an image, or the columns of a vector, into two halves.

    Args:
        flip: the first half is passive; with ``flip`` the second. An odd number of channels makes
            the first half the larger one.

    >>> ChannelMask().split(torch.tensor([[1, 2, 3]]))
    (tensor([[1, 2]]), tensor([[3]]))
    """

    def __init__(self, flip: bool = False) -> None:
        self.flip = flip

    def __repr__(self) -> str:
        return f"ChannelMask({'flip' if self.flip else ''})"

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        half = (x.shape[1] + 1) // 2
        first, second = x.split_with_sizes((half, x.shape[1] - half), dim=1)
        return (second, first) if self.flip else (first, second)

    def take(self, parameters: Tensor) -> Tensor:
        return parameters

    def merge(self, passive: Tensor, active: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        parts = (active, passive) if self.flip else (passive, active)
        return torch.cat(parts, dim=1), sum_per_example(log_det)

    def sizes(self, channels: int) -> tuple[int, int]:
        halves = (channels + 1) // 2, channels // 2
        return halves[::-1] if self.flip else halves


class BlockMask:
    """Split off one of several equal blocks of channels: it is active, all others are passive.

    Args:
        index: index of the active block.
        blocks: number of blocks, which divides the number of channels.

    Raises:
        ValueError: if there is no such block.

    >>> BlockMask(1, 3).split(torch.tensor([[1, 2, 3]]))
    (tensor([[1, 3]]), tensor([[2]]))
    """

    def __init__(self, index: int, blocks: int) -> None:
        if not 0 <= index < blocks:
            raise ValueError(f"the active one of {blocks} blocks cannot be block {index}")
        self.index = index
        self.blocks = blocks

    def __repr__(self) -> str:
        return f"BlockMask({self.index}, {self.blocks})"

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[1] % self.blocks:
            raise ValueError(f"{x.shape[1]} channels have no {self.blocks} equal blocks")
        size = x.shape[1] // self.blocks
        before, active, after = x.tensor_split([self.index * size, (self.index + 1) * size], dim=1)
        return torch.cat((before, after), dim=1), active

    def take(self, parameters: Tensor) -> Tensor:
        return parameters

    def merge(self, passive: Tensor, active: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        before, after = passive.tensor_split([self.index * active.shape[1]], dim=1)
        return torch.cat((before, active, after), dim=1), sum_per_example(log_det)

    def sizes(self, channels: int) -> tuple[int, int]:
        size = channels // self.blocks
        return channels - size, size


class CheckerboardMask:
    """Split an image like the squares of a chess board (arXiv 1605.08803, figure 3, left).

    The passive part keeps the image's shape, with zeros at the other part's squares, so that the
    conditioner's convolutions see the passive pixels where they are. The active part holds its own
    squares only, half of each row: what is computed for the others would be discarded. (An odd row
    cannot be halved: such an image keeps its shape, with zeros.)

    Args:
        flip: pixels with even ``row + column`` are passive; with ``flip`` the odd ones.

    >>> passive, active = CheckerboardMask().split(torch.arange(4.0).view(1, 1, 2, 2))
    >>> passive, active
    (tensor([[[[0., 0.], [0., 3.]]]]), tensor([[[[1.], [2.]]]]))
    """

    def __init__(self, flip: bool = False) -> None:
        self.flip = flip

    def __repr__(self) -> str:
        return f"CheckerboardMask({'flip' if self.flip else ''})"

    def _passive(self, x: Tensor) -> Tensor:
        rows = torch.arange(x.shape[-2], device=x.device)[:, None]
        columns = torch.arange(x.shape[-1], device=x.device)
        return ((rows + columns) % 2 == int(self.flip)).to(x.dtype)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.ndim != 4:  # the rows of a batch of vectors are its examples
            raise ValueError(
                f"a checkerboard is for images (B, C, H, W), got {tuple(x.shape)}: vectors need a "
                "ChannelMask"
            )
        return x * self._passive(x), self.take(x)

    def take(self, parameters: Tensor) -> Tensor:
        if parameters.shape[-1] % 2:
            return parameters * (1 - self._passive(parameters))
        first = int(not self.flip)
        if is_transformed():
            return _take(parameters, first)
        return _Squares.apply(parameters, first, False)

    def merge(self, passive: Tensor, active: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        if passive.shape[-1] % 2:  # the coupling's output at the zeros must not count
            squares = 1 - self._passive(passive)
            active, log_det = active * squares, log_det * squares
        else:
            first = int(not self.flip)
            active = (
                _put(active, first) if is_transformed() else _Squares.apply(active, first, True)
            )
        return passive + active, sum_per_example(log_det)

    def sizes(self, channels: int) -> tuple[int, int]:
        return channels, channels


def _take(x: Tensor, first: int) -> Tensor:
    """Take the squares with odd ``row + column + first``: ``(..., H, W) -> (..., H, W / 2)``."""
    out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    out[..., 0::2, :] = x[..., 0::2, first::2]
    out[..., 1::2, :] = x[..., 1::2, 1 - first :: 2]
    return out


def _put(x: Tensor, first: int) -> Tensor:
    """Transpose :func:`_take`: put zeros on the other squares."""
    out = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])
    out[..., 0::2, first::2] = x[..., 0::2, :]
    out[..., 1::2, 1 - first :: 2] = x[..., 1::2, :]
    return out


class _Squares(torch.autograd.Function):
    """:func:`_take` or :func:`_put`, each of which transposes the other, without copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: int, put: bool) -> Tensor:
        ctx.first, ctx.put = first, put
        return _put(x, first) if put else _take(x, first)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Squares.apply(grad, ctx.first, not ctx.put), None, None


class Coupling(Bijection):
    """Base class of coupling layers, with any elementwise map.

    A subclass implements :meth:`transform`, :meth:`inverse_transform` and :meth:`num_params`. The
    conditioner maps the passive part, and the condition if there is one, to that many times the
    channels of the active part, grouped by parameter.

    A subclass with options of its own takes them by keyword after these arguments, in its
    constructor and in :meth:`num_params`; see :func:`realnvp.register_coupling`.

    Args:
        mask: splits the input into its passive and active parts.
        conditioner: a network ``(passive, condition) -> parameters``.
        channels: channels of the active part.
    """

    def __init__(self, mask: Mask, conditioner: nn.Module, channels: int) -> None:
        super().__init__()
        self.mask = mask
        self.conditioner = conditioner
        self.channels = channels

    def extra_repr(self) -> str:
        return f"{self.mask}, {type(self.conditioner).__name__}"

    @staticmethod
    @abstractmethod
    def num_params(*args: Any, **options: Any) -> int:
        """Return the number of parameters of each active variable, given the options."""

    @abstractmethod
    def transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map the active part elementwise; return it with the elementwise log-derivatives.

        Args:
            active: active part, ``(B, C, ...)``.
            parameters: ``(B, num_params * C, ...)``: the first parameter of all C channels, then
                the second, and so on.

        Returns:
            the mapped values and the logarithms of their derivatives, each ``(B, C, ...)``.
        """

    @abstractmethod
    def inverse_transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Invert :meth:`transform`; return the log-derivatives of the inverse.

        Arguments and results have the shapes of :meth:`transform`.
        """

    def penalty(self) -> Tensor | float:
        """Return the sum of squares of learned scales, which the loss penalizes; 0 if none."""
        return 0.0

    def compute_parameters(self, passive: Tensor, condition: Tensor | None) -> Tensor:
        """Return the elementwise map's parameters, of the active part's shape but the channels."""
        parameters = self.mask.take(self.conditioner(passive, condition))
        # Convolutions return the channels last in memory. Parameters are groups of channels, which
        # would be scattered in small pieces, and elementwise functions would take up to four times
        # as long.
        return parameters.contiguous() if parameters.ndim == 4 else parameters

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        passive, active = self.mask.split(x)
        parameters = self.compute_parameters(passive, condition)
        return self.mask.merge(passive, *self._checked(active, self.transform(active, parameters)))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        passive, active = self.mask.split(z)
        parameters = self.compute_parameters(passive, condition)
        mapped = self.inverse_transform(active, parameters)
        return self.mask.merge(passive, *self._checked(active, mapped))

    def _checked(self, active: Tensor, mapped: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return values and log-derivatives, which have been broadcast if the sizes are wrong."""
        if not isinstance(mapped[1], Tensor):
            raise ValueError(
                f"{type(self).__name__} returned log-derivatives of type "
                f"{type(mapped[1]).__name__}, not a tensor of shape {tuple(active.shape)}"
            )
        if mapped[0].shape == mapped[1].shape == active.shape:
            return mapped
        raise ValueError(
            f"{type(self).__name__} maps {active.shape[1]} active channels, but its conditioner, "
            f"or its number of channels ({self.channels}), is made for others: values of shape "
            f"{tuple(active.shape)} became {tuple(mapped[0].shape)}, with log-derivatives of "
            f"shape {tuple(mapped[1].shape)}"
        )


class AffineCoupling(Coupling):
    r"""The affine coupling of Real NVP (arXiv 1605.08803, equations 7 to 9, and section 4.1).

    .. math::
        z_a = x_a \odot \exp(s) + t, \qquad s = \mathrm{scale} \odot \tanh(\tilde s), \qquad
        (\tilde s, t) = \mathrm{conditioner}(x_p), \qquad \log |\det J| = \sum s

    with one learned :math:`\mathrm{scale}` per channel: a smooth bound on :math:`s`, where a hard
    clamp would stop gradients. Its L2 penalty is :meth:`penalty`.

    Args:
        mask: splits the input into its passive and active parts.
        conditioner: a network whose output has twice the channels of the active part:
            :math:`\tilde s`, then :math:`t`.
        channels: channels of the active part.

    >>> from realnvp.conditioners import MLP
    >>> layer = AffineCoupling(ChannelMask(), MLP(1, 2, hidden=8, blocks=1), channels=1)
    >>> layer(torch.tensor([[1.0, 2.0]]))  # starts as the identity
    (tensor([[1., 2.]], grad_fn=...), tensor([0.], grad_fn=...))
    """

    def __init__(self, mask: Mask, conditioner: nn.Module, channels: int) -> None:
        super().__init__(mask, conditioner, channels)
        self.scale = nn.Parameter(torch.ones(channels))

    @staticmethod
    def num_params() -> int:
        return 2

    def check_values(self) -> None:
        check_exponent("scale", self.scale)

    def _scale_shift(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = parameters.chunk(2, dim=1)
        scale = self.scale.view(-1, *[1] * (raw.ndim - 2))
        return scale * torch.tanh(raw), shift

    def transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_shift(parameters)
        return active * torch.exp(log_scale) + shift, log_scale

    def inverse_transform(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_shift(parameters)
        log_scale = -log_scale
        return (active - shift) * torch.exp(log_scale), log_scale

    def penalty(self) -> Tensor:
        """Return the sum of the squared learned scales; the paper's weight is 5e-5 (section 4)."""
        return self.scale.square().sum()
