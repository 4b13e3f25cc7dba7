"""What a column is, in words and as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

import realnvp
from realnvp.columns.kinds import Category, Constant, Continuous, Copy, Date, Decimal
from realnvp.columns.kinds.base import KINDS, from_dict, register_kind
from realnvp.columns.schema import TableSchema


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (Decimal("a", "int64", step=25.0, lower=0.0), "step 25; at least 0"),
        (Category("a", "str", categories=("x", "y")), "2 categories: x, y"),
        (Continuous("a", "float64", repeated=(0.0,)), "often 0"),
        (Date("a", "datetime64[ns]", zone="UTC"), "days, UTC"),
        (Constant("a", "int64", value=5), "always 5"),
    ],
)  # fmt: skip
def test_columns_in_words_and_back_from_json(column, words):
    assert column.describe() == words
    assert from_dict(json.loads(json.dumps(column.as_dict())), 1) == column


def test_sizes_count_the_status_and_the_time():
    assert Date("a", "", missing=True, timed=True).size == 3
    assert Continuous("a", "", repeated=(0.0,)).size == 2
    assert Copy("a", "").size == 0


@pytest.fixture
def percentage():
    """Register the kind that docs/column.md shows; it is forgotten after the test."""

    @register_kind
    @dataclass(frozen=True)
    class Percentage(Continuous):
        kind: ClassVar[str] = "percentage"

        @classmethod
        def detect(cls, look):
            if look.declared != cls.kind or look.numbers is None:
                return None
            return cls(look.name, look.dtype, look.missing, lower=0.0, upper=100.0)

    yield Percentage
    del KINDS["percentage"]


def test_a_kind_from_outside_is_one_class(percentage):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"share": 100 * rng.beta(0.5, 0.5, 300), "x": rng.normal(size=300)})
    assert TableSchema.of(frame).columns[0].kind == "continuous"
    density = realnvp.RealNVPDensity(columns={"share": "percentage"}, max_steps=1).fit(frame)
    assert density.sample(2_000)["share"].between(0, 100).all()
    schema = TableSchema.of(frame, {"share": "percentage"})
    assert TableSchema.from_dict(json.loads(json.dumps(schema.as_dict()))) == schema
    with pytest.raises(ValueError, match="there is a kind of column called 'percentage'"):
        register_kind(type("Other", (Continuous,), {"kind": "percentage"}))


def test_a_saved_kind_that_is_not_registered_is_named():
    with pytest.raises(ValueError, match="unknown kind, 'percentage': import the module"):
        from_dict({"name": "a", "kind": "percentage", "dtype": "float64"}, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "continuous", "decimals": 10**30},
        {"kind": "decimal", "step": 0.1, "decimals": -1},
        {"kind": "constant", "value": 1e308},
        {"kind": "constant", "value": None},
    ],
)
def test_a_saved_column_that_cannot_be_decoded_is_damaged(fields):
    with pytest.raises(ValueError, match="saved column 'a' of a table is damaged"):
        from_dict({"name": "a", "dtype": "int64", **fields}, 1)
