"""Checks of posteriors that are right, too narrow and too wide."""

from __future__ import annotations

import pytest
import torch

from realnvp.posterior import calibration, coverage


class Gaussian:
    """The posterior of a standard normal parameter with noise of equal size, or a wrong one."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def sample(self, n: int, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn(len(x), n, x.shape[1], generator=generator, dtype=torch.float64)
        return x[:, None] / 2 + self.factor * 0.5**0.5 * noise


@pytest.mark.parametrize("check", [calibration, coverage])
def test_a_right_posterior_passes_and_wrong_widths_have_a_sign(check):
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(500, 2, generator=generator, dtype=torch.float64)
    x = theta + torch.randn(500, 2, generator=generator, dtype=torch.float64)
    right, narrow, wide = (check(Gaussian(factor), theta, x) for factor in (1.0, 0.5, 2.0))
    assert abs(right.value) < 3 * right.error
    assert narrow.value > 3 * narrow.error
    assert wide.value < -3 * wide.error
    assert len(right.plot().axes[0].lines) == right.fractions.shape[1]
