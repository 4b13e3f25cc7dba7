r"""Images and labels to bits and back, under the density of a flow.

Bits-back coding of the dequantization noise (arXiv 1905.08500, section 3.4) turns the bound on the
likelihood into a size: the noise :math:`u` is popped from the stack under :math:`q(u | x)`, the
flow takes the point :math:`x + u` to its latents, which are pushed under the prior. The stack grows
by

.. math:: -\log_2 p(x + u) + \log_2 q(u | x) \text{ bits,}

the negative of what :meth:`realnvp.Flow.log_prob` returns. The decoder pops the latents, finds
:math:`x` and :math:`u`, and pushes the noise back: the stack then holds the same bits as before.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from realnvp.bijections import Chain, Dequantize, Logit, VariationalDequantize
from realnvp.codec.layers import (
    UNIT_BITS,
    Coding,
    Piece,
    Segments,
    backward,
    backward_map,
    forward,
    forward_map,
)
from realnvp.codec.stack import (
    Stack,
    Unrepresentable,
    draw_normal,
    pop_normal,
    push_normal,
    return_normal,
)
from realnvp.flow import Flow

__all__ = ["DEPTHS", "FlowCoder"]

DEPTHS = (10, 8, 6, 5, 4)
"""Depths of the noise, the finest first: with it, sizes are within 0.1 % of the likelihood."""

LEAST_PRECISION = 5
"""Least precision of a grid: the table of the normal distribution has it."""


class FlowCoder:
    """Code groups of images by a flow, on a stack.

    Args:
        flow: an image flow.
        dtype: type in which networks compute.

    Raises:
        ValueError: if the flow does not model images, or has a layer without a rule.
    """

    def __init__(self, flow: Flow, dtype: torch.dtype = torch.float32) -> None:
        if flow.levels is None or len(flow.shape) != 3:
            raise ValueError("this is a model of vectors, and only images can be compressed")
        self.flow = copy.deepcopy(flow).to("cpu", dtype).eval().requires_grad_(False)
        self.flow.set_compute_dtype(None)
        self.dtype = dtype

    def encode(self, stack: Stack, x: Tensor, condition: Tensor | None, depth: int) -> None:
        """Push images.

        Args:
            stack: the stack, which is left in an intermediate state if this raises.
            x: integers ``(B, C, H, W)``.
            condition: labels ``(B,)`` or vectors ``(B, K)``, which the decoder has to know.
            depth: bits for the noise of a pixel: more make the size closer to the likelihood, and
                need more bits on the stack before.

        Raises:
            Exhausted: if the stack holds too few bits.
            Unrepresentable: if the flow maps an image out of the range of the integers.
        """
        context = self.flow.as_condition(condition, len(x))
        z = self._dequantize(stack, x.long(), context, depth)
        coding = self._coding(stack, context, depth)
        z = forward(self.flow.body, z, coding)
        push_normal(stack, z.reshape(-1).numpy(), coding.precision)

    def decode(self, stack: Stack, count: int, condition: Tensor | None, depth: int) -> Tensor:
        """Pop ``count`` images that :meth:`encode` pushed."""
        context = self.flow.as_condition(condition, count)
        coding = self._coding(stack, context, depth)
        z = torch.from_numpy(pop_normal(stack, count * self.flow.dim, coding.precision))
        z = backward(self.flow.body, z.view(count, *self.flow.shape), coding)
        return self._quantize(stack, z, context, depth)

    def _coding(self, stack: Stack, condition: Tensor | None, depth: int) -> Coding:
        """Return how the flow's layers code."""
        return Coding(stack, self._precision(depth), self.dtype, condition, _pieces(depth))

    def _precision(self, depth: int) -> int:
        """Return the precision of latents."""
        return max((self.levels - 1).bit_length() + depth - UNIT_BITS, LEAST_PRECISION)

    def _data_precision(self, depth: int) -> int:
        """Return the precision of dequantized values, which the logit, if there is one, spreads."""
        body = self.flow.body
        first = body[0] if isinstance(body, Chain) and len(body) else None
        return self._precision(depth) + (UNIT_BITS if isinstance(first, Logit) else 0)

    @property
    def levels(self) -> int:
        """Number of grey levels."""
        return self._dequantize_layer().levels

    def _dequantize_layer(self) -> Dequantize:
        layer = self.flow.dequantization
        assert isinstance(layer, Dequantize)  # the flow has levels
        return layer

    # ------------------------------------------------------------------ dequantization

    def _bins(self, x: Tensor, precision: int) -> tuple[Tensor, Tensor]:
        """Return the first integers of pixels' bins on the grid, and how many there are."""
        first, last = (
            -torch.div(-((x + i) << precision), self.levels, rounding_mode="floor") for i in (0, 1)
        )
        return first, last - first

    def _dequantize(self, stack: Stack, x: Tensor, condition: Tensor | None, depth: int) -> Tensor:
        """Pop noise, and return points in the pixels' bins."""
        first, sizes = self._bins(x, self._data_precision(depth))
        layer = self._dequantize_layer()
        if not isinstance(layer, VariationalDequantize):
            return first + torch.from_numpy(stack.pop(sizes.reshape(-1).numpy())).view(x.shape)
        coding = self._noise_coding(stack, layer, x, condition, depth)
        noise = torch.from_numpy(draw_normal(stack, x.numel(), coding.precision)).view(x.shape)
        noise = forward(layer.noise, noise, coding)
        return first + forward_map(coding, noise, _normal_cdf(sizes, coding.precision))

    def _quantize(self, stack: Stack, z: Tensor, condition: Tensor | None, depth: int) -> Tensor:
        """Return the pixels of points, and push the noise."""
        precision = self._data_precision(depth)
        x = (z * self.levels) >> precision
        first, sizes = self._bins(x, precision)
        layer = self._dequantize_layer()
        if not isinstance(layer, VariationalDequantize):
            stack.push((z - first).reshape(-1).numpy(), sizes.reshape(-1).numpy())
            return x
        coding = self._noise_coding(stack, layer, x, condition, depth)
        noise = backward_map(coding, z - first, _normal_cdf(sizes, coding.precision))
        noise = backward(layer.noise, noise, coding)
        return_normal(stack, noise.reshape(-1).numpy(), coding.precision)
        return x

    def _noise_coding(
        self, stack: Stack, layer: VariationalDequantize, x: Tensor, condition: Tensor | None,
        depth: int,
    ) -> Coding:  # fmt: skip
        """Return how learned noise is coded, given the pixels."""
        scaled = x.to(self.dtype) * (2 / (layer.levels - 1)) - 1
        features = layer.features(scaled, condition)
        precision = max(depth - 1, LEAST_PRECISION)
        return Coding(stack, precision, self.dtype, features, _pieces(depth))


