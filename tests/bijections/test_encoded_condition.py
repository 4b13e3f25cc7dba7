"""Features of a numeric condition.

Invertibility and the log-determinant are tested in ``test_base.py``, for all bijections.
"""

from __future__ import annotations

import pytest
import torch

from realnvp import vector_flow
from realnvp.bijections import Chain, EncodedCondition


def test_features_are_standardized_and_those_of_no_width_are_zero():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 3, generator=generator)
    rows[:, 1] = (rows[:, 1] > 1).float()  # two values
    rows[:, 2] = rows[:, 2].exp() * 1e3
    layer = EncodedCondition(3, 8, Chain())
    layer.fit(rows)
    features = layer.features(rows)
    assert features.shape == (500, EncodedCondition.num_features(3, 8))
    torch.testing.assert_close(features[:, :3], rows)
    rest = features[:, 3:].view(500, 3, 8)
    torch.testing.assert_close(rest.mean(0), torch.zeros(3, 8), atol=1e-5, rtol=0)
    varies = rest.std(0, correction=0) > 0.5
    assert varies[[0, 2]].all()
    assert varies[1].sum() == 1
    torch.testing.assert_close(rest.std(0, correction=0)[varies], torch.ones(17))


def test_a_monotone_map_changes_the_features_of_intervals_little():
    rows = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0)).double()
    one, other = (EncodedCondition(1, 16, Chain()).double() for _ in range(2))
    one.fit(rows)
    other.fit(rows.exp())
    apart = (one.features(rows) - other.features(rows.exp()))[:, 1:]
    assert apart.abs().mean() < 0.05


def test_features_are_of_numbers(tmp_path):
    flow = vector_flow(1, condition_dim=2, condition_bins=4, hidden=8)
    flow.bijection[-1].fit(torch.randn(50, 2))  # type: ignore[index]
    flow.save_pretrained(tmp_path)
    again = type(flow).from_pretrained(tmp_path)
    x, given = torch.randn(5, 1), torch.randn(5, 2)
    torch.testing.assert_close(again.eval().log_prob(x, given), flow.eval().log_prob(x, given))
    for options in ({}, {"classes": 3}):
        with pytest.raises(ValueError, match="condition_bins needs a numeric condition"):
            vector_flow(1, condition_bins=4, **options)
    layer = EncodedCondition(1, 2, Chain())
    layer.knots[0, 0] = 5.0
    with pytest.raises(ValueError, match="knots must ascend"):
        layer.check_values()
    layer = EncodedCondition(1, 2, Chain())
    layer.std[0] = 0.0
    with pytest.raises(ValueError, match="std must be positive"):
        layer.check_values()
