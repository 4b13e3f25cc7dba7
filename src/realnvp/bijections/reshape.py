"""Layers of the multi-scale architecture: trade space for channels, and factor out variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from realnvp.bijections.base import Bijection, Terms, zero_log_det

__all__ = ["FactorOut", "Flatten", "Refine", "Squeeze"]

# Offsets (row, column) within each 2x2 block, in the order in which they become channels.
_OFFSETS = {
    "plain": ((0, 0), (0, 1), (1, 0), (1, 1)),
    "checkerboard": ((0, 0), (1, 1), (0, 1), (1, 0)),
    "coarse": ((0, 1), (1, 0), (1, 1), (0, 0)),
}


class Squeeze(Bijection):
    """Turn each 2x2 block of pixels into four channels: ``(C, H, W) -> (4C, H/2, W/2)``.

    The first ``C`` output channels hold the blocks' first pixels, and so on
    (arXiv 1605.08803, section 3.6). The order determines what the two halves of the channels are.

    Args:
        order: "plain" takes the blocks row by row, as before channel-wise couplings (figure 3 of
            the paper); "checkerboard" takes the diagonal first, so that half of the channels is
            the checkerboard's half of the pixels: the order used before factoring out; "coarse"
            takes the first pixel of each block last, so that the last quarter of the channels is
            the image at half its size.

    >>> x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> Squeeze()(x)[0].flatten().tolist()
    [1.0, 2.0, 3.0, 4.0]
    >>> Squeeze("checkerboard")(x)[0].flatten().tolist()
    [1.0, 4.0, 2.0, 3.0]
    """

    def __init__(self, order: Literal["plain", "checkerboard", "coarse"] = "plain") -> None:
        super().__init__()
        if order not in _OFFSETS:
            raise ValueError(f'order is "plain", "checkerboard" or "coarse", got {order!r}')
        self.order = order

    def extra_repr(self) -> str:
        return self.order

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.permute_index(x), zero_log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.unpermute_index(z), zero_log_det(z)

    def permute_index(self, labels: Tensor) -> Tensor:
        if labels.ndim != 4:
            raise ValueError(f"squeezing is for images (B, C, H, W), got {tuple(labels.shape)}")
        if labels.shape[-2] % 2 or labels.shape[-1] % 2:
            raise ValueError(
                f"squeezing needs an even height and width, got {tuple(labels.shape[-2:])}"
            )
        parts = [labels[..., row::2, column::2] for row, column in _OFFSETS[self.order]]
        return torch.cat(parts, dim=1)

    def unpermute_index(self, labels: Tensor) -> Tensor:
        batch, channels, height, width = labels.shape
        if channels % 4:
            raise ValueError(f"unsqueezing needs a multiple of 4 channels, got {channels}")
        image = labels.new_empty(batch, channels // 4, 2 * height, 2 * width)
        for part, (row, column) in zip(labels.chunk(4, dim=1), _OFFSETS[self.order], strict=True):
            image[..., row::2, column::2] = part
        return image


class Flatten(Bijection):
    """Turn an image into a vector of its pixels: ``(C, H, W) -> (C * H * W,)``.

    Args:
        shape: shape of an image.

    >>> Flatten((1, 2, 2))(torch.ones(3, 1, 2, 2))[0].shape
    torch.Size([3, 4])
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def extra_repr(self) -> str:
        return str(self.shape)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.permute_index(x), zero_log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.unpermute_index(z), zero_log_det(z)

    def permute_index(self, labels: Tensor) -> Tensor:
        return labels.flatten(1)

    def unpermute_index(self, labels: Tensor) -> Tensor:
        return labels.reshape(-1, *self.shape)


