r"""A stack of bits, onto which numbers are pushed under a distribution and popped under another.

Asymmetric numeral systems (arXiv 1311.2540) code last in, first out: pushing a number that has
probability :math:`p` adds :math:`-\log_2 p` bits, and popping one removes as many and returns a
number of that distribution. Pop is the exact inverse of push, whatever the bits mean: this is what
makes bits-back coding possible (arXiv 1901.04866).

All that is pushed here is uniform on ``0 .. size - 1``. Any other distribution with integer weights
is a composition of the two: to code a symbol of weight :math:`w` out of :math:`W`, pop a number
below :math:`w`, add the weights of the symbols before it, and push the sum, a number below
:math:`W`; the net cost is :math:`\log_2 W - \log_2 w`. So the format depends on integer arithmetic
only. The package ``constriction`` has the coder itself.
"""

from __future__ import annotations

from decimal import Context, Decimal
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Exhausted",
    "Stack",
    "Unrepresentable",
    "draw_normal",
    "pop_normal",
    "push_normal",
    "return_normal",
]

Integers = NDArray[np.int64]

DIGIT = 16
"""Bits of a digit: larger numbers are coded as two or three. The coder rounds probabilities to
2^-24, which costs a uniform number below :math:`2^{16}` at most 0.003 bits."""

BASE = 1 << DIGIT

RESERVE = 32
"""Bits that are not popped: below them, the coder would supply zeros."""


class Exhausted(ValueError):
    """The stack holds fewer bits than are needed."""


class Unrepresentable(ValueError):
    """A value is out of the range of the integers that it is coded by."""


def _constriction() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise ValueError(
            "compression needs the package constriction: pip install '.[codec]'"
        ) from error
    return constriction.stream


class Stack:
    """A stack of bits.

    Bits are only popped if there are others beneath them, so the number at the bottom is never
    popped, and may carry information.

    Args:
        words: content, as returned by :meth:`words`.
        bottom: number of 32 bits at the bottom of an otherwise empty stack, without words.

    Attributes:
        least: smallest number of bits since this was last set; the user sets and reads it.

    >>> stack = Stack()
    >>> stack.push(np.array([3, 500]), np.array([10, 1000]))
    >>> stack.pop(np.array([10, 1000])).tolist()
    [3, 500]
    """

    def __init__(self, words: NDArray[np.uint32] | None = None, bottom: int = 0) -> None:
        stream = _constriction()
        coder = stream.stack.AnsCoder
        self._uniform = stream.model.Uniform()
        try:
            content = np.array([bottom, 1]) if words is None else words
            self._coder = coder(content.astype(np.uint32))
        except Exception as error:
            raise ValueError("these are not the words of a stack") from error
        self.least = self.bits

    @property
    def bits(self) -> int:
        """Size in bits, rounded down."""
        return int(self._coder.num_valid_bits())

    def words(self) -> NDArray[np.uint32]:
        """Return the content as 32-bit words."""
        return self._coder.get_compressed()

    def bottom(self) -> int | None:
        """Return the number at the bottom if all that was pushed has been popped, else None."""
        words = self.words()
        return int(words[0]) if len(words) == 2 and words[1] == 1 else None

    def copy(self) -> Stack:
        """Return a stack of the same content."""
        other = object.__new__(Stack)
        other._uniform, other._coder = self._uniform, self._coder.clone()
        other.least = self.least
        return other

    def push(self, values: Integers, sizes: Integers | int) -> None:
        """Push integers, each uniform on ``0 .. size - 1``; a size of 1 takes no bits.

        Args:
            values: integers below their sizes.
            sizes: one size for all, or one for each; 1 to 2^48.
        """
        sizes = np.broadcast_to(sizes, len(values))
        for shift in _shifts(sizes):  # the lowest digit first: it is popped last
            bases = _bases(sizes, values, shift)
            coded = bases > 1
            digits = (values[coded] >> shift) & (BASE - 1)
            if len(digits):
                self._coder.encode_reverse(
                    digits.astype(np.int32), self._uniform, bases[coded].astype(np.int32)
                )

    def pop(self, sizes: Integers | int, count: int = 0) -> Integers:
        """Pop what :meth:`push` pushed with the same sizes.

        Args:
            sizes: one size for each, or one for all of ``count``.
            count: how many.

        Raises:
            Exhausted: if there are not enough bits.
        """
        sizes = np.broadcast_to(sizes, count) if isinstance(sizes, int) else sizes
        values = np.zeros(len(sizes), np.int64)
        for shift in reversed(_shifts(sizes)):
            bases = _bases(sizes, values << (shift + DIGIT), shift)
            coded = bases > 1
            digits = np.zeros_like(values)
            digits[coded] = self._decode(bases[coded])
            values = (values << DIGIT) + digits
        self.least = min(self.least, self.bits)
        return values

    def _decode(self, bases: Integers) -> Integers:
        """Pop digits, if there are enough bits for them."""
        if not len(bases):
            return bases
        spare = self.bits + 1 - RESERVE  # bits are rounded down
        # A quick test first: no digit has more than 16 bits.
        if spare <= len(bases) * DIGIT and spare <= np.log2(bases).sum():
            raise Exhausted("the stack holds fewer bits than are to be popped")
        return self._coder.decode(self._uniform, bases.astype(np.int32)).astype(np.int64)


def _shifts(sizes: Integers) -> list[int]:
    """Return the places of the digits of numbers below the largest size, the lowest first."""
    largest = int(sizes.max(initial=1))
    return list(range(0, max((largest - 1).bit_length(), 1), DIGIT))


