"""Values of a table that its columns cannot have, as described in messages.

Such a row has a likelihood of 0. Where a column is predicted, or gaps are filled in, such a value
tells nothing about the others: it counts as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from realnvp.utils.errors import some_of

__all__ = ["Impossible", "Tolerate", "impossible_text", "missing_instead", "possible_rows"]

MOST = 3
"""Largest number of columns, and of different values of each, in a message."""


@dataclass(frozen=True)
class Impossible:
    """Values that a column has in some rows, and cannot have under the schema of its table.

    Args:
        column: name of the column.
        where: name of the table.
        rows: indices of the rows, ascending.
        values: the value in each of the rows; none for gaps.
        why: the end of the sentence, such as "but was always 5 in training".

    >>> print(Impossible("size", "new.csv", [3, 8], [6, 7], "but was always 5 in training"))
    column 'size' of new.csv holds 6, 7 in rows 3, 8 (counting from 0), but was always 5 in training
    """

    column: str
    where: str
    rows: Sequence[int]
    values: Sequence[Any]
    why: str

    def from_row(self, start: int, where: str) -> Impossible:
        """Return the same for a table of which this one is the part that begins at a row."""
        return replace(self, rows=[row + start for row in self.rows], where=where)

    def of_rows(self, chosen: Iterable[int]) -> Impossible:
        """Return the same for a table of chosen rows of this one, without the values."""
        impossible = set(self.rows)
        return replace(
            self, rows=[i for i, row in enumerate(chosen) if row in impossible], values=[]
        )

    def __str__(self) -> str:
        many = "s" * (len(self.rows) > 1)
        gaps = f"has {'' if many else 'a '}missing value{many}"
        distinct = list(dict.fromkeys(map(repr, self.values)))
        what = f"holds {some_of(distinct, MOST)}" if distinct else gaps
        rows = some_of([f"{row:,}" for row in self.rows], 5)
        return (
            f"column {self.column!r} of {self.where} {what} in row{many} {rows} (counting from 0), "
            f"{self.why}"
        )


Tolerate: TypeAlias = Callable[[list[Impossible]], None]
"""Function that is called with impossible values, instead of an error."""


def possible_rows(impossible: Sequence[Impossible], n: int) -> NDArray:
    """Return which of ``n`` rows have no impossible value, ``(n,)``."""
    possible = np.ones(n, dtype=bool)
    for each in impossible:
        possible[list(each.rows)] = False
    return possible


def missing_instead(impossible: Sequence[Impossible]) -> str:
    """Return a warning that impossible values count as missing."""
    return f"values that the model cannot have count as missing: {impossible_text(impossible)}"


def impossible_text(impossible: Sequence[Impossible]) -> str:
    """Return a message about impossible values, with the first few columns."""
    left = len(impossible) - MOST
    more = f"; and {left:,} more column{'s' * (left > 1)}" if left > 0 else ""
    return "; ".join(map(str, impossible[:MOST])) + more
