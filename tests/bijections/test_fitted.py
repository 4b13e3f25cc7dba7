"""Buffers that are computed from data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from realnvp.bijections import Chain
from realnvp.bijections.fitted import Fitted


class Shift(Fitted):
    """Subtract an origin that stays float64."""

    exact = ("origin",)
    origin: Tensor
    unit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("unit", torch.ones(1))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.origin).to(self.unit.dtype), torch.zeros(len(x))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z + self.origin, torch.zeros(len(z))

    def check_values(self) -> None:
        if not self.unit > 0:
            raise ValueError("unit must be positive")


def test_some_buffers_stay_float64_in_a_flow_of_any_type():
    layer = Shift()
    layer.fill({"origin": torch.tensor([1.7e9 + 3], dtype=torch.float64)})
    half = Chain(layer).half()[0]
    assert (half.origin.dtype, half.unit.dtype) == (torch.float64, torch.float16)
    assert half.origin.item() == 1.7e9 + 3
    assert half.to("meta").origin.is_meta


def test_what_is_filled_in_is_checked():
    with pytest.raises(ValueError, match="positive"):
        Shift().fill({"unit": torch.zeros(1)})