class FactorOut(Bijection):
    """Pass the first channels straight to the latents, and the rest through ``inner``.

    The multi-scale architecture (arXiv 1605.08803, section 3.6, equations 13 to 16) as one
    bijection that keeps the tensor's shape, so that a multi-scale model is a plain
    :class:`Chain` with one latent tensor.

    Args:
        inner: a bijection of the other channels that keeps their shape.
        channels: number of the last channels, which ``inner`` transforms; by default half of them
            (the larger half, if their number is odd).

    Raises:
        ValueError: if there are no such channels.

    >>> from realnvp.bijections import Affine
    >>> double = Affine(torch.zeros(1), torch.full((1,), 0.5))
    >>> FactorOut(double)(torch.tensor([[3.0, 5.0]]))[0]
    tensor([[ 3., 10.]])
    """

    def __init__(self, inner: Bijection, channels: int | None = None) -> None:
        super().__init__()
        if channels is not None:
            _check_count(channels)
        self.inner = inner
        self.channels = channels

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the channels that are factored out, and those that ``inner`` transforms."""
        return x.tensor_split([x.shape[1] // 2 if self.channels is None else -self.channels], dim=1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        out, rest = self.split(x)
        rest, log_det = self.inner(rest, condition)
        return torch.cat((out, rest), dim=1), log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        out, rest = self.split(z)
        rest, log_det = self.inner.inverse(rest, condition)
        return torch.cat((out, rest), dim=1), log_det

    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        out, rest = self.split(x)
        rest, terms = self.inner.forward_terms(rest, condition)
        return torch.cat((out, rest), dim=1), terms

    def outline(
        self, shape: tuple[int, ...], name: str
    ) -> Iterator[tuple[str, Bijection, tuple[int, ...]]]:
        yield name, self, shape
        going_on = shape[0] - shape[0] // 2 if self.channels is None else self.channels
        yield from self.inner.outline((going_on, *shape[1:]), f"{name}.inner")

    def permute_index(self, labels: Tensor) -> Tensor:
        out, rest = self.split(labels)
        return torch.cat((out, self.inner.permute_index(rest + 1)), dim=1)

    def unpermute_index(self, labels: Tensor) -> Tensor:
        out, rest = self.split(labels)
        return torch.cat((out, self.inner.unpermute_index(rest) - 1), dim=1)


class Refine(Bijection):
    r"""Transform the first channels given the last ones, which pass unchanged.

    .. math:: (x_1, x_2) \mapsto (g(x_1; h(x_2)),\; x_2)

    with a bijection :math:`g` that is conditioned on features :math:`h(x_2)`. After a squeeze in
    the order "coarse", :math:`x_2` is the image at half its size and :math:`x_1` are the pixels
    between its own: with :class:`FactorOut`, a density of small images and one of their details
    (as in arXiv 2010.13821, whose small images are averages).

    Args:
        features: a network from the last channels ``(B, C, H, W)``, and the condition, to
            features ``(B, F, H, W)``.
        inner: the bijection of the first channels, conditioned on the features.
        channels: number of channels that pass unchanged, the last ones.

    Raises:
        ValueError: if there are no such channels.

    >>> from realnvp.bijections import Affine
    >>> double = Affine(torch.zeros(1), torch.full((1,), 0.5))
    >>> Refine(lambda x, c: x, double, channels=1)(torch.tensor([[3.0, 5.0]]))[0]
    tensor([[6., 5.]])
    """

    has_analytic_inverse = False  # inner layers may have to search

    def __init__(self, features: nn.Module, inner: Bijection, channels: int) -> None:
        super().__init__()
        _check_count(channels)
        self.features = features
        self.inner = inner
        self.channels = channels

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first, last = x.tensor_split([-self.channels], dim=1)
        first, log_det = self.inner(first, self.features(last, condition))
        return torch.cat((first, last), dim=1), log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first, last = z.tensor_split([-self.channels], dim=1)
        first, log_det = self.inner.inverse(first, self.features(last, condition))
        return torch.cat((first, last), dim=1), log_det


def _check_count(channels: int) -> None:
    """Raise ValueError unless a number of channels is positive: a slice of -0 would be all."""
    if channels < 1:
        raise ValueError(f"the number of channels must be 1 or more, got {channels}")
