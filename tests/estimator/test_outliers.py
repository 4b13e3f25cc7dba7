"""The outlier detector for scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import check_estimator

from realnvp.estimator import RealNVPDensity, RealNVPOutlierDetector


def quick(**options) -> RealNVPOutlierDetector:
    """Return a detector whose flows are mixtures, without a training."""
    density = RealNVPDensity(
        max_steps=1, couplings=1, hidden=4, mixture_init=1, validation_fraction=0
    )
    return RealNVPOutlierDetector(density, random_state=0, **options)


def rows(n: int, seed: int, dim: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mix = np.random.default_rng(9).normal(size=(dim, dim))
    return generator.normal(size=(n, dim)) @ mix + 5


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks():
    check_estimator(quick())


@pytest.mark.parametrize("n", [60, 1000])
def test_p_values_of_new_rows_are_uniform_and_of_outliers_small(n):
    detector = quick().fit(rows(n, 0))
    p = detector.p_values(rows(2000, 1))
    assert 0.02 < (p <= 0.05).mean() < 0.09
    assert detector.p_values(rows(1, 1) + 50)[0] == pytest.approx(
        1 / (len(detector.calibration_scores_) + 1)
    )
    assert len(detector.calibration_scores_) == (60 if n == 60 else 200)


def test_larger_scores_are_more_ordinary_and_the_offset_divides():
    detector = quick().fit(rows(400, 0))
    x = np.concatenate([rows(200, 1), rows(20, 2) + 30 * np.eye(3)[np.arange(20) % 3]])
    found = detector.score_samples(x)
    assert roc_auc_score(np.arange(220) < 200, found) > 0.98
    assert np.array_equal(detector.predict(x) == -1, found < detector.offset_)
    assert np.allclose(detector.decision_function(x), found - detector.offset_)
    assert (detector.predict(x)[200:] == -1).mean() > 0.9
    ordinary = detector.predict(rows(2000, 5)) == -1
    assert 0.01 < ordinary.mean() < 0.12


def test_a_fraction_of_outliers_is_left_out_of_the_fit_and_marked():
    x = rows(500, 0)
    x[:25] += 40
    detector = quick(contamination=0.05)
    labels = detector.fit_predict(x)
    assert (labels == -1).sum() == 25
    assert (labels[:25] == -1).mean() > 0.9
    with pytest.raises(ValueError, match="contamination"):
        quick(contamination=0.7).fit(x)


def test_the_same_seed_gives_the_same_scores():
    x = rows(50, 0)
    one, other = (clone(quick()).fit(x).score_samples(x) for _ in range(2))
    assert np.array_equal(one, other)


def test_the_strange_column_is_named():
    x = rows(400, 0)
    detector = quick().fit(x)
    typical = x.mean(axis=0, keepdims=True)
    strange = typical + np.array([0, 0, 30])
    found = detector.explain(np.concatenate([typical, strange]))
    assert found.shape == (2, 3)
    assert found[1, 2] > found[0].max() + 5


def test_columns_that_are_not_modeled_still_count():
    x = np.column_stack([rows(400, 0), np.full(400, 2.0)])
    detector = quick().fit(x)
    other = x[:1] + np.array([0, 0, 0, 1])
    assert detector.p_values(other)[0] < 0.02 < detector.p_values(x[:1])[0]
    assert np.isnan(detector.explain(x[:1])[0, 3])


def test_many_columns_are_modeled_by_their_principal_components():
    x = rows(400, 0, dim=12)
    detector = quick(max_features=4).fit(x)
    assert detector._members[0].density.flow_.dim == 4
    assert np.isnan(detector.explain(x[:1])).all()
    assert detector.p_values(x[:1] + 100)[0] < 0.02


def mixed(n: int, seed: int) -> pd.DataFrame:
    """Return rows of a town, which says the temperature, a day, and a number with gaps."""
    generator = np.random.default_rng(seed)
    town = generator.choice(3, size=n, p=[0.5, 0.3, 0.2])
    warm = np.array([0.0, 10.0, 20.0])[town] + generator.normal(size=n)
    count = generator.poisson(3, size=n).astype(float)
    count[generator.random(n) < 0.1] = np.nan
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(generator.integers(100, size=n), unit="D")
    names = np.array(["Oslo", "Rome", "Doha"])[town]
    return pd.DataFrame({"town": names, "warm": warm, "count": count, "day": days})


@pytest.mark.parametrize("n", [100, 600])
def test_tables_of_any_kind(n):
    detector = quick().fit(mixed(n, 0))
    ordinary = mixed(300, 1)
    p = detector.p_values(ordinary)
    assert 0.005 < (p <= 0.05).mean() < 0.1
    swapped = ordinary.assign(
        town=ordinary.town.map({"Oslo": "Doha", "Rome": "Oslo", "Doha": "Rome"})
    )
    both = pd.concat([ordinary, swapped])
    assert roc_auc_score(np.arange(600) < 300, detector.score_samples(both)) > 0.97
    assert np.array_equal(
        detector.predict(ordinary) == -1, detector.decision_function(ordinary) < 0
    )
    # Names of categories, and their order, make no difference.
    renamed = [
        table.assign(town=table.town.map({"Oslo": "c", "Rome": "a", "Doha": "b"}))
        for table in (mixed(n, 0), both)
    ]
    found = quick().fit(renamed[0]).score_samples(renamed[1])
    assert roc_auc_score(np.arange(600) < 300, found) > 0.97
    reasons = detector.explain(swapped[:50]).mean(axis=0)
    assert reasons[:2].min() > reasons[2:].max() + 3


def test_what_was_never_seen_is_strange_and_named():
    detector = quick().fit(mixed(400, 0))
    rows = mixed(3, 1)
    rows.loc[1, "town"] = "Atlantis"
    rows.loc[2, "day"] = pd.NaT
    p, reasons = detector.p_values(rows), detector.explain(rows)
    assert p[0] > 0.05 > 0.03 > p[1:].max()
    assert np.isfinite(reasons[0]).all()
    assert np.isinf(reasons[1]).tolist() == [True, False, False, False]
    assert np.isinf(reasons[2]).tolist() == [False, False, False, True]


@pytest.mark.filterwarnings("ignore:.*left out of it")
def test_what_contradicts_a_constant_or_a_copy_is_explained():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["x", "y"])
    table = table.assign(copy=table.x, year=2020, empty=None)
    detector = quick().fit(table)
    rows = table[:4].copy()
    rows.loc[0, "copy"], rows.loc[1, "year"], rows.loc[2, "empty"] = 9.0, 2021, "x"
    found = np.isinf(detector.explain(rows))
    assert found[:, 2:].tolist() == [
        [True, False, False], [False, True, False], [False, False, True], [False] * 3,
    ]  # fmt: skip
    assert not found[:, :2].any()


def test_kinds_of_columns_can_be_declared_and_are_those_of_all_rows():
    table = mixed(60, 0).assign(year=np.repeat([2001, 2002], [57, 3]))
    detector = quick()
    detector.density.set_params(columns={"year": "categorical", "count": "drop"})
    detector.fit(table)
    for member in detector._members:
        kinds = {column.name: column.kind for column in member.density._schema.columns}
        assert kinds["year"] in ("categorical", "constant")
        assert kinds["count"] == "drop"
    assert np.isnan(detector.explain(table[:2])[:, 2]).all()
    assert detector.p_values(table.assign(year=1999))[0] < 0.05


@pytest.mark.filterwarnings("ignore:constant columns")
@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_columns_that_hardly_vary(contamination):
    table = pd.DataFrame({"a": ["x"] * 19 + ["y"], "b": [None] * 19 + [1.5], "c": ["z"] * 20})
    detector = quick(contamination=contamination).fit(table)
    found = detector.score_samples(table)
    assert np.isfinite(found).all()
    assert found.argmin() == 19


@pytest.mark.parametrize("n", [100, 400])
def test_what_a_third_of_the_rows_are_is_no_outlier(n):
    table = pd.DataFrame({"answer": np.resize(["no", "no", "yes"], n)})
    found = RealNVPOutlierDetector(random_state=0).fit(table)
    assert (found.predict(table) == 1).all()
    assert (found.p_values(table) > 0.2).all()
    assert found.predict(pd.DataFrame({"answer": ["perhaps"]})) == -1


def test_contaminated_tables_of_any_kind():
    table = mixed(400, 0)
    table.loc[:19, "warm"] += 40
    labels = quick(contamination=0.05).fit_predict(table)
    assert (labels == -1).sum() == 20
    assert (labels[:20] == -1).mean() > 0.8


def test_a_table_of_numbers_is_as_an_array_of_them():
    x = rows(200, 0)
    one = quick().fit(x).score_samples(x[:50])
    other = quick().fit(pd.DataFrame(x)).score_samples(pd.DataFrame(x[:50]))
    assert np.allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("kind", ["binary", "integers"])
def test_p_values_of_discrete_rows_are_valid(kind):
    """New rows equal learning rows as often as held-out rows do."""
    small = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = rng.random((800, 8)) < 0.3 if kind == "binary" else rng.integers(20, size=(800, 2))
        density = RealNVPDensity(max_steps=1, integers="none")
        detector = RealNVPOutlierDetector(density, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector.fit(rows[:400].astype(float))
        small.append((detector.p_values(rows[400:].astype(float)) <= 0.05).mean())
    assert np.mean(small) < 0.05 + 2 * np.std(small) / len(small) ** 0.5


def test_few_rows_have_no_outliers_among_them():
    rows = np.random.default_rng(0).normal(size=(9, 2))
    detector = RealNVPOutlierDetector(RealNVPDensity(max_steps=1), random_state=0)
    with pytest.warns(UserWarning, match="no p-value can be 0.05 or less"):
        detector.fit(rows)
    new = np.random.default_rng(1).normal(size=(50, 2))
    assert (detector.p_values(new) > 0.05).all()
    assert (detector.predict(new) == 1).all()


@pytest.mark.parametrize(
    ("table", "options"),
    [(rows(400, 0, dim=12), {"max_features": 4}), (rows(60, 0), {"contamination": 0.1})],
    ids=["components", "folds"],
)
def test_saved_detectors_are_equal(table, options, tmp_path):
    detector = quick(**options).fit(table)
    detector.save(tmp_path)
    twin = RealNVPOutlierDetector.load(tmp_path)
    new = rows(20, 1, dim=table.shape[1])
    assert np.array_equal(twin.p_values(new), detector.p_values(new))
    assert np.array_equal(twin.predict(new), detector.predict(new))
    assert twin.get_params()["contamination"] == detector.contamination


def test_saved_detectors_of_mixed_tables_are_equal_and_damage_is_named(tmp_path):
    detector = quick().fit(mixed(60, 0))
    detector.save(tmp_path)
    twin = RealNVPOutlierDetector.load(tmp_path)
    new = mixed(9, 1)
    assert np.array_equal(twin.p_values(new), detector.p_values(new))
    np.testing.assert_array_equal(twin.explain(new), detector.explain(new))
    path = tmp_path / "detector.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is damaged"):
        RealNVPOutlierDetector.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no saved detector"):
        RealNVPOutlierDetector.load(tmp_path / "elsewhere")


def test_false_discoveries_are_bounded_and_a_level_that_finds_nothing_says_so():
    detector = quick().fit(rows(400, 0))
    new = np.concatenate([rows(60, 1), rows(40, 2) + 30])
    found = detector.predict(new, fdr=0.2)
    assert (found[60:] == -1).all()
    assert (found[:60] == -1).mean() < 0.2
    assert np.array_equal(detector.predict(new, alpha=0.05) == -1, detector.p_values(new) <= 0.05)
    with pytest.warns(UserWarning, match="no example is marked: by 80 held-out examples"):
        assert (detector.predict(new[58:61], fdr=0.001) == 1).all()
    for options in ({"alpha": 0.1, "fdr": 0.1}, {"alpha": 1.5}):
        with pytest.raises(ValueError, match="give alpha or fdr"):
            detector.predict(new, **options)


def test_a_shift_of_all_rows_is_a_drift():
    for table in (rows(400, 0), rows(100, 0)):  # one member, and one for each fold
        detector = quick().fit(table)
        assert detector.drift(rows(200, 1)) > 0.01
        assert detector.drift(rows(200, 1) + 0.8) < 1e-3