def _pieces(depth: int) -> int:
    """Return the number of pieces into which an image is divided: more where bits are scarce."""
    return 64 if depth < DEPTHS[0] else 4


def _normal_cdf(sizes: Tensor, precision: int, limit: int = 6, segment_bits: int = 3) -> Segments:
    """Return the normal distribution function, times the sizes of pixels' bins.

    Args:
        sizes: number of integers in the bin of each pixel.
        precision: bits after the point of the noise.
        limit: learned noise is coded within this many standard deviations, which normal noise
            exceeds once in 500 million draws.
        segment_bits: the function is linear on segments of 1/8, at a cost of 0.0009 bits.
    """
    width = precision - segment_bits
    half = limit << segment_bits
    # A bin of 2^18 values, however many integers it has: each segment gets at least one of them.
    fine = max(18 - int(sizes.min()).bit_length(), 0)

    def ends(j: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
        if (j.abs() > half).any():
            raise Unrepresentable("learned noise is out of its range")
        mass = torch.special.ndtr(j.double() * 2.0**-segment_bits)
        room = (sizes[piece] << fine) - 2 * half
        low = torch.special.ndtr(torch.tensor(-float(limit), dtype=torch.float64))
        fraction = ((mass - low) / (1 - 2 * low)).clamp(0, 1)
        return (fraction * room).round().long() + j + half, torch.zeros_like(j)

    def guess(values: Tensor, piece: Piece) -> Tensor:
        room = sizes[piece] << fine
        x = torch.special.ndtri(((values + 0.5) / room).clamp(1e-12, 1 - 1e-12))
        j = (x * 2.0**segment_bits).floor().long()
        return j.clamp(-half, half - 1)

    return Segments(width, fine, ends, guess)
