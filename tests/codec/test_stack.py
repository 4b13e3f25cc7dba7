"""The stack: push and pop are inverses, and cost what probabilities say."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

pytest.importorskip("constriction")

from realnvp.codec import stack as stacks
from realnvp.codec.stack import (
    Exhausted,
    Stack,
    Unrepresentable,
    draw_normal,
    pop_normal,
    push_normal,
    return_normal,
)


def full(words: int = 2000) -> Stack:
    rng = np.random.default_rng(0)
    return Stack(rng.integers(1, 2**32, words, dtype=np.uint64).astype(np.uint32))


def test_numbers_of_any_size_come_back():
    rng = np.random.default_rng(1)
    sizes = 2 ** rng.integers(0, 47, 500) + rng.integers(0, 5, 500)
    values = rng.integers(0, sizes)
    values[:50] = sizes[:50] - 1
    stack = full()
    before = stack.words()
    stack.push(values, sizes)
    assert np.array_equal(stack.pop(sizes), values)
    assert np.array_equal(stack.words(), before)


def test_popping_first_is_undone_by_pushing():
    stack = full()
    before = stack.words()
    sizes = np.arange(1, 3000, 7)
    values = stack.pop(sizes)
    assert (values < sizes).all()
    stack.push(values, sizes)
    assert np.array_equal(stack.words(), before)


def test_a_uniform_number_costs_its_logarithm():
    stack = full(10)
    before = stack.bits
    stack.push(np.random.default_rng(0).integers(0, 1000, 4000), 1000)
    assert stack.bits - before == pytest.approx(4000 * np.log2(1000), rel=1e-4)


def test_an_empty_stack_is_not_popped():
    stack = Stack(bottom=77)
    stack.push(np.array([5, 6, 7]), 256)
    assert stack.bottom() is None
    with pytest.raises(Exhausted):
        stack.copy().pop(1 << 30, 3)
    assert stack.pop(256, 3).tolist() == [5, 6, 7]
    assert stack.bottom() == 77


@pytest.mark.parametrize("precision", [5, 10, 16])
def test_normal_numbers_come_back_and_cost_their_density(precision):
    stack = full()
    before = stack.words()
    z = np.round(np.random.default_rng(2).normal(size=3000) * 2.0**precision).astype(np.int64)
    bits = stack.bits
    push_normal(stack, z, precision)
    value = z / 2.0**precision
    density = 0.5 * value**2 + 0.5 * np.log(2 * np.pi)
    assert (stack.bits - bits) / 3000 == pytest.approx(
        density.mean() / np.log(2) + precision, abs=0.01
    )
    assert np.array_equal(pop_normal(stack, len(z), precision), z)
    assert np.array_equal(stack.words(), before)


def test_numbers_far_from_zero_come_back_and_cost_not_much_more_than_their_density():
    z = np.array([0, -1, 5 << 10, (5 << 10) - 1, -5 << 10, -(5 << 10) - 1, 10**9, -(10**9)])
    stack = full()
    push_normal(stack, z, 10)
    assert np.array_equal(pop_normal(stack, len(z), 10), z)
    with pytest.raises(Unrepresentable):
        push_normal(stack, np.array([1 << 60]), 10)
    bits = stack.bits
    push_normal(stack, np.array([int(5.3 * 2**10), -int(5.3 * 2**10)]), 10)
    density = 2 * (0.5 * 5.3**2 + 0.5 * np.log(2 * np.pi)) / np.log(2) + 20
    assert stack.bits - bits < density + 6


def test_drawn_numbers_are_normal_and_returned():
    stack = full()
    before = stack.words()
    z = draw_normal(stack, 2000, 9)
    assert abs(z.std() / 2**9 - 1) < 0.05
    assert abs(z.mean() / 2**9) < 0.1
    return_normal(stack, z, 9)
    assert np.array_equal(stack.words(), before)


@pytest.mark.parametrize(("tails", "crc"), [(False, 3998263574), (True, 4199017988)])
def test_the_table_is_one_of_integers_that_never_changes(tails, crc):
    weights, starts = stacks._weights(tails)
    assert weights.sum() == starts[-1] == stacks.TOTAL
    assert weights[1:-1].min() > 0
    assert weights[0] == weights[-1] == tails
    # files depend on it: a change needs a new version of the format
    assert zlib.crc32(weights.astype("<i8").tobytes()) == crc
