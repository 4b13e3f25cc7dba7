"""Columns of numbers that are multiples of a step: integers, and decimals such as prices.

They have a probability: of a decimal, the mean density over one step; of an integer, its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from realnvp.columns.bin_map import ON_GRID
from realnvp.columns.kinds.base import Column, Feature
from realnvp.columns.kinds.implied import Dropped
from realnvp.columns.kinds.number import Number, grid_of, stand_for_missing
from realnvp.columns.look import FEW_ROWS, Look, Numbers

__all__ = ["Decimal", "Integer", "Stepped"]


@dataclass(frozen=True)
class Stepped(Number):
    """A column of numbers with a step.

    Args:
        step: the step.
        origin: a number on the grid.
    """

    step: float = 1.0
    origin: float = 0.0

    def on_grid(self, step: float, origin: float) -> Column:
        return replace(self, step=step, origin=origin)

    @property
    def own_feature(self) -> Feature:
        return replace(super().own_feature, kind="step", step=self.step, origin=self.origin)

    def rounded(self, numbers: NDArray) -> NDArray:
        nearest: NDArray = np.rint((numbers - self.origin) / self.step)
        return self.origin + self.step * nearest

    def words(self) -> list[str]:
        return [f"step {self.step:g}" if self.kind == "decimal" else "", *super().words()]

    def is_valid(self, count: int) -> bool:
        return super().is_valid(count) and self.step > 0


@dataclass(frozen=True)
class Decimal(Stepped):
    """A column of multiples of a step, such as 0.1 or 25."""

    kind: ClassVar[str] = "decimal"

    @classmethod
    def detect(cls, look: Look) -> Column | None:
        if look.declared not in (None, cls.kind) or look.numbers is None:
            return None
        x, distinct, _ = look.numbers
        step = grid_of(look, look.numbers)[1]
        if step and not _are_on_grid(distinct, step):  # such as decimals in float32
            step = 0.0
        if look.declared is not None:
            if not step:
                raise ValueError(f"{look.where} is declared decimal, but its numbers have no step")
            return cls.of(look, look.numbers, step)
        if look.is_array or not step:
            return None
        if look.numbers.are_whole:
            # Of multiples of 100, for example: an integer in between would be an impossible row.
            return cls.of(look, look.numbers, step) if step > 1 and len(x) >= FEW_ROWS else None
        # Of numbers on a fine grid without ties, the step is that of the instrument or the file.
        rest = distinct[~stand_for_missing(look.numbers)]
        coarse = (rest[-1] - rest[0]) / step <= 20 * len(x)
        ties = len(distinct) < 0.99 * len(x)
        return cls.of(look, look.numbers, step) if coarse or ties else None


def _are_on_grid(distinct: NDArray, step: float) -> bool:
    """Return whether numbers are so close to a grid that rounding does not make them impossible."""
    position = (distinct - distinct[0]) / step
    return bool((np.abs(position - np.rint(position)) < ON_GRID / 4).all())


def _are_keys(numbers: Numbers, least: int = 100) -> bool:
    """Return whether integers number the rows: each occurs once, and hardly one is left out."""
    x, distinct, _ = numbers
    return (
        len(x) >= least
        and len(distinct) == len(x)
        and bool((distinct == np.floor(distinct)).all())
        and distinct[-1] - distinct[0] < 1.1 * len(x)
    )


@dataclass(frozen=True)
class Integer(Stepped):
    """A column of integers."""

    kind: ClassVar[str] = "integer"
    is_whole: ClassVar[bool] = True

    @classmethod
    def detect(cls, look: Look) -> Column | None:
        if look.declared not in (None, cls.kind) or look.numbers is None:
            return None
        x = look.numbers.x
        if look.declared is not None and not look.numbers.are_whole:
            raise ValueError(f"{look.where} is declared integer, but holds fractions")
        if look.declared is None and not look.is_array and _are_keys(look.numbers):
            distinct = look.numbers.distinct
            note = f"the integers {distinct[0]:.0f} to {distinct[-1]:.0f}, each once, as keys are"
            return Dropped(look.name, look.dtype, note=note)
        # The noise of dequantization needs digits in float32.
        fine = not look.is_array or np.abs(x - np.floor(x.mean())).max() <= 2**18
        if look.declared is None and not (look.numbers.are_whole and fine):
            return None
        return cls.of(look, look.numbers, 1.0)
