"""What a report measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import realnvp
from realnvp.config import DataConfig
from realnvp.data import Split, load_part
from realnvp.estimator import RealNVPDensity
from realnvp.model_info import ModelInfo
from realnvp.reports.findings import measure


def test_images_are_measured_as_the_evaluation_does():
    flow = realnvp.load("digits")
    _, split = load_part(realnvp.recipe("digits").data, "test")
    split = split.select(torch.arange(30))
    seen: list[float] = []
    found = measure(flow, "test", split, seen.append)
    assert found.scores.mean().item() == pytest.approx(
        realnvp.evaluate(flow, split).bits_per_dim, rel=1e-5
    )
    assert found.ranking.tolist() == found.scores.argsort(descending=True).tolist()
    assert sum(z.numel() for z in found.by_scale().values()) == 30 * 64
    samples = flow.sample(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.samples, samples)
    assert found.scales is not None
    assert found.square is not None
    assert torch.equal(found.scales[0], split.select(torch.arange(8)).x)
    assert len(found.square) == 36
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_samples_of_a_conditional_flow_have_the_conditions_of_the_data():
    flow = realnvp.vector_flow(3, condition_dim=1).eval()
    split = Split(torch.randn(40, 3), torch.rand(40, 1))
    found = measure(flow, "validation", split)
    assert found.samples.shape == (40, 3)
    assert found.cool is None
    assert found.scores.shape == (40,)


def test_rows_are_ranked_among_those_with_the_same_missing_values():
    # A missing value saves the density of a number in a small unit: those rows were all easiest.
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": 1e6 * rng.normal(size=600), "y": rng.normal(size=600)})
    table.loc[rng.random(600) < 0.3, "x"] = np.nan
    model = RealNVPDensity(max_steps=1, random_state=0).fit(table)
    flow = model.flow_
    flow.trained_on = ModelInfo(
        DataConfig("table"), columns=list(table), table=model._schema.as_dict()
    )
    found = measure(flow, "test", Split(torch.as_tensor(model._schema.encode(table)[0])))
    order = found.ranking
    missing = found.table(found.split.x[order])["x"].isna().to_numpy()
    assert len(order) == 600
    assert 0 < missing[:50].mean() < 0.6
    assert 0 < missing[-50:].mean() < 0.6
    whole = found.log_p[order[~missing]]
    assert (whole.diff() >= 0).all()