def _bases(sizes: Integers, values: Integers, shift: int) -> Integers:
    """Return how many values a digit has, given the digits above it.

    The highest digit and those below a highest digit at its limit have fewer than others.
    """
    last = (sizes - 1) >> shift  # of the largest number
    limited = values >> (shift + DIGIT) == last >> DIGIT
    return np.where(limited, (last & (BASE - 1)) + 1, BASE)


# ---------------------------------------------------------------------- the normal distribution

BINS_PER_UNIT = 32
"""Bins of the table of the normal distribution per standard deviation. In a bin the density is
taken as constant, at a cost of 0.00006 bits."""

RANGE = 5
"""Standard deviations covered by the table. Numbers beyond have a symbol on each side, and are then
written out."""

TOTAL = 1 << 18
"""Sum of the weights."""

FAR_BITS = 48
"""Most bits of a number beyond the range, which is written out: the number of bits, then the
bits."""


@cache
def _weights(tails: bool) -> tuple[Integers, Integers]:
    """Return the weights of the bins, and the sum of the weights before each.

    The first and the last bin are what lies beyond the range; without tails their weights are 0.
    Decimal arithmetic is the same on every machine, which the exponential of a processor is not.
    """
    context = Context(prec=30)
    half = RANGE * BINS_PER_UNIT
    middles = [Decimal(2 * i + 1) / (2 * BINS_PER_UNIT) for i in range(half)]
    masses = [context.exp(-m * m / 2) for m in middles]
    room = Decimal(TOTAL // 2 - tails) / context.create_decimal(sum(masses))
    side = [max(1, int((mass * room).to_integral_value())) for mass in masses]
    side[0] += TOTAL // 2 - tails - sum(side)
    weights = np.array([tails, *reversed(side), *side, tails], np.int64)
    return weights, np.concatenate(([0], np.cumsum(weights)))


def _chunks(count: int, least: int = 4, most: int = 32) -> list[slice]:
    """Return the parts of many numbers that are coded one after the other.

    Args:
        count: how many numbers.
        least: fewest numbers whose weights are popped before their sums are pushed.
        most: largest number of parts, since each call takes time.
    """
    size = max(least, -(-count // most))
    return [slice(start, start + size) for start in range(0, count, size)]


def push_normal(stack: Stack, z: Integers, precision: int) -> None:
    """Push integers ``z``, whose multiples ``z / 2**precision`` are standard normal.

    Args:
        stack: the stack.
        z: integers.
        precision: 5 or more.

    Raises:
        Unrepresentable: if a number is too large.
    """
    weights, starts = _weights(True)
    shift, limit = _shift(precision), RANGE << precision
    beyond = np.where(z < 0, -z - 1, z) - limit
    far = beyond >= 0
    if far.any():
        if beyond.max() >= 1 << FAR_BITS:
            raise Unrepresentable("a latent is too large")
        bits = np.frexp(beyond[far].astype(np.float64))[1].astype(np.int64)
        first = 1 << np.maximum(bits - 1, 0)  # the highest bit is known
        stack.push(beyond[far] & (first - 1), first)
        stack.push(bits, FAR_BITS + 1)
    index = np.clip((z >> shift) + RANGE * BINS_PER_UNIT + 1, 0, len(weights) - 1)
    stack.push(np.where(far, 0, z & ((1 << shift) - 1)), np.where(far, 1, 1 << shift))
    for chunk in _chunks(len(z)):
        bins = index[chunk]
        stack.push(starts[bins] + stack.pop(weights[bins]), TOTAL)


def pop_normal(stack: Stack, count: int, precision: int) -> Integers:
    """Pop what :func:`push_normal` pushed."""
    index, last = _pop_bins(stack, count, tails=True)
    shift = _shift(precision)
    far = (index == 0) | (index == last)
    low = stack.pop(np.where(far, 1, 1 << shift))
    z = ((index - RANGE * BINS_PER_UNIT - 1) << shift) + low
    if far.any():
        bits = stack.pop(FAR_BITS + 1, int(far.sum()))
        first = 1 << np.maximum(bits - 1, 0)
        beyond = stack.pop(first) + np.where(bits > 0, first, 0) + (RANGE << precision)
        z[far] = np.where(index[far] == last, beyond, -beyond - 1)
    return z


def draw_normal(stack: Stack, count: int, precision: int) -> Integers:
    """Pop integers ``z``, such that ``z / 2**precision`` are standard normal within the range."""
    index, _ = _pop_bins(stack, count, tails=False)
    shift = _shift(precision)
    return ((index - RANGE * BINS_PER_UNIT - 1) << shift) + stack.pop(1 << shift, count)


def return_normal(stack: Stack, z: Integers, precision: int) -> None:
    """Push what :func:`draw_normal` popped."""
    weights, starts = _weights(False)
    shift = _shift(precision)
    index = (z >> shift) + RANGE * BINS_PER_UNIT + 1
    if len(index) and not (index.min() > 0 and index.max() < len(weights) - 1):
        raise Unrepresentable("noise is out of its range")
    stack.push(z & ((1 << shift) - 1), 1 << shift)
    for chunk in _chunks(len(z)):
        bins = index[chunk]
        stack.push(starts[bins] + stack.pop(weights[bins]), TOTAL)


def _shift(precision: int) -> int:
    """Return the bits of a number within its bin."""
    return precision - BINS_PER_UNIT.bit_length() + 1


def _pop_bins(stack: Stack, count: int, tails: bool) -> tuple[Integers, int]:
    """Pop the bins of normal numbers; return also the last bin's index."""
    weights, starts = _weights(tails)
    index = np.zeros(count, np.int64)
    for chunk in reversed(_chunks(count)):
        mass = stack.pop(TOTAL, len(index[chunk]))
        index[chunk] = bins = np.searchsorted(starts, mass, side="right") - 1
        stack.push(mass - starts[bins], weights[bins])
    return index, len(weights) - 1
