"""Columns of categories: texts, truth values, and numbers of which there are few.

A category is one feature, its index; a missing value is one category more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from realnvp.columns.kinds.base import Column, Feature
from realnvp.columns.kinds.implied import Constant, Dropped
from realnvp.columns.kinds.values import category_series, codes_of, plain_value
from realnvp.columns.look import MOST_CATEGORIES, Look, is_few, seconds_of
from realnvp.utils.errors import some_of

__all__ = ["Category"]


@dataclass(frozen=True)
class Category(Column):
    """A column of categories.

    Args:
        categories: the categories, as plain values, in order.
        levels: all categories of a pandas categorical, used or not.
        ordered: whether these are ordered.
    """

    categories: tuple[Any, ...] = ()
    levels: tuple[Any, ...] | None = None
    ordered: bool = False

    kind: ClassVar[str] = "categorical"

    @classmethod
    def detect(cls, look: Look) -> Column | None:
        if look.declared == cls.kind:
            return cls.of(look)
        dtype = look.present.dtype
        if isinstance(dtype, pd.CategoricalDtype) or types.is_bool_dtype(dtype):
            if look.declared is not None:
                raise ValueError(f"{look.where} is declared {look.declared}, but holds categories")
            return cls.of(look)
        if look.numbers is None and look.are_names:
            note = f"{look.present.nunique():,} different texts in {len(look.present):,} rows"
            return Dropped(look.name, look.dtype, note=f"{note}, as in a column of names")
        if look.numbers is None or len(look.numbers.distinct) == 1:  # with missing values
            return cls.of(look)
        _, distinct, counts = look.numbers
        few = look.declared is None and not look.is_array and is_few(distinct, counts)
        return cls.of(look) if few and look.numbers.are_whole else None

    @classmethod
    def of(cls, look: Look) -> Column:
        """Return the column of categories of the values that are looked at.

        Raises:
            ValueError: if there are several types of values, or too many categories.
        """
        # Numbers that are written as text stay texts.
        values = look.raw if look.declared == cls.kind else look.present
        levels, ordered = None, False
        if isinstance(values.dtype, pd.CategoricalDtype):
            levels = tuple(map(plain_value, values.cat.categories))
            ordered = bool(values.cat.ordered)
            used = set(values.unique())
            categories = [plain_value(v) for v in values.cat.categories if v in used]
        else:
            distinct = [plain_value(v) for v in values.unique()]
            if len({isinstance(v, str) for v in distinct}) > 1:
                raise ValueError(f"{look.where} mixes text and other values: turn all into text")
            categories = sorted(distinct)
        if len(categories) > MOST_CATEGORIES:
            raise ValueError(
                f"{look.where} has {len(categories):,} categories, more than {MOST_CATEGORIES:,}: "
                f"group them, or {look.drop}"
            )
        if len(categories) == 1 and not look.missing:
            return Constant(look.name, look.dtype, False, categories[0], levels, ordered)
        return cls(look.name, look.dtype, look.missing, tuple(categories), levels, ordered)

    def features(self) -> tuple[Feature, ...]:
        count = len(self.categories)
        first_missing = count if self.missing else None
        size = count + self.missing
        return (Feature(self.name, "category", size=size, first_missing=first_missing),)

    @property
    def code_of_missing(self) -> int:
        return len(self.categories)

    def encode(
        self, values: pd.Series, where: str, unknown: bool = False
    ) -> tuple[NDArray, NDArray]:
        if self.dtype.startswith("timedelta64"):
            values = seconds_of(values)
        codes, missing = codes_of(self.categories, values), values.isna().to_numpy()
        possible = np.where(missing, self.missing or unknown, codes >= 0)
        index = float(self.code_of_missing) if self.missing and not unknown else np.nan
        codes = np.where(missing, index, codes)
        return np.where(possible, codes, np.nan)[:, None], possible

    def decode(self, x: NDArray, bounded: bool = True) -> pd.Series:
        count = len(self.categories)
        codes = np.nan_to_num(x[:, 0], nan=count).astype(int)
        values = [self.categories[code] if code < count else None for code in codes]
        return category_series(values, self.dtype, self.levels or self.categories, self.ordered)

    def is_valid(self, count: int) -> bool:
        return bool(self.categories)

    def rule(self, sources: Sequence[str] = ()) -> str:
        is_number = not isinstance(self.categories[0], str | bool)
        remedy = "; declare it integer when training, to allow others" if is_number else ""
        return f"had only {some_of(list(map(str, self.categories)))} in training{remedy}"

    def words(self) -> list[str]:
        count = len(self.categories)
        names = some_of(list(map(str, self.categories)))
        return [f"{count} {'category' if count == 1 else 'categories'}: {names}"]
