"""Layers on integers: exact both ways, near the layer's values, at the log-determinant's cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("constriction")

from helpers.bijections import BIJECTIONS, randomize
from realnvp import Bijection, Chain
from realnvp.bijections import ActNorm, CheckerboardMask, InvertibleLinear, LogisticMixtureCoupling
from realnvp.codec.layers import RULES, UNIT_BITS, Coding, Elementwise, backward, forward
from realnvp.codec.stack import Stack, Unrepresentable
from realnvp.conditioners import ResNet

PRECISION = 14


def coding(stack: Stack, condition: torch.Tensor | None = None) -> Coding:
    return Coding(stack, PRECISION, torch.float64, condition)


def full() -> Stack:
    rng = np.random.default_rng(0)
    return Stack(rng.integers(1, 2**32, 60_000, dtype=np.uint64).astype(np.uint32))


IMAGES = {name: case for name, case in BIJECTIONS.items() if len(case.shape) == 3}


@pytest.mark.parametrize("name", IMAGES)
@torch.no_grad()
def test_the_table_of_bijections(name):
    row = IMAGES[name]
    layer = row.build()
    x, condition = row.inputs(8)
    precision = PRECISION + (UNIT_BITS if row.unit_interval else 0)
    integers = (x * 2.0**precision).round().long()
    stack = full()
    words, bits = stack.words(), stack.bits
    z = forward(layer, integers, coding(stack, condition))
    expected, log_det = layer(integers.double() * 2.0**-precision, condition)
    assert (z * 2.0**-PRECISION - expected).abs().median() < 0.001
    cost = (stack.bits - bits) / x.numel() - (precision - PRECISION)
    assert cost == pytest.approx(-log_det.sum().item() / math.log(2) / x.numel(), abs=0.03)
    assert torch.equal(backward(layer, z, coding(stack, condition)), integers)
    assert np.array_equal(stack.words(), words)


@torch.no_grad()
def test_odd_widths_and_flat_and_steep_mixtures():
    net = ResNet(2, 14 * 2, 8, 1)
    layer = randomize(LogisticMixtureCoupling(CheckerboardMask(), net, 2), last=6.0).double().eval()
    x = (torch.randn(3, 2, 5, 5, dtype=torch.float64) * 4 * 2**14).long()
    stack = full()
    words = stack.words()
    z = forward(layer, x, coding(stack))
    assert torch.equal(backward(layer, z, coding(stack)), x)
    assert np.array_equal(stack.words(), words)


@torch.no_grad()
def test_a_linear_layer_is_exact_on_large_integers():
    layer = randomize(InvertibleLinear(6)).double()
    x = torch.randint(-(2**34), 2**34, (2, 6, 3, 3))
    stack = full()
    z = forward(layer, x, coding(stack))
    assert torch.equal(backward(layer, z, coding(stack)), x)


@torch.no_grad()
def test_what_overflows_is_refused():
    norm = ActNorm(1).eval()
    norm.log_scale.fill_(-60.0)
    with pytest.raises(Unrepresentable):
        forward(norm, torch.full((1, 1, 2, 2), 2**20), coding(full()))


class Sinh(Bijection):
    def forward(self, x, condition=None):
        return torch.sinh(x), torch.log(torch.cosh(x)).flatten(1).sum(1)

    def inverse(self, z, condition=None):
        return torch.asinh(z), -torch.log(torch.cosh(torch.asinh(z))).flatten(1).sum(1)


@torch.no_grad()
def test_a_new_layer_needs_one_entry(monkeypatch):
    chain, x = Chain(Sinh()), torch.randint(-(2**15), 2**15, (1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"no rule for the layer Sinh: add one to .*RULES"):
        forward(chain, x, coding(full()))
    monkeypatch.setitem(RULES, Sinh, Elementwise())
    stack = full()
    z = forward(chain, x, coding(stack))
    assert torch.equal(backward(chain, z, coding(stack)), x)
