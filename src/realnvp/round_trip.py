"""Exact round trips: latents from which a flow decodes exactly the same integers.

Dequantization puts an integer anywhere in a cell of width 1, and decoding returns the integer of
the cell that it ends in. In floating point, a round trip moves a value, so noise close to the end
of a cell may decode to a neighboring integer. :func:`exact_latents` draws the noise from the inner
90 % of each cell, decodes the latents, and checks whether rounding moves any value more than half
of the way to the end of its cell. For examples where it does, the noise is replaced by the middle
of all cells, and then by draws close to it, whose rounding differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from realnvp.bijections.dequantization import Noise
from realnvp.utils.rng import Stream

if TYPE_CHECKING:
    from realnvp.flow import Flow

__all__ = ["MARGIN", "exact_latents", "undecodable"]

MARGIN = 0.05
"""Distance of the noise from both ends of a cell, which has width 1."""

REDRAWS = 64
"""Largest number of new draws of the noise. Where a network magnifies rounding the most, one draw
in ten decodes exactly."""

NARROW = 0.4
"""Margin of the new draws: from the middle of a cell, rounding may move a value the farthest."""

SAFETY = 2
"""Factor by which the error of decoding may grow before an integer changes: rounding depends on the
batch size, the number of threads and the processor."""


def exact_latents(
    flow: Flow, x: Tensor, condition: Tensor | None = None, noise: Noise = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Encode and decode, in the mode that the flow is in, without checks of the input.

    Args:
        flow: the flow.
        x: ``(B, *shape)``.
        condition: as the layers take it, see :meth:`realnvp.Flow.as_condition`.
        noise: source of the first draw of the dequantization noise.

    Returns:
        latents; the continuous values that they encode; those that they decode to, without
        gradients, which in exact arithmetic are the same, all ``(B, *shape)``; and which examples
        do not decode exactly despite all draws, ``(B,)``.

    >>> import realnvp
    >>> flow = realnvp.image_flow((1, 4, 4), scales=1, hidden=4, blocks=1).eval()
    >>> z, v, back, lost = exact_latents(flow, torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    >>> torch.allclose(v, back, atol=1e-5), lost
    (True, tensor([False, False]))
    """
    z, v, back = _once(flow, x, condition, noise, MARGIN)
    lost = undecodable(flow, x, v, back)
    for attempt in range(REDRAWS + 1):
        index = lost.nonzero()[:, 0]
        if not len(index):
            break
        given = None if condition is None else condition[index]
        # A margin of 0.5 is the middle of the cell, whatever the noise is.
        margin = 0.5 if attempt == 0 else NARROW
        other = flow.example_noise((Stream.ROUND_TRIP, attempt), 0, len(index))
        found = _once(flow, x[index], given, other, margin)
        z, v, back = (
            old.index_copy(0, index, new) for old, new in zip((z, v, back), found, strict=True)
        )
        lost = undecodable(flow, x, v, back)
    return z, v, back, lost


def undecodable(flow: Flow, x: Tensor, v: Tensor, back: Tensor) -> Tensor:
    """Return which examples may decode to other integers, ``(B,)``.

    Args:
        flow: the flow.
        x: integers ``(B, *shape)``.
        v: their dequantized values.
        back: values that their latents decode to.
    """
    layer = flow.dequantization
    if layer is None:
        return torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    # In both directions, since clamping to the first or last level hides one of them.
    error = SAFETY * (back - v)
    return (layer.differs(x, v + error) | layer.differs(x, v - error)).flatten(1).any(1)


def _once(
    flow: Flow, x: Tensor, condition: Tensor | None, noise: Noise, margin: float
) -> tuple[Tensor, Tensor, Tensor]:
    v, _ = flow.dequantize(x, condition, noise, margin)
    z, _ = flow.body(v, condition)
    with torch.no_grad():
        back, _ = flow.body.inverse(z, condition)
    return z, v, back
