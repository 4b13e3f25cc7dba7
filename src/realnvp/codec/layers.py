r"""Layers on integers: each is an exact bijection of a grid point and the stack, both ways.

A value :math:`x` stands on the grid of multiples of :math:`2^{-p}`, as an integer. A layer that
maps it by :math:`f` with slope :math:`f'` is not a bijection of integers: where :math:`f' > 1`,
several integers are about equally good results, and where :math:`f' < 1`, several integers have the
same result. So a layer maps *pairs* of an integer and the stack: it pops which result to take, and
pushes which integer was mapped. On average the stack loses :math:`\log_2 f'` bits,
which is the layer's part of the log-determinant, paid in bits.

**Elementwise layers and couplings** (:func:`forward_map`). An increasing :math:`f` is replaced by
the function that is linear between the ends :math:`j W` of segments of :math:`W = 2^w` integers,
whose values are rounded on a grid finer by :math:`2^h`:

.. math:: F_j = \mathrm{round}\big(2^{p+h} f(j W 2^{-p})\big) + j, \qquad n_j = F_{j+1} - F_j \ge 1.

(The :math:`+ j` keeps :math:`n_j` positive where :math:`f` is flat; it changes the slope by
:math:`2^{-(w+h)}`. Where :math:`f` is steeper, :math:`F_j` is rounded further, to a multiple of a
power of two, so that :math:`n_j` is a small number times a power of two, which the coder codes
without loss.) In a segment, with :math:`x = j W + i`, the map is the division of integers that
makes the modular scale transform of arXiv 2111.00965:

.. math:: i \, n_j + r = q \, W + r', \qquad 0 \le r < n_j, \quad 0 \le r' < W:

pop :math:`r`, uniform on :math:`n_j` values, and push :math:`r'`, uniform on :math:`W`; the result
is :math:`F_j + q` on the finer grid, of which the last :math:`h` bits are pushed, too. It costs
:math:`w + h - \log_2 n_j = -\log_2 f'` bits. Backwards, :math:`j` is the segment
in which the value lies: it is guessed by the layer's inverse, which may be inexact, and then found
by a search among integers. So only :math:`f` itself has to give the same result every time.

**Linear layers** are a scale per channel, and additions of rounded multiples of other channels,
which are subtracted again. **Layers that move entries** (squeeze) move integers.

A new kind of layer needs one entry in :data:`RULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realnvp.bijections import (
    ActNorm,
    Affine,
    Bijection,
    Chain,
    Coupling,
    FactorOut,
    Inverse,
    InvertibleLinear,
    Logit,
    RunningBatchNorm,
    Squeeze,
)
from realnvp.bijections.class_means import ClassMeans
from realnvp.bijections.reshape import Flatten, Refine
from realnvp.codec.stack import Stack, Unrepresentable

__all__ = ["RULES", "UNIT_BITS", "Coding", "Segments", "backward", "forward", "rule_of"]

LARGEST = 2.0**50
"""Largest integer of a grid: float64 holds it, and int64 its multiples."""

PARAMETER_BITS = 12
"""Parameters of couplings are rounded to multiples of :math:`2^{-12}`, so that the last bits of a
network's output, which differ between machines, do not matter."""

SEGMENT_BITS = 9
"""Segments have a width of :math:`2^{-9}`, or of one grid step if that is larger."""

UNIT_BITS = 4
"""Bits by which the grid of the unit interval is finer: the slope of the logit is 4 and more."""


Piece = Any
"""Index of a part of a tensor: ``...`` and slices."""

WHOLE: Piece = (...,)


@dataclass(frozen=True)
class Coding:
    """How layers code integers, which represent multiples of ``2**-precision``.

    Args:
        stack: the stack of bits.
        precision: bits after the point.
        dtype: type in which conditioners compute.
        condition: condition as layers take it, if there is one.
        pieces: approximate number of rectangles into which an image is divided, which are coded
            one after the other: with more, fewer bits are popped before others are pushed, but
            coding takes longer.
    """

    stack: Stack
    precision: int
    dtype: torch.dtype
    condition: Tensor | None = None
    pieces: int = 4

    def value(self, x: Tensor) -> Tensor:
        """Return the values that integers stand for, for a conditioner."""
        return (x.double() * 2.0**-self.precision).to(self.dtype)

    @property
    def network_condition(self) -> Tensor | None:
        """The condition in the type in which networks compute."""
        return None if self.condition is None else self.condition.to(self.dtype)


