"""The logit is finite and refuses what it cannot be; standardization."""

from __future__ import annotations

import pytest
import torch

from realnvp.bijections import Affine, Logit


def test_logit_is_finite_at_both_ends():
    """(255 + u) / 256 rounds to 1.0 in float32: the value and the slope must stay finite there."""
    v = torch.tensor([[0.0, 1.0, (255 + (1 - 2**-24)) / 256]], requires_grad=True)
    y, log_det = Logit(0.05)(v)
    log_det.sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(log_det).all()
    assert torch.isfinite(v.grad).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0])
def test_logit_refuses_a_bad_alpha(alpha: float):
    with pytest.raises(ValueError, match="alpha"):
        Logit(alpha)


def test_shift_and_scale_may_be_lists():
    layer = Affine([1, 2], [2.0, 4.0])  # type: ignore[arg-type]
    assert torch.equal(layer(torch.tensor([[3.0, 6.0]]))[0], torch.ones(1, 2))
