"""The multi-scale architecture's two moves: trade space for channels, and factor out half."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from realnvp.bijections.base import Bijection, Terms, zero_log_det

__all__ = ["FactorOut", "Squeeze", "halves"]

# Offsets (row, column) within each 2x2 block, in the order in which they become channels.
_OFFSETS = {
    "plain": ((0, 0), (0, 1), (1, 0), (1, 1)),
    "checkerboard": ((0, 0), (1, 1), (0, 1), (1, 0)),
}


class Squeeze(Bijection):
    """Turn each 2x2 block of pixels into four channels: ``(C, H, W) -> (4C, H/2, W/2)``.

    The first ``C`` output channels hold the blocks' first pixels, and so on
    (arXiv 1605.08803, section 3.6). The order decides what two halves of the channels mean:

    Args:
        order: "plain" takes the blocks row by row, as before channel-wise couplings (figure 3 of
            the paper); "checkerboard" takes the diagonal first, so that half of the channels is
            the checkerboard's half of the pixels: the order used before factoring out.

    >>> x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> Squeeze()(x)[0].flatten().tolist()
    [1.0, 2.0, 3.0, 4.0]
    >>> Squeeze("checkerboard")(x)[0].flatten().tolist()
    [1.0, 4.0, 2.0, 3.0]
    """

    def __init__(self, order: Literal["plain", "checkerboard"] = "plain") -> None:
        super().__init__()
        if order not in _OFFSETS:
            raise ValueError(f'order is "plain" or "checkerboard", got {order!r}')
        self.order = order

    def extra_repr(self) -> str:
        return self.order

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.permute_index(x), zero_log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.unpermute_index(z), zero_log_det(z)

    def permute_index(self, labels: Tensor) -> Tensor:
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


class FactorOut(Bijection):
    """Pass the first half of the channels straight to the latents, and the rest through ``inner``.

    The multi-scale architecture (arXiv 1605.08803, section 3.6, equations 13 to 16) as one
    bijection that keeps the tensor's shape, so that a multi-scale model is a plain
    :class:`Chain` with one latent tensor.

    Args:
        inner: a bijection that keeps the shape of the second half of the channels (the larger
            one, if their number is odd).

    >>> from realnvp.bijections import Affine
    >>> double = Affine(torch.zeros(1), torch.full((1,), 0.5))
    >>> FactorOut(double)(torch.tensor([[3.0, 5.0]]))[0]
    tensor([[ 3., 10.]])
    """

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        out, rest = halves(x)
        rest, log_det = self.inner(rest, condition)
        return torch.cat((out, rest), dim=1), log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        out, rest = halves(z)
        rest, log_det = self.inner.inverse(rest, condition)
        return torch.cat((out, rest), dim=1), log_det

    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        out, rest = halves(x)
        rest, terms = self.inner.forward_terms(rest, condition)
        return torch.cat((out, rest), dim=1), terms

    def outline(
        self, shape: tuple[int, ...], name: str
    ) -> Iterator[tuple[str, Bijection, tuple[int, ...]]]:
        yield name, self, shape
        yield from self.inner.outline((shape[0] - shape[0] // 2, *shape[1:]), f"{name}.inner")

    def permute_index(self, labels: Tensor) -> Tensor:
        out, rest = halves(labels)
        return torch.cat((out, self.inner.permute_index(rest + 1)), dim=1)

    def unpermute_index(self, labels: Tensor) -> Tensor:
        out, rest = halves(labels)
        return torch.cat((out, self.inner.unpermute_index(rest) - 1), dim=1)


def halves(x: Tensor) -> tuple[Tensor, ...]:
    """Return the channels that are factored out, and those that go on (the larger half)."""
    return x.tensor_split([x.shape[1] // 2], dim=1)