# ---------------------------------------------------------------------- increasing maps


@dataclass(frozen=True)
class Segments:
    """An increasing map of each entry of a tensor, linear on segments between integers.

    Args:
        width: bits :math:`w` of the width of a segment.
        fine: bits :math:`h` by which values are finer than the grid of the result.
        ends: ``(j, piece)`` -> the values :math:`F_j`, as integers, for a piece of the tensor (an
            index), and the exponents :math:`a_j` of powers of two that divide them.
        guess: ``(values, piece)`` -> approximately the segments in which the map has these values.
    """

    width: int
    fine: int
    ends: Callable[[Tensor, Piece], tuple[Tensor, Tensor]]
    guess: Callable[[Tensor, Piece], Tensor]

    def span(self, j: Tensor, piece: Piece) -> tuple[Tensor, Tensor, Tensor]:
        """Return the values at the lower ends of segments, and the lengths as ``n << a``."""
        low, first = self.ends(j, piece)
        high, second = self.ends(j + 1, piece)
        exponent = torch.minimum(first, second)
        return low, (high - low) >> exponent, exponent

    def locate(
        self, values: Tensor, piece: Piece, live: Tensor | None, j: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the segments with these values, and what :meth:`span` returns of them.

        The search begins at ``j``.
        """
        low_bound = torch.full_like(j, -(2**60))
        high_bound = torch.full_like(j, 2**60)
        for _ in range(200):
            low, n, exponent = self.span(j, piece)
            length = n << exponent
            below, above = values < low, values >= low + length
            if live is not None:
                below, above = below & live, above & live
            wrong = below | above
            if not wrong.any():
                return j, low, n, exponent
            # A step by the slope; where that leaves the known interval, bisection.
            high_bound = torch.where(below, torch.minimum(high_bound, j), high_bound)
            low_bound = torch.where(above, torch.maximum(low_bound, j + 1), low_bound)
            step = torch.div(values - low, length.clamp(min=1), rounding_mode="floor")
            new = torch.where(wrong, j + step, j)
            middle = torch.div(low_bound + high_bound, 2, rounding_mode="floor")
            outside = (new < low_bound) | (new >= high_bound)
            j = torch.where(wrong & outside, middle, new)
        raise Unrepresentable("a map has no inverse at a value")


def smooth(
    function: Callable[[Tensor, Piece], tuple[Tensor, Tensor]],
    inverse: Callable[[Tensor, Piece], Tensor],
    precision: int,
    out: int,
    slope_bits: int = 18,
    length_bits: int = 10,
) -> Segments:
    """Return the segments of an increasing function.

    Args:
        function: ``(x, piece)`` -> its values, float64, and about the logarithms of its slopes.
        inverse: its approximate inverse.
        precision: precision of the grid of ``x``.
        out: precision of the grid of the values.
        slope_bits: bits of the slope of a segment, :math:`w + h`, so that 0.000004 is added to the
            slope.
        length_bits: bits of the length of a segment, without trailing zeros.
    """
    width = max(precision - SEGMENT_BITS, 0)
    fine = max(slope_bits - width + precision - out, 0)

    def ends(j: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
        value, log_slope = function(j.double() * 2.0 ** (width - precision), piece)
        bits = log_slope / math.log(2) + (width - precision + out + fine - length_bits)
        exponent = torch.nan_to_num(bits, 0.0).clamp(0, 40).long()
        value = round_to_integers(value * 2.0 ** (out + fine)) + j
        return ((value >> exponent) << exponent), exponent

    def guess(values: Tensor, piece: Piece) -> Tensor:
        x = inverse(values.double() * 2.0 ** -(out + fine), piece)
        j = (x * 2.0 ** (precision - width)).floor()
        return torch.nan_to_num(j, 0.0, LARGEST, -LARGEST).clamp(-LARGEST, LARGEST).long()

    return Segments(width, fine, ends, guess)


def round_to_integers(values: Tensor) -> Tensor:
    """Return values rounded to integers.

    Raises:
        Unrepresentable: if one is not finite, or too large.
    """
    if not (values.abs() < LARGEST).all():  # NaN compares as False
        raise Unrepresentable("a value is not finite, or too large")
    return values.round().long()


def _pieces(x: Tensor, count: int) -> list[Piece]:
    """Return about ``count`` rectangles of images ``(B, C, H, W)``: rows, and parts of rows.

    Vectors are one piece.
    """
    if x.ndim < 3:
        return [WHOLE]
    height, width = x.shape[2:]
    tall = -(-height // count)
    wide = -(-width // max(1, count // height))
    return [
        (..., slice(top, top + tall), slice(left, left + wide))
        for top in range(0, height, tall)
        for left in range(0, width, wide)
    ]


def forward_map(
    coding: Coding, x: Tensor, segments: Segments, live: Tensor | None = None
) -> Tensor:
    """Map integers ``(B, C, H, W)``, piece by piece.

    Entries that are not ``live``, if any, are 0 and stay 0.
    """
    stack, width, fine = coding.stack, segments.width, segments.fine
    j, rest = x >> width, x & ((1 << width) - 1)
    low, n, exponent = segments.span(j, WHOLE)
    if live is not None:
        low, n, exponent = low * live, torch.where(live, n, 1), exponent * live
    if not (n > 0).all():
        raise Unrepresentable("a map does not increase")
    z = torch.zeros_like(x)
    for piece in _pieces(x, coding.pieces):
        r = _pop_below(stack, n[piece], exponent[piece])
        scaled = rest[piece] * (n[piece] << exponent[piece]) + r
        value = low[piece] + (scaled >> width)
        pushed = (scaled & ((1 << width) - 1)) + ((value & ((1 << fine) - 1)) << width)
        stack.push(_flat(pushed), _bin_sizes(width + fine, live, piece))
        z[piece] = value >> fine
    return z


def backward_map(
    coding: Coding, z: Tensor, segments: Segments, live: Tensor | None = None
) -> Tensor:
    """Invert :func:`forward_map`."""
    stack, width, fine = coding.stack, segments.width, segments.fine
    x = torch.zeros_like(z)
    # All segments in one step from the known part: all but the last bits of the values.
    guesses = segments.guess((z << fine) + (1 << fine >> 1), WHOLE)
    for piece in reversed(_pieces(z, coding.pieces)):
        mask = None if live is None else live[piece]
        count = z[piece].numel()
        popped = torch.from_numpy(stack.pop(_bin_sizes(width + fine, live, piece), count))
        popped = popped.view(z[piece].shape)
        value = (z[piece] << fine) + (popped >> width)
        j, low, n, exponent = segments.locate(value, piece, mask, guesses[piece])
        if mask is not None:
            j, low, n, exponent = j * mask, low * mask, torch.where(mask, n, 1), exponent * mask
        length = n << exponent
        scaled = ((value - low) << width) + (popped & ((1 << width) - 1))
        i = torch.div(scaled, length, rounding_mode="floor")
        _push_below(stack, scaled - i * length, n, exponent)
        x[piece] = (j << width) + i
    return x


def _bin_sizes(bits: int, live: Tensor | None, piece: Piece) -> Any:
    """Return the number of values that are pushed for each result."""
    return 1 << bits if live is None else _flat(torch.where(live[piece], 1 << bits, 1))


def _pop_below(stack: Stack, n: Tensor, exponent: Tensor) -> Tensor:
    """Pop numbers below ``n << exponent``, in two parts, one of them below a power of two."""
    high = torch.from_numpy(stack.pop(_flat(n))).view(n.shape)
    return (high << exponent) + torch.from_numpy(stack.pop(_flat(1 << exponent))).view(n.shape)


def _push_below(stack: Stack, r: Tensor, n: Tensor, exponent: Tensor) -> None:
    """Push what :func:`_pop_below` popped."""
    high = r >> exponent
    stack.push(_flat(r - (high << exponent)), _flat(1 << exponent))
    stack.push(_flat(high), _flat(n))


def _flat(x: Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
    return x.reshape(-1).numpy()


# ---------------------------------------------------------------------- a rule for each kind


class Rule:
    """Base class of the maps of integers for one kind of layer: exact bijections with the stack.

    Both methods take the layer, integers ``(B, C, H, W)`` and how they are coded, and return the
    integers on the other side.
    """

    def forward(self, layer: Any, x: Tensor, coding: Coding) -> Tensor:
        """Map data to latent."""
        raise NotImplementedError

    def backward(self, layer: Any, z: Tensor, coding: Coding) -> Tensor:
        """Map latent to data, and restore the stack."""
        raise NotImplementedError


class Permutation(Rule):
    """Layers that permute entries: ``permute_index`` permutes integers as well as labels."""

    def forward(self, layer: Any, x: Tensor, coding: Coding) -> Tensor:
        return layer.permute_index(x)

    def backward(self, layer: Any, z: Tensor, coding: Coding) -> Tensor:
        return layer.unpermute_index(z)


class Alike(Rule):
    """Base class of rules that differ between the directions only in the maps that they call."""

    def apply(self, layer: Any, x: Tensor, coding: Coding, elementwise: Any, inner: Any) -> Tensor:
        """Map integers in either direction.

        Args:
            layer: the layer.
            x: the integers.
            coding: how they are coded.
            elementwise: :func:`forward_map` or :func:`backward_map`.
            inner: :func:`forward` or :func:`backward`.
        """
        raise NotImplementedError

    def forward(self, layer: Any, x: Tensor, coding: Coding) -> Tensor:
        return self.apply(layer, x, coding, forward_map, forward)

    def backward(self, layer: Any, z: Tensor, coding: Coding) -> Tensor:
        return self.apply(layer, z, coding, backward_map, backward)


class Elementwise(Alike):
    """Elementwise layers of an increasing function, with 0 in its domain.

    Args:
        finer: bits by which the grid on the side of the data is finer.
    """

    def __init__(self, finer: int = 0) -> None:
        self.finer = finer

    def segments(self, layer: Any, shape: torch.Size, coding: Coding) -> Segments:
        def on(function: Callable[..., Any], x: Tensor, piece: Piece) -> Tensor:
            image = x.new_zeros(shape)  # functions may differ between entries
            image[piece] = x
            return function(image, coding.condition)[0][piece].double()

        def with_slope(x: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
            value, step = on(layer, x, piece), 2.0**-SEGMENT_BITS
            return value, ((on(layer, x + step, piece) - value) / step).log()

        def inverse(z: Tensor, piece: Piece) -> Tensor:
            return on(layer.inverse, z, piece)

        return smooth(with_slope, inverse, coding.precision + self.finer, coding.precision)

    def apply(self, layer: Any, x: Tensor, coding: Coding, elementwise: Any, inner: Any) -> Tensor:
        return elementwise(coding, x, self.segments(layer, x.shape, coding))


class Couplings(Alike):
    """Couplings of any kind, by their elementwise ``transform``, which has to be increasing."""

    def apply(self, layer: Any, x: Tensor, coding: Coding, elementwise: Any, inner: Any) -> Tensor:
        passive, active = layer.mask.split(x)
        live = layer.mask.split(torch.ones_like(x))[1].bool()
        outputs = layer.conditioner(coding.value(passive), coding.network_condition)
        parameters = layer.mask.take(outputs).double()
        parameters = (parameters * 2.0**PARAMETER_BITS).round() * 2.0**-PARAMETER_BITS
        segments = smooth(
            lambda v, piece: layer.transform(v, parameters[piece]),
            # Approximately the inverse: single precision is enough.
            lambda v, _: layer.inverse_transform(v.float(), parameters.float())[0].double(),
            coding.precision,
            coding.precision,
        )
        active = elementwise(coding, active, segments, None if live.all() else live)
        return layer.mask.merge(passive, active, torch.zeros_like(active))[0]


class Linear(Rule):
    """A matrix L U over channels: U is its diagonal, then a unit triangle, and L another one."""

    def _factors(
        self, layer: InvertibleLinear, x: Tensor, precision: int
    ) -> tuple[Tensor, Tensor, Segments]:
        diagonal = layer.log_diagonal.double().exp()
        triangles = layer.triangles.double()
        scale = diagonal.view(-1, *(1 for _ in x.shape[2:]))
        segments = smooth(
            lambda x, _: (x * scale, scale.log().expand_as(x)),
            lambda z, _: z / scale,
            precision,
            precision,
        )
        return triangles.tril(-1), triangles.triu(1) / diagonal, segments

    def forward(self, layer: Any, x: Tensor, coding: Coding) -> Tensor:
        lower, upper, segments = self._factors(layer, x, coding.precision)
        z = forward_map(coding, x, segments)
        for c in range(len(upper)):  # of channels that have not changed yet
            z[:, c] += _multiples(z, upper, c)
        for c in reversed(range(len(lower))):
            z[:, c] += _multiples(z, lower, c)
        return z

    def backward(self, layer: Any, z: Tensor, coding: Coding) -> Tensor:
        lower, upper, segments = self._factors(layer, z, coding.precision)
        z = z.clone()
        for c in range(len(lower)):
            z[:, c] -= _multiples(z, lower, c)
        for c in reversed(range(len(upper))):
            z[:, c] -= _multiples(z, upper, c)
        return backward_map(coding, z, segments)


def _multiples(z: Tensor, triangle: Tensor, c: int) -> Tensor:
    """Return the sum of multiples of the channels before, or after, the channel ``c``, rounded."""
    others = triangle[c].nonzero()[:, 0]
    weights = triangle[c, others].view(-1, *(1 for _ in z.shape[2:]))
    return round_to_integers((z[:, others].double() * weights).sum(1))


class Sequence(Rule):
    """Chains."""

    def forward(self, layer: Any, x: Tensor, coding: Coding) -> Tensor:
        for inner in layer:
            x = forward(inner, x, coding)
        return x

    def backward(self, layer: Any, z: Tensor, coding: Coding) -> Tensor:
        for inner in reversed(list(layer)):
            z = backward(inner, z, coding)
        return z


class Inverted(Rule):
    """Inverses of layers."""

    def forward(self, layer: Any, x: Tensor, coding: Coding) -> Tensor:
        return backward(layer.inner, x, coding)

    def backward(self, layer: Any, z: Tensor, coding: Coding) -> Tensor:
        return forward(layer.inner, z, coding)


class Factored(Alike):
    """Factoring out."""

    def apply(self, layer: Any, x: Tensor, coding: Coding, elementwise: Any, inner: Any) -> Tensor:
        out, rest = layer.split(x)
        return torch.cat((out, inner(layer.inner, rest, coding)), dim=1)


class Refinement(Alike):
    """Channels that are mapped given features of others."""

    def apply(self, layer: Any, x: Tensor, coding: Coding, elementwise: Any, inner: Any) -> Tensor:
        first, last = x.tensor_split([-layer.channels], dim=1)
        features = layer.features(coding.value(last), coding.network_condition)
        first = inner(layer.inner, first, replace(coding, condition=features))
        return torch.cat((first, last), dim=1)


RULES: dict[type, Rule] = {
    ActNorm: Elementwise(),
    Affine: Elementwise(),
    Chain: Sequence(),
    ClassMeans: Elementwise(),
    Coupling: Couplings(),
    FactorOut: Factored(),
    Flatten: Permutation(),
    Inverse: Inverted(),
    InvertibleLinear: Linear(),
    Logit: Elementwise(finer=UNIT_BITS),
    Refine: Refinement(),
    RunningBatchNorm: Elementwise(),
    Squeeze: Permutation(),
}
"""The rule of each type of layer, and of its subclasses."""


def rule_of(layer: Bijection) -> Rule:
    """Return the rule of a layer.

    Raises:
        ValueError: if there is none.
    """
    for kind in type(layer).__mro__:
        if kind in RULES:
            return RULES[kind]
    raise ValueError(
        f"compression has no rule for the layer {type(layer).__name__}: add one to "
        "realnvp.codec.layers.RULES"
    )


def forward(layer: Bijection, x: Tensor, coding: Coding) -> Tensor:
    """Map integers from data to latent, popping and pushing bits."""
    return rule_of(layer).forward(layer, x, coding)


def backward(layer: Bijection, z: Tensor, coding: Coding) -> Tensor:
    """Invert :func:`forward`, also on the stack."""
    return rule_of(layer).backward(layer, z, coding)
