"""Squeeze, factoring out, and the scales of latents."""

from __future__ import annotations

import pytest
import torch

from realnvp import Chain
from realnvp.bijections import (
    CheckerboardMask,
    FactorOut,
    Inverse,
    Logit,
    Refine,
    Squeeze,
)


def test_squeeze_checkerboard_separates_the_squares():
    board = CheckerboardMask()._passive(torch.zeros(1, 1, 4, 4)).expand(1, 3, 4, 4)
    squeezed, _ = Squeeze("checkerboard")(board)
    assert squeezed[:, :6].eq(1).all()
    assert squeezed[:, 6:].eq(0).all()


def test_squeeze_errors():
    with pytest.raises(ValueError, match="even"):
        Squeeze()(torch.zeros(1, 1, 3, 4))
    with pytest.raises(ValueError, match="multiple of 4"):
        Squeeze().inverse(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="checkerboard"):
        Squeeze("diagonal")  # type: ignore[arg-type]


def test_factor_out_leaves_the_first_half_alone():
    layer = FactorOut(Inverse(Logit(0.05)))
    x = torch.randn(2, 4, 2, 2)
    z, _ = layer(x)
    assert torch.equal(z[:, :2], x[:, :2])
    assert not torch.equal(z[:, 2:], x[:, 2:])


def test_scale_labels_follow_the_entries():
    labels = torch.zeros(1, 1, 4, 4, dtype=torch.int64)
    inner = Chain(Squeeze("checkerboard"), FactorOut(Chain()), Inverse(Squeeze("checkerboard")))
    chain = Chain(Squeeze("checkerboard"), FactorOut(inner), Inverse(Squeeze("checkerboard")))
    scales = chain.permute_index(labels)
    assert torch.bincount(scales.flatten()).tolist() == [8, 4, 4]
    assert torch.equal(chain.unpermute_index(scales), labels)


@pytest.mark.parametrize(
    "make", [lambda: FactorOut(Chain(), 0), lambda: Refine(lambda x, c: x, Chain(), 0)]
)
def test_no_channels_cannot_be_split_off(make):
    with pytest.raises(ValueError, match="channels must be 1 or more, got 0"):
        make()


def test_vectors_cannot_be_squeezed():
    with pytest.raises(ValueError, match="squeezing is for images"):
        Squeeze()(torch.zeros(6, 4))
