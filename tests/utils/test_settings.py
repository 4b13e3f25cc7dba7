"""Checks of settings: types, ranges, and values that are left to the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from realnvp.utils.settings import check_types, of_scale, positive, require, resolved, to_dict


@dataclass
class Settings:
    name: str = "a"
    count: int = 1
    rate: float | Literal["auto"] = 0.5
    sizes: int | list[int] = 3
    betas: tuple[float, float] = (0.9, 0.99)
    options: dict[str, Any] | None = None
    kind: Literal["one", "two"] = "one"


@pytest.mark.parametrize(
    "good",
    [
        {}, {"rate": "auto"}, {"rate": 1}, {"sizes": [1, 2]}, {"betas": [0.1, 0.2]},
        {"options": {"bins": 4}}, {"options": None},
    ],
)  # fmt: skip
def test_values_of_the_declared_types_pass(good):
    check_types(Settings(**good))


@pytest.mark.parametrize(
    "bad",
    [
        {"name": 1}, {"count": True}, {"count": 1.5}, {"rate": "fast"}, {"sizes": [1, "2"]},
        {"betas": [0.1]}, {"options": {1: 2}}, {"options": {"bins": [4]}}, {"kind": "three"},
    ],
)  # fmt: skip
def test_other_types_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=f"^{next(iter(bad))} must be"):
        check_types(Settings(**bad))


def test_integers_have_a_limit_and_long_ones_are_not_printed():
    check_types(Settings(count=10), count=10)
    with pytest.raises(ValueError, match=r"count is at most 10, got a larger number"):
        check_types(Settings(count=10**5000), count=10)
    with pytest.raises(ValueError, match="sizes is at most"):
        check_types(Settings(sizes=[1, 2**60]))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_positive_means_finite_and_above_zero(rate):
    positive(Settings(rate="auto"), "rate", "sizes")
    with pytest.raises(ValueError, match="rate must be a positive number"):
        positive(Settings(rate=rate), "rate")


def test_settings_of_scales_and_of_the_data():
    assert (of_scale(8, 1), of_scale([4, 12], 1)) == (8, 12)
    assert resolved(0.5) == 0.5
    with pytest.raises(ValueError, match="give a number"):
        resolved("auto")
    with pytest.raises(ValueError, match="no"):
        require(False, "no")
    assert to_dict(Settings(sizes=[1]))["sizes"] == [1]
