"""Fitting a flow to rows: how long, of which rows, and in which units."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from realnvp.bijections import EncodedCondition
from realnvp.columns.fitting.mixtures import fit_gaussian, log_density
from realnvp.columns.schema import TableSchema
from realnvp.config import VectorRecipe
from realnvp.data.dataset import Split
from realnvp.data.parts import without_copies
from realnvp.estimator import RealNVPDensity
from realnvp.flow import Flow
from realnvp.recipes import load_recipe
from realnvp.tables import fit as fitting
from realnvp.tables.fit import _gain, _is_positive
from realnvp.training.initialization import build


def recipe(steps: int = 30, **model) -> VectorRecipe:
    small = {"hidden": 8, "couplings": 2, **model}
    found = load_recipe("table", model=small, data={"source": "rows"}, seed=0)
    training = dataclasses.replace(found.training, steps=steps, accelerator="cpu")
    found = dataclasses.replace(found, training=training)
    assert isinstance(found, VectorRecipe)
    return found


def fit_rows(x: torch.Tensor, *args, **options) -> tuple[Flow, int]:
    """Fit rows of continuous columns."""
    schema = TableSchema.of(pd.DataFrame(x.numpy()), "continuous", numbers=True)
    return fitting.fit_rows(x, *args, schema=schema, **options)


def rows(n: int) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(0).normal(size=(n, 2)))


def test_few_rows_have_the_gaussian_that_they_start_as():
    x = rows(12)
    flow, steps = fit_rows(x, None, None, recipe())
    assert steps == 0
    torch.testing.assert_close(
        flow.log_prob(x), log_density(x, fit_gaussian(x)), rtol=1e-4, atol=1e-4
    )


def test_what_can_be_learned_is():
    x = rows(600)
    x[:, 1] = x[:, 0].sign() * 3 + 0.1 * x[:, 1]
    flow, steps = fit_rows(x, None, None, recipe(60, mixture_init=1))
    assert steps > 0
    assert flow.log_prob(x).mean() > log_density(x, fit_gaussian(x)).mean() + 0.3


@pytest.mark.parametrize("mixture_init", [0, 1, 2])
def test_the_flow_is_in_the_units_of_the_rows(mixture_init: int):
    x, condition = rows(40), rows(40)[:, :1]
    small = recipe(5, mixture_init=mixture_init)
    one, _ = fit_rows(x, condition, None, small, validation_fraction=0)
    unit, offset = torch.tensor([1e-3, 1e5]), torch.tensor([2.0, 1e6])
    other, _ = fit_rows(x * unit + offset, 7 * condition, None, small, validation_fraction=0)
    expected = one.log_prob(x, condition) - unit.log().sum()
    found = other.log_prob(x * unit + offset, 7 * condition)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert other.dtype == torch.float64
    assert not other.training


def test_copies_count_as_one_row_of_more_weight():
    x = torch.tensor([[1.0, 2.0], [0.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    split = without_copies(Split(x), False)
    assert split.x.tolist() == [[1.0, 2.0], [0.0, 1.0]]
    assert split.weight is not None
    assert split.weight.tolist() == [1.5, 0.5]
    assert without_copies(Split(x.repeat(2, 1), torch.arange(8)), False).x.shape == (8, 2)
    assert without_copies(Split(x[:2].repeat(3, 1)), False).weight is None


def test_chance_is_not_taken_for_a_gain():
    class Known(torch.nn.Module):
        def __init__(self, values: torch.Tensor) -> None:
            super().__init__()
            self.values = values.double()

    split = Split(torch.zeros(16, 2))
    start = torch.zeros(16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "log_likelihoods", lambda flow, check, seed: flow.values)
        for gain, better in (
            ([1.0, 1.1, 0.9, 1.2], True),
            ([3.0, -1.0, 2.0, -1.1], False),
            ([-1.0, -1.2, -1.1, -1.3], False),
            ([9.0, 1.0, 1.1, -20.0], False),  # most gain, but the mean does not
        ):
            flow = Known(torch.tensor(gain).repeat(4))
            found = _gain(flow, Known(start), split, 0)  # type: ignore[arg-type]
            assert _is_positive(*found) is better


def test_a_single_column_has_a_density_given_the_condition():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(500, 1))
    y = np.sin(3 * x[:, 0]) + 0.1 * (1 + (x[:, 0] > 0)) * generator.normal(size=500)
    settings = {"members": 2, "max_steps": 200, "validation_fraction": 0, "random_state": 0}
    density = RealNVPDensity(**settings).fit(y, condition=1e4 * x + 7)
    score = density.score(y, condition=1e4 * x + 7)
    assert score > scipy.stats.norm(y.mean(), y.std()).logpdf(y).mean() + 0.5
    grid, step = np.linspace(-4, 4, 2001, retstep=True)
    p = np.exp(density.score_samples(grid, condition=np.full(2001, 7.0)))
    assert p.sum() * step == pytest.approx(1.0, abs=1e-3)
    drawn = density.sample(300, condition=np.array([[7.0]]), random_state=1)
    assert drawn.shape == (300, 1)
    assert abs(drawn.mean() - (grid * p).sum() * step) < 0.1


def test_members_learn_all_rows_and_their_densities_are_averaged():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 1))
    y = np.sin(3 * x[:, 0]) + 0.1 * generator.normal(size=400)
    density = RealNVPDensity(members=2, max_steps=200, random_state=0).fit(y, condition=x)
    assert density.n_iter_ > 0
    assert len(density.flow_.bijection[-1].members) == 2  # type: ignore[index]
    assert density.score(y, condition=x) > -0.2  # of a Gaussian given x, -1.0
    drawn = density.sample(4, condition=[[0.5]] * 4, random_state=0)
    latents = density.transform(drawn, condition=[[0.5]] * 4)
    back = density.inverse_transform(latents, condition=[[0.5]] * 4)
    np.testing.assert_allclose(back, drawn, atol=1e-6)


@pytest.mark.parametrize("wanted", [True, False])
def test_held_out_rows_choose_whether_a_condition_is_encoded_in_intervals(monkeypatch, wanted):
    trained = []

    def encoded(flow: Any) -> bool:
        return any(isinstance(layer, EncodedCondition) for layer in flow.modules())

    def untrained(recipe, data, report, steps=None, mixture=None, known=None):
        trained.append(recipe.model.condition_bins)
        return build(recipe, data, mixture), 1

    def gain(flow, start, check, seed):
        better = encoded(flow) == wanted
        each = torch.full((len(check),), 2.0 if better else 1.0, dtype=torch.float64)
        return each, torch.ones(len(check))

    monkeypatch.setattr(fitting, "_train", untrained)
    monkeypatch.setattr(fitting, "_gain", gain)
    x = rows(300).numpy()
    density = RealNVPDensity(members=4, random_state=0).fit(x[:, 0], condition=x[:, 1:])
    assert encoded(density.flow_) == wanted
    # Of 75 rows each, three members have held out more than 200.
    assert trained == [0] * 3 + [32] * 3 + [32 if wanted else 0]


def test_processes_train_the_same_members():
    x = rows(60).numpy()
    scores = [
        RealNVPDensity(n_jobs=n_jobs, members=2, max_steps=3, hidden=4, random_state=0)
        .fit(x[:, 0], condition=x[:, 1:])
        .score_samples(x[:, 0], condition=x[:, 1:])
        for n_jobs in (None, 2)
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-6)


def test_members_that_learn_nothing_are_no_better_than_the_start():
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(60, 2)), generator.normal(size=60)
    density = RealNVPDensity(members=2, max_steps=40, random_state=0).fit(y, condition=x)
    assert density.n_iter_ == 0
    assert (
        abs(density.score(y, condition=x) - scipy.stats.norm(y.mean(), y.std()).logpdf(y).mean())
        < 0.1
    )


def test_one_column_given_numbers_has_eight_members():
    x = rows(100)
    density = RealNVPDensity(max_steps=1, validation_fraction=0, random_state=0)
    density.fit(x[:, 0], condition=x[:, 1:])
    assert len(density.flow_.bijection[-1].members) == 8  # type: ignore[index]
    density.fit(x, condition=x[:, 1])
    assert "Average" not in str(density.flow_)


def test_several_columns_have_no_members():
    with pytest.raises(ValueError, match=r"members is 1, or more for one column.*, got 2"):
        RealNVPDensity(members=2).fit(rows(50))


@pytest.mark.parametrize("mixture_init", [0, 2])
def test_a_single_column_needs_no_condition(mixture_init: int):
    x = rows(200)[:, :1]
    flow, _ = fit_rows(x, None, None, recipe(5, mixture_init=mixture_init), validation_fraction=0)
    torch.testing.assert_close(flow.decode(flow.encode(x)), x, atol=1e-4, rtol=1e-4)


def test_two_thousand_rows_learn_a_curve_as_fewer_and_more_do():
    """The choice of the start on the rows to learn from holds for all rows."""
    t = np.pi * np.random.default_rng(0).random(2000)
    x = np.stack([np.cos(t), np.sin(t)], axis=1) + 0.05 * np.random.default_rng(1).normal(
        size=(2000, 2)
    )
    density = RealNVPDensity(max_steps=20, random_state=0).fit(x)
    assert density.score(x) > -0.4  # of a single Gaussian, -1.5


def grades(n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Return a grade from 3 to 7, and numbers of which one says what it may be."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n, 2))
    middle = np.where(np.abs(x[:, 0]) < 0.5, 4, 6)  # not what a line says
    return middle + generator.integers(-1, 2, size=n), x


@pytest.mark.parametrize("members", [2, 1])
def test_few_values_given_numbers_have_the_probabilities_of_a_classifier(tmp_path, members):
    y, x = grades()
    density = RealNVPDensity(members=members, integers=[0], random_state=0)
    density.fit(y, condition=1e4 * x + 7)
    assert density.n_iter_ > 0
    found = [type(layer).__name__ for layer in density.flow_.modules()]
    assert found.count("PiecewiseLinearCoupling") == members
    known = np.array([[0.0, 0.0], [2.0, 0.0]]) * 1e4 + 7
    p = np.stack([np.exp(density.score_samples([k, k], condition=known)) for k in range(11)])
    np.testing.assert_allclose(p.sum(0), 1.0, atol=2e-3)  # grades beyond the known ones are rare
    assert (p[3:6, 0] > 0.2).all()
    assert (p[5:8, 1] > 0.2).all()
    # A probability needs no noise: one draw of it is as good as many.
    codes = torch.as_tensor(known)
    rows = torch.tensor([[4.0], [6.0]], dtype=torch.float64)
    draws = [density.flow_.log_prob(rows, codes, noise=torch.full((2, 1), u)) for u in (0.01, 0.97)]
    torch.testing.assert_close(*draws)
    drawn = density.sample(4000, condition=known[:1], random_state=0)[:, 0]
    np.testing.assert_allclose([(drawn == k).mean() for k in range(3, 6)], p[3:6, 0], atol=0.04)
    found = density.quantiles(condition=known, q=(0.1, 0.9), candidates=2000)
    assert found.iloc[0].tolist() == [3, 5]
    assert found.iloc[1, 1] == 7
    density.save(tmp_path)
    for again in (RealNVPDensity.load(tmp_path), pickle.loads(pickle.dumps(density))):
        np.testing.assert_allclose(
            again.score_samples(y[:20], condition=1e4 * x[:20] + 7),
            density.score_samples(y[:20], condition=1e4 * x[:20] + 7),
            rtol=1e-6,
        )


def test_categories_given_numbers():
    y, x = grades(300)
    names = pd.DataFrame({"kind": np.array(list("abcdefgh"))[y]})
    density = RealNVPDensity(members=2, max_steps=600, random_state=0).fit(names, condition=x)
    p = density.category_proba(names, "kind", condition=x)
    own = p.to_numpy()[np.arange(len(y)), [list(p).index(name) for name in names["kind"]]]
    np.testing.assert_allclose(np.log(own), density.score_samples(names, condition=x), rtol=1e-6)
    assert np.log(own).mean() > -scipy.stats.entropy(np.bincount(y)) + 0.1


def test_many_values_or_few_rows_are_no_classes():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 1))
    for y in (generator.integers(0, 100, size=120), generator.integers(0, 5, size=18)):
        with pytest.warns(UserWarning, match="integer columns are dequantized"):
            density = RealNVPDensity(max_steps=10, random_state=0).fit(y, condition=x[: len(y)])
        found = [type(layer).__name__ for layer in density.flow_.modules()]
        assert "PiecewiseLinearCoupling" not in found
        assert np.isfinite(density.score(y, condition=x[: len(y)]))


@pytest.mark.parametrize(
    "best", [("realnvp", 0.0, 1), ("autoregressive", 0.0, 2), ("autoregressive", 0.2, 2)]
)
def test_held_out_rows_choose_the_model_of_several_columns(best: tuple, monkeypatch, tmp_path):
    models, train = {}, fitting._train

    def recording(recipe, *args, **options):
        flow, _ = train(recipe, *args, **options)
        model = recipe.model
        models[id(flow)] = (model.architecture, model.dropout, model.networks)
        return flow, 1

    def gain(flow, *_):
        gain = 2.0 if models[id(flow)] == best else 1.0
        return torch.full((50,), gain, dtype=torch.float64), torch.ones(50)

    monkeypatch.setattr(fitting, "_train", recording)
    monkeypatch.setattr(fitting, "_gain", gain)
    x = np.random.default_rng(0).normal(size=(2_000, 3))
    density = RealNVPDensity(max_steps=2, members=2, hidden=8, random_state=0).fit(x)
    arguments = density.flow_.config["arguments"]
    assert len(models) == 3
    assert tuple(arguments[name] for name in ("architecture", "dropout", "networks")) == best
    density.save(tmp_path)
    loaded = RealNVPDensity.load(tmp_path)
    np.testing.assert_array_equal(loaded.score_samples(x[:9]), density.score_samples(x[:9]))
