"""Blocks: the ramp, and what happens to images that a flow cannot code."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("constriction")

from helpers.flows import mild_image_flow, small_image_flow, small_images
from realnvp.codec.blocks import PLAIN, decode_block, encode_block
from realnvp.codec.coder import FlowCoder


@torch.no_grad()
def test_noise_gets_finer_and_groups_larger():
    x = small_images(20)
    coder = FlowCoder(mild_image_flow())
    seen = []
    block = encode_block(coder, x.long(), None, 4, bottom=2**32 - 5, progress=seen.append)
    assert sum(seen) == block.count == 20
    assert block.groups[0][0] == PLAIN
    depths, counts = zip(*block.groups[1:], strict=True)
    assert list(depths) == sorted(depths)
    assert counts[0] == 1
    assert max(counts) in (2, 4)
    back, condition, bottom = decode_block(coder, block)
    assert torch.equal(back, x.long())
    assert condition is None
    assert bottom == 2**32 - 5


@torch.no_grad()
def test_what_does_not_come_back_is_stored_plainly(monkeypatch):
    coder, x = FlowCoder(mild_image_flow()), small_images(20).long()
    decode = coder.decode
    wrong = x[16]

    def broken(stack, count, condition, depth):
        back = decode(stack, count, condition, depth)
        return torch.where((back == wrong).all(), 0, back) if count == 1 else back * 0

    monkeypatch.setattr(coder, "decode", broken)
    block = encode_block(coder, x, None, 8)
    monkeypatch.undo()
    assert torch.equal(decode_block(coder, block)[0], x)
    places = [depth for depth, count in block.groups for _ in range(count)]
    assert places[16] == PLAIN
    assert places[-1] != PLAIN


@torch.no_grad()
def test_other_words_do_not_come_out_even():
    coder = FlowCoder(small_image_flow())
    block = encode_block(coder, small_images(10).long(), None, 4)
    block.words = block.words[:-3]
    with pytest.raises(ValueError, match=r"cannot be decoded|consistently|damaged"):
        decode_block(coder, block)
