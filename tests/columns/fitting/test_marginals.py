"""The maps of a table's columns, fitted to data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from realnvp.columns.fitting.marginals import fit_column, layer_settings
from realnvp.columns.kinds import Feature
from realnvp.columns.layer import TableColumns
from realnvp.columns.schema import TableSchema


def fitted(x: np.ndarray, coordinate: Feature) -> tuple[dict, TableColumns]:
    settings, tensors = fit_column(coordinate, x, np.ones(len(x)))
    specs, stacked = layer_settings([(settings, tensors)])
    assert specs is not None
    layer = TableColumns(specs).double()
    layer.fill(stacked)
    return settings, layer.eval()


def scores(layer: TableColumns, x: np.ndarray) -> np.ndarray:
    v, log_det = layer(torch.as_tensor(x)[:, None], noise=torch.Generator().manual_seed(0))
    return (log_det - 0.5 * v[:, 0].square() - 0.5 * np.log(2 * np.pi)).numpy()


@pytest.mark.parametrize("value", [-1.0, 1 / 3, 1e5 / 7])
@pytest.mark.parametrize("weight", [1.0, 0.1])
def test_equal_values_have_a_scale_of_one(value: float, weight: float):
    """Their mean may be off by rounding, which is no standard deviation."""
    x, coordinate = np.full(57, value), Feature("a", "number")
    _, tensors = fit_column(coordinate, x, np.full(57, weight))
    assert tensors["scale"] == 1.0
    assert fitted(x, coordinate)[1].scores(torch.tensor([[value + 3]]), torch.zeros(1, 1))[0] < 10


@pytest.mark.parametrize(
    ("name", "lower", "gap"),
    [("norm", None, 0.03), ("t", None, 0.1), ("lognorm", 0.0, 0.02), ("expon", 0.0, 0.1)],
)
def test_marginals_are_close_to_the_truth(name: str, lower: float | None, gap: float):
    """KL(true || map), in nats, of 2,000 rows on fresh ones."""
    arguments = {"t": (2,), "lognorm": (1,)}.get(name, ())
    truth = getattr(stats, name)(*arguments)
    x, fresh = (truth.rvs(2000, random_state=seed) for seed in (0, 1))
    _, layer = fitted(x, Feature("a", "number", lower=lower))
    assert 0 <= truth.logpdf(fresh).mean() - scores(layer, fresh).mean() + 0.01 < gap


def test_a_plain_column_is_only_shifted_and_scaled():
    x = np.random.default_rng(0).normal(5, 3, 500) ** 3
    settings, layer = fitted(x, Feature("a", "number", flexible=False))
    assert (settings["shape"], settings["knots"]) == ("linear", 2)
    v, _ = layer(torch.as_tensor(x)[:, None])
    assert v.mean().item() == pytest.approx(0, abs=1e-9)
    assert v.std(correction=0).item() == pytest.approx(1)


def test_tied_steps_have_cells_of_their_own():
    x = np.random.default_rng(0).choice(
        [0.3, 0.31, 0.5, 0.7, 1.0], 1000, p=[0.4, 0.1, 0.2, 0.2, 0.1]
    )
    coordinate = Feature("carat", "step", step=0.01, origin=0.3, lower=0.0)
    settings, layer = fitted(x, coordinate)
    assert settings["kind"] == "cells"
    p = 0.01 * np.exp(scores(layer, np.array([0.3, 0.31, 0.5, 0.4, 1.5])))
    np.testing.assert_allclose(p[:3], [0.4, 0.1, 0.2], atol=0.04)
    assert 0 < p[3] < 1e-3
    assert 0 < p[4] < 1e-2


def test_cells_stay_on_the_grid_when_the_bound_is_not():
    x = np.random.default_rng(0).choice([0.5, 1.5, 2.5, 4.5], 100)
    coordinate = Feature("a", "step", origin=0.5, lower=0.0, upper=5.0)
    settings, layer = fitted(x, coordinate)
    assert settings["kind"] == "cells"
    assert layer.possible(torch.as_tensor(x)[:, None]).all()
    back, _ = layer.inverse(torch.linspace(-9, 9, 50, dtype=torch.float64)[:, None])
    assert set(back[:, 0].tolist()) <= {0.5, 1.5, 2.5, 3.5, 4.5}
    assert np.exp(scores(layer, np.unique(x))).sum() == pytest.approx(1, abs=0.1)


def test_steps_without_ties_are_smooth_and_come_back():
    x = np.random.default_rng(0).integers(0, 10**6, 500).astype(float)
    settings, layer = fitted(x, Feature("a", "step", lower=0.0))
    assert (settings["kind"], settings["step"]) == ("smooth", True)
    v, _ = layer(torch.as_tensor(x)[:, None])
    assert torch.equal(layer.inverse(v)[0][:, 0], torch.as_tensor(x))


@pytest.mark.parametrize("step", [0.0, 1e-4])
def test_numbers_that_people_round_are_atoms(step):
    rng = np.random.default_rng(0)
    smooth = 50 + 10 * rng.normal(size=2_000)
    x = np.where(rng.random(2_000) < 0.4, smooth.round(-1) / 3, smooth)
    if step:
        x = x.round(4)
    coordinate = Feature("a", "step" if step else "number", step or 1.0, x.min())
    settings, layer = fitted(x, coordinate)
    values, counts = np.unique(x, return_counts=True)
    assert (settings["kind"], settings["atoms"]) == ("smooth", (counts >= 5).sum())
    common = values[np.argmax(counts)]
    p = np.exp(scores(layer, np.array([common]))) * (step or 1)
    assert p[0] == pytest.approx(counts.max() / 2_000, rel=0.02)
    drawn, _ = layer.inverse(torch.randn(2_000, 1, dtype=torch.float64))
    assert ((drawn - common).abs() < 1e-9).double().mean().item() == pytest.approx(p[0], abs=0.03)
    assert np.isfinite(scores(layer, np.array([common + 0.01, 3.0, 400.0]))).all()


def test_what_coincides_by_chance_is_no_atom():
    x = np.random.default_rng(0).normal(size=30_000).round(4) * 10_000
    settings, _ = fitted(x, Feature("a", "step", 1.0, x.min()))
    assert (settings["kind"], settings.get("atoms", 0)) == ("smooth", 0)
    assert np.unique(x, return_counts=True)[1].max() >= 5


def test_a_list_of_numbers_is_all_atoms_and_new_ones_are_unlikely():
    x = np.random.default_rng(0).choice(np.sqrt([2, 3, 5, 7]), 400)
    settings, layer = fitted(x, Feature("a", "number"))
    assert settings["atoms"] == 4
    p = np.exp(scores(layer, np.append(np.unique(x), 1.5)))
    assert p[:4].sum() == pytest.approx(1, abs=0.01)
    assert 0 < p[4] < 0.02


def test_a_bound_that_no_row_is_at_has_a_density():
    x = np.random.default_rng(0).exponential(size=400) + 0.01
    _, layer = fitted(x, Feature("a", "number", lower=0.0))
    assert np.isfinite(scores(layer, np.array([0.0]))).all()


def test_categories_have_their_frequency():
    x = np.array([0.0] * 70 + [1.0] * 30)
    _, layer = fitted(x, Feature("a", "category", size=3))
    p = np.exp(scores(layer, np.array([0.0, 1.0, 2.0])))
    np.testing.assert_allclose(p, np.array([70.5, 30.5, 0.5]) / 101.5)


def test_samples_keep_bounds_and_range():
    x = np.random.default_rng(0).exponential(size=400)
    z = torch.linspace(-6, 6, 999, dtype=torch.float64)[:, None]
    frame = pd.DataFrame({"a": x})
    for keep_range, low, high in ((False, 0, np.inf), (True, x.min(), x.max())):
        schema = TableSchema.of(frame, keep_range=keep_range)
        _, layer = fitted(x, schema.features[0])
        back = schema.decode(layer.inverse(z)[0].numpy()).a
        assert back.min() >= low
        assert back.max() <= high


@pytest.mark.parametrize("decades", [20, 120])
def test_numbers_may_span_many_decades(decades):
    x = 10.0 ** np.random.default_rng(0).uniform(-decades, 0, 400)
    settings, layer = fitted(x, Feature("p", "number", lower=0.0))
    assert settings["shape"] == "log"
    assert layer.possible(torch.as_tensor(x)[:, None]).all()
    v, _ = layer(torch.as_tensor(x)[:, None])
    np.testing.assert_allclose(layer.inverse(v)[0][:, 0], x, rtol=1e-6)
    assert np.isfinite(scores(layer, x)).all()


def test_nothing_depends_on_the_unit():
    x = np.random.default_rng(0).standard_t(2, 500)
    one, other = (fitted(f * x, Feature("a", "number"))[1] for f in (1.0, 1e150))
    np.testing.assert_allclose(scores(other, 1e150 * x) + np.log(1e150), scores(one, x), atol=1e-6)
