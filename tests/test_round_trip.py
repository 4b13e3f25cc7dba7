"""Integers come back exactly, or are refused."""

from __future__ import annotations

import pytest
import torch

import realnvp
from helpers.bijections import randomize
from realnvp import Chain, Flow, image_flow, round_trip, vector_flow
from realnvp.bijections import Dequantize


def test_decode_encode_is_pixel_exact():
    flow = randomize(image_flow((1, 8, 8), hidden=8, blocks=1, scales=3), last=0.1).eval()
    x = torch.randint(0, 256, (10_000, 1, 8, 8), dtype=torch.uint8)
    x[0], x[1] = 0, 255
    with torch.no_grad():
        for part in x.split(1000):
            assert torch.equal(flow.decode(flow.encode(part)), part)


def test_65536_levels_and_integer_columns_come_back():
    flow = randomize(image_flow((1, 4, 4), levels=2**16, hidden=4, blocks=1), last=0.05).eval()
    x = torch.randint(0, 2**16, (200, 1, 4, 4), dtype=torch.int32)
    assert torch.equal(flow.decode(flow.encode(x)), x)
    std = torch.tensor([300.0, 1.0, 2e4])
    table = randomize(vector_flow(3, integers=[0, 2]), last=0.05).eval()
    table.bijection[1].scale.copy_(std)
    rows = (torch.randn(200, 3) * std).round()
    back = table.decode(table.encode(rows))
    assert torch.equal(back[:, [0, 2]], rows[:, [0, 2]])


def test_what_cannot_be_decoded_exactly_is_refused():
    class Stretch(realnvp.Bijection):
        def forward(self, x, condition=None):
            return x + 2.0**17, torch.zeros(len(x))

        def inverse(self, z, condition=None):
            return z - 2.0**17, torch.zeros(len(z))

    flow = Flow(Chain(Dequantize(256), Stretch()), (1, 2, 2))
    x = torch.randint(0, 256, (3, 1, 2, 2), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"3 of 3 examples, .* use flow.double"):
        flow.encode(x)
    flow = flow.double()
    assert torch.equal(flow.decode(flow.encode(x)), x)


def test_examples_that_a_draw_of_the_noise_cannot_give_back_get_other_draws(monkeypatch):
    flow = image_flow((1, 4, 4), scales=1, hidden=4, blocks=1)
    x = torch.randint(256, (3, 1, 4, 4)).to(torch.uint8)
    noise = torch.rand(x.shape)
    first = flow.encode(x, noise=noise)
    asked: list[int] = []

    def lost(flow, x, v, back):  # the second example, three times
        asked.append(len(x))
        return torch.tensor([False, len(asked) <= 3, False])

    monkeypatch.setattr(round_trip, "undecodable", lost)
    z = flow.encode(x, noise=noise)
    assert torch.equal(z[[0, 2]], first[[0, 2]])
    assert not torch.equal(z[1], first[1])
    assert torch.equal(flow.decode(z), x)
    always = torch.tensor([False, True, False])
    monkeypatch.setattr(round_trip, "undecodable", lambda *_: always)
    with pytest.raises(ValueError, match="1 of 3 examples, the first at index 1, cannot be"):
        flow.encode(x, noise=noise)
