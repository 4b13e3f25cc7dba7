"""Rows that are drawn within the reach of the data, and that satisfy rules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import realnvp
from realnvp.columns.schema import TableSchema
from realnvp.estimator.density import RealNVPDensity
from realnvp.tables import sampling
from realnvp.tables.sampling import draw, sample_table


def test_rules():
    rng = np.random.default_rng(0)
    kind = rng.choice(["cat", "dog", "ox"], 300, p=[0.5, 0.3, 0.2])
    size = np.select([kind == "cat", kind == "dog"], [30.0, 60.0], 180.0)
    table = pd.DataFrame({"kind": kind, "size": size * np.exp(0.1 * rng.normal(size=300))})
    density = RealNVPDensity(max_steps=20, hidden=8, couplings=2, random_state=0).fit(table)
    flow, schema = density.flow_, density._schema
    drawn = sample_table(flow, schema, 50, given={"kind": "ox"}, reject=["size < 170"])
    assert len(drawn) == 50
    assert (drawn.kind == "ox").all()
    assert (drawn["size"] >= 170).all()
    with pytest.raises(ValueError, match=r"the rule 'sizes > 3' cannot be applied"):
        sample_table(flow, schema, 5, reject=["sizes > 3"])
    with pytest.raises(ValueError, match="no row has kind = 'cow'; there are cat, dog, ox"):
        sample_table(flow, schema, 5, given={"kind": "cow"})
    with pytest.raises(ValueError, match=r"only 0 of .* pass the rules"):
        sample_table(flow, schema, 5, reject=["size > 0"])


def test_rows_are_drawn_until_a_rare_category_comes(monkeypatch):
    schema = TableSchema.of(pd.DataFrame({"kind": ["cat"] * 9 + ["ox"]}))
    codes = iter([np.zeros((1000, 1)), np.ones((1000, 1))])
    monkeypatch.setattr(sampling, "draw", lambda *_: next(codes))
    drawn = sample_table(realnvp.vector_flow(1), schema, 2, given={"kind": "ox"})
    assert drawn["kind"].tolist() == ["ox", "ox"]


def test_samples_stay_within_reach_of_the_data():
    flow = realnvp.vector_flow(2, coupling="affine", std=torch.tensor([1e6, 1e6])).eval()
    day = pd.date_range("2024-01-01", periods=90)
    schema = TableSchema.of(pd.DataFrame({"x": np.linspace(0.0, 1.0, 90) ** 2, "day": day}))
    assert schema.columns[0].range == (-1, 2)
    x = draw(flow, schema, 500, generator=torch.Generator().manual_seed(0))
    assert (x[:, 0].min(), x[:, 0].max()) == (-1, 2)
    days = schema.decode(x)["day"]
    assert (days.min(), days.max()) == (day[0] - (day[-1] - day[0]), day[-1] + (day[-1] - day[0]))
    mean, std = torch.tensor([0.5, 19768.0]), torch.tensor([0.8, 40.0])
    gaussian = realnvp.vector_flow(2, coupling="affine", mean=mean, std=std).eval()
    x = draw(gaussian, schema, 500, generator=torch.Generator().manual_seed(0))
    assert 0 < (x[:, 0] > 1).sum() < 250
    assert (x[:, 0] == 2).sum() == 0, "rows beyond are drawn again"


def test_a_missing_value_satisfies_no_rule():
    whole = pd.array([None if i % 5 == 0 else i % 23 for i in range(400)], "Int64")
    frame = pd.DataFrame({"k": whole, "x": np.random.default_rng(0).normal(size=400)})
    density = realnvp.RealNVPDensity(max_steps=1, random_state=0).fit(frame)
    generator = torch.Generator().manual_seed(0)
    rows = sample_table(density.flow_, density._schema, 200, reject=["k > 5"], generator=generator)
    assert len(rows) == 200
    assert rows.k.isna().any()
    assert rows.k.dropna().le(5).all()
    with pytest.raises(ValueError, match="'k' is not true or false for each row"):
        sample_table(density.flow_, density._schema, 3, reject=["k"])


def test_rows_under_a_rule_are_of_all_classes_and_name_theirs():
    rng = np.random.default_rng(0)
    kind = pd.Series(rng.choice(["u", "v", "w"], 300), name="kind")
    frame = pd.DataFrame({"a": rng.normal(size=300), "few": rng.choice(["x", "y"], 300)})
    density = RealNVPDensity(max_steps=1, mixture_init=1, random_state=0).fit(frame, condition=kind)
    flow, schema = density.flow_, density._schema
    for rules in ({"reject": ["a > 1e9"]}, {"given": {"few": "x"}}, {"reject": ["kind == 'u'"]}):
        drawn = sample_table(
            flow, schema, 300, condition=lambda n: torch.arange(n) * 3 // n,
            generator=torch.Generator().manual_seed(0), **rules,
        )  # fmt: skip
        assert list(drawn) == ["a", "few", "kind"]
        counts = drawn["kind"].value_counts()
        assert set(counts.index) == ({"v", "w"} if "kind" in str(rules) else {"u", "v", "w"})
        assert counts.min() > 60
