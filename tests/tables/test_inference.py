"""What people ask of a table: by a flow that is a Gaussian whose answers are known."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from realnvp.estimator.density import RealNVPDensity
from realnvp.tables import inference
from realnvp.tables.inference import _without, impute


def frame(n: int = 600) -> pd.DataFrame:
    """Return a table whose kind, size and weight depend on each other, with gaps."""
    rng = np.random.default_rng(0)
    kind = rng.choice(["cat", "dog", "ox"], n, p=[0.5, 0.3, 0.2])
    size = np.select([kind == "cat", kind == "dog"], [30.0, 60.0], 180.0) * np.exp(
        0.1 * rng.normal(size=n)
    )
    weight = np.round(size**1.5 / 40 * np.exp(0.1 * rng.normal(size=n)), 1)
    table = pd.DataFrame({"kind": kind, "size": size, "weight": weight})
    table.loc[rng.random(n) < 0.1, "weight"] = np.nan
    return table


@pytest.fixture(scope="module")
def density() -> RealNVPDensity:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RealNVPDensity(
            max_steps=60, hidden=8, couplings=2, mixture_init=3, random_state=0
        ).fit(frame())


def test_samples_are_rows_of_the_same_kind(density):
    drawn = density.sample(500, random_state=1)
    real = frame()
    assert (drawn.dtypes == real.dtypes).all()
    assert list(drawn) == list(real)
    assert set(drawn.kind) == {"cat", "dog", "ox"}
    assert drawn["size"].min() > 0
    assert np.array_equal(drawn.weight.round(1), drawn.weight, equal_nan=True)
    assert 0.04 < drawn.weight.isna().mean() < 0.2


def test_it_is_the_same_after_saving(density, tmp_path):
    density.save(tmp_path)
    twin = RealNVPDensity.load(tmp_path)
    real = frame()
    np.testing.assert_array_equal(twin.score_samples(real), density.score_samples(real))
    pd.testing.assert_frame_equal(twin.sample(9, random_state=0), density.sample(9, random_state=0))


def test_a_category_given_the_others(density):
    real = frame()
    p = density.category_proba(real.assign(kind="nobody knows"), "kind")
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (p.idxmax(axis=1) == real.kind).mean() > 0.97
    joint = np.stack([density.score_samples(real[:9].assign(kind=k)) for k in p.columns], axis=1)
    expected = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
    np.testing.assert_allclose(p[:9], expected, atol=0.06)  # by other draws of the noise
    with pytest.raises(ValueError, match=r"not a categorical column .* which has kind"):
        density.category_proba(real, "size")


def test_gaps_are_filled_from_the_rest_of_the_row(density):
    real = frame()
    holes = real.copy()
    holes.loc[::3, "weight"] = np.nan
    holes.loc[1::3, "kind"] = None
    filled, effective = density.impute(holes, random_state=0)
    assert not filled.isna().any(axis=None)
    full = holes.notna().all(axis=1)
    pd.testing.assert_frame_equal(filled[full], holes[full])
    assert np.isinf(effective[full]).all()
    assert np.median(effective[~full]) > 50
    p = density.category_proba(real[1::3], "kind").to_numpy()
    truth = p[np.arange(len(p)), real.kind[1::3].map({"cat": 0, "dog": 1, "ox": 2})]
    assert (filled.kind == real.kind)[1::3].mean() == pytest.approx(truth.mean(), abs=0.08)
    there = real.weight.notna()
    error = np.log(filled.weight / real.weight)[there][::3]
    assert error.abs().median() < 0.3


def test_an_impossible_value_is_unknown_and_changes_no_other_row(density):
    real = frame()[:40].dropna().reset_index(drop=True)
    new = real.copy()
    new.loc[3, "kind"] = "hen"
    says = r"'kind' of X holds 'hen' in row 3 \(counting from 0\), but had only cat, dog, ox"
    with pytest.warns(UserWarning, match=says):
        found = density.quantiles(new, column="size", random_state=0)
    known = density.quantiles(real, column="size", random_state=0)
    assert known[0.05][3] < found[0.5][3] < known[0.95][3]  # the weight says nearly all
    with pytest.warns(UserWarning, match=says):
        filled, effective = density.impute(new.assign(weight=np.nan), candidates=50)
    assert filled.kind.tolist() == new.kind.tolist()
    assert filled.weight.notna().all()
    assert np.isfinite(effective).all()
    with pytest.warns(UserWarning, match=says):
        assert np.isneginf(density.score_samples(new)).nonzero()[0].tolist() == [3]


def test_probabilities_given_an_unknown_number_are_an_integral_over_it(density):
    new = frame().dropna()[:30]
    new.loc[new.index[7], "size"] = None
    with pytest.warns(UserWarning, match="'size' of X has a missing value in row 7"):
        p = density.category_proba(new, "kind", random_state=0)
    sizes = np.linspace(10, 400, 2000)
    row = new.iloc[[7] * len(sizes)].assign(size=sizes)
    joint = [np.exp(density.score_samples(row.assign(kind=kind))).sum() for kind in p]
    np.testing.assert_allclose(p.iloc[7], np.array(joint) / np.sum(joint), atol=0.05)
    others = new.drop(index=new.index[7])
    same = density.category_proba(others, "kind")
    np.testing.assert_allclose(p.drop(index=new.index[7]), same, atol=1e-12)


def test_imputation_is_exact_for_a_gaussian():
    rng = np.random.default_rng(0)
    a = rng.normal(size=2000)
    table = pd.DataFrame({"a": a, "b": 0.8 * a + 0.6 * rng.normal(size=2000)})
    density = RealNVPDensity(max_steps=1, hidden=4, couplings=2, mixture_init=1, random_state=0)
    density.fit(table)
    x = torch.tensor([[1.0, math.nan]]).repeat(1500, 1).double()
    filled, effective = impute(density.flow_, density._schema, x, candidates=100)
    assert filled[:, 1].mean().item() == pytest.approx(0.8, abs=0.12)
    assert filled[:, 1].std().item() == pytest.approx(0.6, abs=0.08)
    assert effective.min() > 20


def test_quantiles_are_exact_for_a_gaussian():
    rng = np.random.default_rng(0)
    a = rng.normal(size=2000)
    table = pd.DataFrame({"a": a, "b": 0.8 * a + 0.6 * rng.normal(size=2000)})
    density = RealNVPDensity(max_steps=1, hidden=4, couplings=2, mixture_init=1, random_state=0)
    density.fit(table)
    found = density.quantiles(table[["a"]][:50], (0.1, 0.5, 0.9), "b", candidates=2000)
    expected = 0.8 * a[:50, None] + 0.6 * np.array([-1.2816, 0.0, 1.2816])
    assert np.abs(found.to_numpy() - expected).mean() < 0.06
    assert list(found.columns) == [0.1, 0.5, 0.9]


def test_quantiles_have_the_type_of_their_column_and_leave_gaps_out(density):
    real = frame()
    found = density.quantiles(real.drop(columns="weight")[:90], (0.05, 0.95), "weight")
    assert found.notna().all(axis=None)
    np.testing.assert_array_equal(found.round(1), found)
    there = real.weight[:90].dropna()
    inside = (found[0.05][there.index] <= there) & (there <= found[0.95][there.index])
    assert 0.8 < inside.mean() <= 1
    with pytest.raises(ValueError, match="'kind' is not a column of numbers"):
        density.quantiles(real, column="kind")
    with pytest.raises(ValueError, match="between 0 and 1"):
        density.quantiles(real, (0.5, 1.0), "size")


def test_quantiles_of_one_column_given_a_condition_cover_what_they_say():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 1))
    y = np.abs(x[:, 0]) * rng.normal(size=1200)
    settings = {"members": 1, "max_steps": 200, "validation_fraction": 0, "random_state": 0}
    density = RealNVPDensity(**settings).fit(y[:600], condition=x[:600])
    found = density.quantiles(condition=x[600:], candidates=200)
    inside = (found[0.05] <= y[600:]) & (y[600:] <= found[0.95])
    assert inside.mean() == pytest.approx(0.9, abs=0.05)
    with pytest.raises(ValueError, match="X is required"):
        density.quantiles()


def test_probabilities_are_of_the_column_after_dropped_ones():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": [f"n{i}" for i in range(80)], "x": rng.normal(size=80)})
    frame["kind"] = np.where(frame["x"] > 0, "high", "low")
    with pytest.warns(UserWarning, match="left out"):
        density = RealNVPDensity(random_state=0, max_steps=20).fit(frame)
    assert list(density.sample(3).columns) == ["x", "kind"]
    assert list(density.category_proba(frame, "kind").columns) == ["high", "low"]
    assert density.category_proba(density.sample(3)[["x"]], "kind").shape == (3, 2)
    assert np.isfinite(density.score_samples(density.sample(3))).all()
    filled, _ = density.impute(frame.assign(kind=None))
    assert list(filled.columns) == ["id", "x", "kind"]


def test_a_column_with_a_copy_is_what_the_copy_says():
    real = frame(300).assign(
        size2=lambda t: t["size"], kind2=lambda t: t.kind, double=lambda t: 2 * t["size"] + 1, one=7
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = RealNVPDensity(max_steps=1, random_state=0).fit(real)
        few = real.head(20)
        found = density.quantiles(few, column="size", candidates=20)
        p = density.category_proba(few, column="kind")
        guessed = density.category_proba(few.assign(kind2=None), column="kind")
    for level in found:
        np.testing.assert_allclose(found[level], few["size"], rtol=1e-6)
    assert p.idxmax(axis=1).tolist() == few.kind.tolist()
    assert (p.max(axis=1) == 1).all()
    assert (guessed.max(axis=1) < 1).any()
    for column, reason in (
        ("size2", "'size2' cannot be predicted: it was always equal to 'size'"),
        ("one", "'one' cannot be predicted: it was always 7"),
    ):
        with pytest.raises(ValueError, match=reason):
            density.quantiles(few, column=column)


def test_a_column_with_a_copy_and_an_index_that_counts_all_columns():
    rng = np.random.default_rng(0)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, 200), unit="D")
    names = [f"n{i}" for i in range(200)]
    frame = pd.DataFrame({"name": names, "day": days, "same": days, "x": rng.normal(size=200)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = RealNVPDensity(max_steps=1, random_state=0).fit(frame)
    new = frame.drop(columns="day").assign(same=None)
    found = density.quantiles(new, column="day")
    assert (found[0.5].dt.year >= 2019).all()
    index = density.quantiles(frame, column=3, random_state=0)
    pd.testing.assert_frame_equal(index, density.quantiles(frame, column="x", random_state=0))


def test_values_that_are_nearly_always_missing_are_filled_in():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=1500)})
    few = rng.random(1500) < 0.01
    table["number"] = np.where(few, table["a"], np.nan)
    table["word"] = np.where(few, np.where(table["a"] > 0, "up", "down"), None)
    density = RealNVPDensity(max_steps=1, mixture_init=1, random_state=0).fit(table)
    filled, effective = density.impute(table[:300], candidates=50, random_state=0)
    assert filled.notna().all(axis=None)
    assert effective[np.isfinite(effective)].min() > 5
    nothing = pd.DataFrame({"a": [np.nan] * 40, "number": [np.nan] * 40, "word": [None] * 40})
    filled, effective = density.impute(nothing, candidates=50, random_state=0)
    assert filled.notna().all(axis=None)
    assert effective.min() > 10


def test_candidates_outside_an_interval_have_the_density_that_they_say():
    v = torch.linspace(-6, 6, 20001).double()
    moved, change = _without(v, 0.2, 0.9)
    share = torch.special.ndtr(moved)
    assert ((share <= 0.2) | (share >= 0.9)).all()
    # The logarithm of dv / dv', by differences between neighbors that are on the same side.
    slope = v.diff() / moved.diff()
    inside = (moved.diff() < 0.01) & (moved[1:].abs() < 4)
    assert inside.sum() > 1000
    middle = (change[1:] + change[:-1]) / 2
    torch.testing.assert_close(slope.log()[inside], middle[inside], atol=1e-2, rtol=0)


def test_a_row_without_a_possible_candidate_stays_as_it_is(density, monkeypatch):
    real = frame()[:6].assign(weight=np.nan)

    def impossible(known, pattern, mean, covariance, generator):
        drawn = known.new_zeros(len(known), int(pattern.sum()))
        return drawn, known.new_full((len(known),), math.nan)

    monkeypatch.setattr(inference, "_proposed", impossible)
    filled, effective = density.impute(real, candidates=20)
    assert filled["weight"].isna().all()
    assert (effective == 0).all()
    real["kind"] = "nobody knows"
    with pytest.warns(UserWarning, match="nobody knows"):
        found = density.quantiles(real, column="size", candidates=20)
    assert found.isna().all(axis=None)


@pytest.mark.parametrize("column", ["size", "weight"])
def test_quantiles_on_a_grid_are_those_of_many_candidates(density, monkeypatch, column):
    table, q = frame()[:30], [0.1, 0.5, 0.9]
    arguments = density.flow_, density._schema, table, column, q
    found = inference.quantiles(*arguments)
    assert np.isinf(found.effective).all()
    monkeypatch.setattr(inference, "_number_of", lambda *_: None)
    drawn = inference.quantiles(*arguments, candidates=8_000)
    assert np.isfinite(drawn.effective).all()
    width = (drawn.table[0.9] - drawn.table[0.1]).to_numpy()
    difference = (found.table - drawn.table).abs().to_numpy() / width[:, None]
    assert difference.mean() < 0.01
    assert (found.mean - drawn.mean).abs().mean() < 0.01 * width.mean()


def test_quantiles_and_means_of_a_column_with_repeated_values_and_gaps(monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.normal(size=800)
    spent = np.where(rng.random(800) < 0.3, 0.0, np.where(rng.random(800) < 0.2, 50.0, np.nan))
    spent = np.where(np.isnan(spent), 30 * np.exp(0.5 * a + 0.3 * rng.normal(size=800)), spent)
    spent[::9] = np.nan
    table = pd.DataFrame({"a": a, "spent": spent})
    density = RealNVPDensity(max_steps=60, couplings=2, hidden=8, random_state=0).fit(table)
    assert len(density._schema.column("spent").repeated) == 2
    q = [0.1, 0.2, 0.4, 0.6, 0.9]
    arguments = density.flow_, density._schema, table[:40], "spent", q
    found = inference.quantiles(*arguments)
    assert (found.table[0.2] == 0).all()
    assert (found.table == 50).to_numpy().any()
    monkeypatch.setattr(inference, "_number_of", lambda *_: None)
    drawn = inference.quantiles(*arguments, candidates=8_000)
    difference = (found.table - drawn.table).abs() / drawn.table[0.9].mean()
    assert difference.to_numpy().mean() < 0.01
    assert (found.mean - drawn.mean).abs().mean() < 0.5


def test_an_index_counts_all_columns():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": [f"n{i}" for i in range(80)], "x": rng.normal(size=80)})
    table["y"] = table["x"] + 100
    table["y"] += rng.normal(size=80)
    with pytest.warns(UserWarning, match="left out"):
        density = RealNVPDensity(random_state=0, max_steps=1).fit(table)
    for index in (2, -1):
        found = density.quantiles(table, column=index, candidates=20)
        assert found.min(axis=None) > 50
    with pytest.raises(ValueError, match="'id' cannot be predicted: it is left out"):
        density.quantiles(table, column=0)
    with pytest.raises(ValueError, match="there are 3 columns"):
        density.quantiles(table, column=3)
    array = table[["x", "y"]].to_numpy()
    array = np.column_stack([rng.normal(size=80), array])
    density = RealNVPDensity(random_state=0, max_steps=1, columns={0: "drop"}).fit(array)
    assert density.quantiles(array, column=2, candidates=20).min(axis=None) > 50


@pytest.mark.parametrize("zone", [None, "Europe/Rome"])
@pytest.mark.filterwarnings("ignore:.*left out of it")
def test_a_date_with_a_copy_has_quantiles(zone):
    days = pd.date_range("2024-01-01", periods=90, tz=zone).to_series(index=range(90))
    x = np.arange(90.0) + np.random.default_rng(0).normal(size=90)
    table = pd.DataFrame({"day": days, "x": x, "same": days})
    density = RealNVPDensity(max_steps=1, mixture_init=1, random_state=0).fit(table)
    found = density.quantiles(table, column="day", candidates=20)
    assert (found[0.5] == days).all()
    new = table.drop(columns="day")
    new.loc[3, "same"] = pd.NaT
    found = density.quantiles(new, column="day", candidates=20)
    assert (found[0.5] == days).drop(3).all()
    assert found[0.05][3] < found[0.95][3]
    filled, _ = density.impute(table.assign(day=None), candidates=20)
    assert (filled["day"] == days).all()


@pytest.mark.parametrize("informative", [False, True])
def test_intervals_of_a_column_hold_where_another_is_missing(informative):
    # Rows without a category are a mixture of those with one, and spread wider. Whether a value is
    # missing may also depend on the other column.
    def rows(n: int, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        level, age = rng.choice(4, n, p=[0.3, 0.35, 0.25, 0.1]), rng.normal(size=n)
        income = 0.7 * level + 0.3 * age + 0.6 * rng.normal(size=n)
        chance = 0.06 + 0.1 * (income > 1) if informative else 0.1
        names = np.array(["none", "school", "college", "doctor"], dtype=object)[level]
        names = np.where(rng.random(n) < chance, None, names)
        return pd.DataFrame({"level": names, "age": age, "income": income})

    model = RealNVPDensity(random_state=0).fit(rows(3000, 0))
    new = rows(10_000, 1)
    new = new[new["level"].isna()]
    found = model.quantiles(new.drop(columns="income"), (0.05, 0.95), "income", random_state=0)
    inside = (found[0.05] <= new["income"]) & (new["income"] <= found[0.95])
    assert inside.mean() == pytest.approx(0.9, abs=0.04)
