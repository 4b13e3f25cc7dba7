"""The scikit-learn estimator: the library's own checks, and what they do not ask."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_iris, load_wine, make_moons
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import realnvp
from realnvp.cli.main import main
from realnvp.estimator.density import DRAWS, RealNVPDensity
from realnvp.tables.conditionals import even_noise

FAST = {"max_steps": 20, "hidden": 8, "couplings": 2, "random_state": 0}


def rows(n: int = 200, dim: int = 3, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, dim)) @ generator.normal(size=(dim, dim)) + 3


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks():
    check_estimator(
        RealNVPDensity(max_steps=10, hidden=4, couplings=2, mixture_init=1),
        # the one that scikit-learn documents for its own densities (KernelDensity)
        expected_failed_checks={
            "check_sample_weight_equivalence_on_dense_data": "training is stochastic: a row of "
            "weight 2 is drawn twice as often, not twice in each batch"
        },
    )


def test_a_density_integrates_to_one():
    X = make_moons(500, noise=0.1, random_state=0)[0]
    density = RealNVPDensity(max_steps=100, random_state=0).fit(X)
    side = np.linspace(-3, 4, 300)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    p = np.exp(density.score_samples(grid)).reshape(300, 300)
    assert integrate.trapezoid(integrate.trapezoid(p, side), side) == pytest.approx(1, abs=1e-3)


def test_latents_are_inverted_and_standard_normal():
    X = rows(1000)
    density = RealNVPDensity(**FAST).fit(X)
    Z = density.transform(X)
    np.testing.assert_allclose(density.inverse_transform(Z), X, atol=1e-8)
    np.testing.assert_allclose(Z.mean(0), 0, atol=0.15)
    np.testing.assert_allclose(Z.std(0), 1, atol=0.15)
    assert density.get_feature_names_out()[0] == "realnvpdensity0"


def test_a_seed_reproduces_and_leaves_torch_alone():
    X = rows()
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = (RealNVPDensity(**FAST).fit(X) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert np.array_equal(one.score_samples(X), two.score_samples(X))
    assert np.array_equal(one.sample(5), two.sample(5))
    assert not np.array_equal(one.sample(5, random_state=1), one.sample(5, random_state=2))


def test_it_is_as_good_as_the_mixture_that_it_starts_as():
    X = load_iris().data
    X = np.random.default_rng(0).permutation(X)
    density = RealNVPDensity(random_state=0).fit(X[:100])
    mixture = max(GaussianMixture(k, random_state=0).fit(X[:100]).score(X[100:]) for k in (1, 2, 3))
    assert density.score(X[100:]) > mixture - 0.3


def test_constant_and_integer_columns():
    generator = np.random.default_rng(0)
    X = np.column_stack((rows(300, 2), np.full(300, 7.25), generator.poisson(2, 300).astype(float)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        density = RealNVPDensity(**FAST).fit(X)
    messages = [str(w.message) for w in told]
    assert any("constant columns" in m and m.endswith(": 2") for m in messages)
    assert any("integer columns" in m and ": 3;" in m for m in messages)
    samples = density.sample(100, random_state=0)
    assert (samples[:, 2] == 7.25).all()
    assert (samples[:, 3] == np.floor(samples[:, 3])).all()
    back = density.inverse_transform(density.transform(X))
    np.testing.assert_allclose(back[:, :2], X[:, :2], atol=1e-8)
    assert np.array_equal(back[:, 2:], X[:, 2:])
    other = X[:3].copy()
    other[0, 2], other[1, 3] = 7.0, 0.5
    with pytest.warns(UserWarning, match=r"'x2' of X holds 7.0 in row 0 .* was always 7.25"):
        scores = density.score_samples(other)
    assert np.isneginf(scores[:2]).all()
    assert np.isfinite(scores[2])
    # the density of integers is a probability: it adds up
    total = sum(
        np.exp(density.score_samples(np.column_stack((X[:5, :3], np.full(5, k)))))
        for k in range(-5, 40)
    )
    alone = np.exp(RealNVPDensity(**FAST).fit(X[:, :2]).score_samples(X[:5, :2]))
    np.testing.assert_allclose(np.log(total), np.log(alone), atol=1.0)


def test_columns_far_from_zero_and_of_any_unit():
    X = rows(200, 2)
    far = X * [1e-9, 10.0] + [0.0, 1.7e9]
    one, other = (RealNVPDensity(**FAST, integers="none").fit(x) for x in (X, far))
    unit = np.log(1e-9 * 10.0)
    np.testing.assert_allclose(other.score_samples(far) + unit, one.score_samples(X), atol=1e-2)
    np.testing.assert_allclose(other.inverse_transform(other.transform(far)), far, rtol=1e-12)


def test_conditions_that_cannot_be():
    X = rows(30, 2)
    for bad, says in (
        (np.array(["a", None, "b"] * 10, dtype=object), "missing"),
        (np.array(["a", 1, "b"] * 10, dtype=object), "mixes"),
        (np.full(30, np.nan), "NaN"),
        (["a"] * 29, "one row for each"),
    ):
        with pytest.raises(ValueError, match=says):
            RealNVPDensity(**FAST).fit(X, condition=bad)
    density = RealNVPDensity(**FAST).fit(
        X, condition=["a", "b", "c"] * 10, sample_weight=[1, 1, 0] * 10
    )
    with pytest.raises(ValueError, match="unknown class 'c'"):
        density.sample(1, condition="c")
    with pytest.raises(ValueError, match="other classes"):
        density.score_samples(X[:1], condition=[1])


def test_numbers_of_classes_may_have_any_type():
    X, classes = rows(30, 2), np.arange(30) % 3
    density = RealNVPDensity(**FAST).fit(X, condition=classes)
    expected = density.score_samples(X, condition=classes)
    for kind in (np.uint8, np.int32, float):
        same = density.score_samples(X, condition=classes.astype(kind))
        np.testing.assert_array_equal(same, expected)
    with pytest.raises(ValueError, match=r"unknown class 0\.5"):
        density.sample(1, condition=0.5)


def test_parts_of_a_table_are_as_the_whole(monkeypatch):
    X = np.column_stack([rows(40, 2), np.arange(40) % 5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = RealNVPDensity(**FAST).fit(X, condition=X[:, 0])
    scores, z = density.score_samples(X, X[:, 0]), density.transform(X, X[:, 0])
    monkeypatch.setattr("realnvp.estimator.density.NUMBERS", 21)
    np.testing.assert_allclose(density.score_samples(X, X[:, 0]), scores, rtol=1e-12)
    np.testing.assert_allclose(density.transform(X, X[:, 0]), z, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(density.inverse_transform(z, X[:, 0]), X, atol=1e-6)


def test_declared_integer_columns():
    X = rows(100, 3)
    X[:, 1] = np.round(X[:, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RealNVPDensity(**FAST, integers=[1]).fit(X)
        frame = pd.DataFrame(X, columns=["a", "b", "c"])
        density = RealNVPDensity(**FAST, integers=["b"]).fit(frame)
        assert list(density.feature_names_in_) == ["a", "b", "c"]
        assert not RealNVPDensity(**FAST, integers="none").fit(X).flow_.noisy
    for bad, says in (([0], "holds fractions"), (["z"], "does not exist"), ([9], "0 .. 2"),
                      ("some", "integers is")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            RealNVPDensity(**FAST, integers=bad).fit(frame)


def test_conditions():
    generator = np.random.default_rng(0)
    kind = generator.choice(["left", "right"], 600)
    X = generator.normal(size=(600, 2)) + np.where(kind == "left", -4, 4)[:, None]
    density = RealNVPDensity(max_steps=300, hidden=8, random_state=0).fit(X, condition=kind)
    assert density.sample(50, condition="left", random_state=0).max() < 1
    assert density.sample(50, condition=["right"] * 50, random_state=0).min() > -1
    right, wrong = (density.score(X, condition=k) for k in (kind, kind[::-1]))
    assert right > wrong + 1
    Z = density.transform(X, condition=kind)
    np.testing.assert_allclose(density.inverse_transform(Z, condition=kind), X, atol=1e-7)
    grad = generator.normal(size=(600, 1))
    number = RealNVPDensity(**FAST).fit(X + 3 * grad, condition=grad[:, 0])
    assert number.sample(4, condition=1.5, random_state=0).shape == (4, 2)
    with pytest.raises(ValueError, match="unknown class 'up'"):
        density.score_samples(X[:1], condition=["up"])
    with pytest.raises(ValueError, match="pass one for each row"):
        density.sample(3)
    with pytest.raises(ValueError, match="leave it out"):
        RealNVPDensity(**FAST).fit(X).score_samples(X, condition=kind)


def test_weights_draw_the_density_to_where_they_are():
    X = np.concatenate((rows(200, 2), rows(200, 2) + 20))
    weight = np.repeat([1.0, 0.02], 200)
    density = RealNVPDensity(**FAST, mixture_init=1).fit(X, sample_weight=weight)
    assert density.score(X[:200]) > density.score(X[200:]) + 2
    none = RealNVPDensity(**FAST).fit(X, sample_weight=np.repeat([1, 0], 200))
    alone = RealNVPDensity(**FAST).fit(X[:200])
    np.testing.assert_allclose(none.score_samples(X[:9]), alone.score_samples(X[:9]))
    with pytest.raises(ValueError, match="at least 2 rows"):
        density.fit(X, sample_weight=np.eye(400)[0])


def test_it_can_be_copied_stored_and_searched():
    X = rows()
    density = RealNVPDensity(**FAST).fit(X)
    for twin in (copy.deepcopy(density), pickle.loads(pickle.dumps(density))):
        assert np.array_equal(twin.score_samples(X), density.score_samples(X))
    assert not hasattr(clone(density), "flow_")
    pipeline = make_pipeline(StandardScaler(), RealNVPDensity(**FAST)).fit(X)
    assert np.isfinite(pipeline.score(X))
    search = GridSearchCV(RealNVPDensity(**FAST), {"smoothing": [0.05, 1.0]}, cv=2).fit(X)
    assert search.best_params_ in ({"smoothing": 0.05}, {"smoothing": 1.0})


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (np.array([[1.0, np.nan], [2.0, 3.0]]), "NaN"),
        (np.array([[1.0, np.inf], [2.0, 3.0]]), "infinity"),
        (np.array([["a", "b"], ["c", "d"]], dtype=object), "could not convert"),
        (np.ones((1, 3)), "minimum of 2 is required"),
        (np.ones((5, 2)), "all of 2 are constant"),
        (np.arange(5.0), "Expected 2D array"),
        (np.zeros((0, 2)), "minimum of 2 is required"),
    ],
)
def test_bad_tables_are_refused_as_scikit_learn_does(X, says):
    with pytest.raises(ValueError, match=says):
        RealNVPDensity(**FAST).fit(X)


def test_few_rows_are_not_memorized():
    """19 rows of 5 standard normals once had -24.2 nats on fresh rows, where a Gaussian has -8."""
    for n in (2, 3, 5, 8, 13, 19, 30):
        gain = []
        for seed in range(2):
            generator = np.random.default_rng(seed)
            X, fresh = generator.normal(size=(n, 4)), generator.normal(size=(1000, 4))
            density = RealNVPDensity(random_state=0, integers="none").fit(X)
            scaler = StandardScaler().fit(X)
            gaussian = LedoitWolf().fit(scaler.transform(X)).score(scaler.transform(fresh))
            gain.append(density.score(fresh) - gaussian + np.log(scaler.scale_).sum())
        assert np.mean(gain) > -0.1 * 4, n


@pytest.mark.parametrize("count", [100, 300])
def test_a_frequent_row_has_its_probability(count):
    X = np.concatenate((np.random.default_rng(0).normal(size=(300, 2)), np.full((count, 2), 2.0)))
    table = pd.DataFrame(X, columns=["a", "b"])
    found = RealNVPDensity(random_state=0, max_steps=20).fit(table).score_samples(table[-1:])
    assert found == pytest.approx(np.log(count / (300 + count)), abs=0.05)


@pytest.mark.parametrize("seed", [1, 3])
def test_values_that_are_missing_together(seed):
    rng = np.random.default_rng(seed)
    gaps = rng.random(600) < 0.3
    table = pd.DataFrame({k: np.where(gaps, np.nan, rng.normal(10, 2, 600)) for k in "abc"})
    density = RealNVPDensity(random_state=0, max_steps=20).fit(table)
    assert density.score(table[gaps]) == pytest.approx(np.log(gaps.mean()), abs=0.15)
    assert density.score(table[~gaps]) == pytest.approx(-6.7, abs=0.2)


def test_copies_of_rows_are_not_held_out_from_themselves():
    """60 rows, 20 times each, once had -12.6 nats on fresh rows, and -4.4 without the copies."""
    generator = np.random.default_rng(0)
    X, fresh = generator.normal(size=(60, 3)), generator.normal(size=(1000, 3))
    alone = RealNVPDensity(random_state=0).fit(X).score(fresh)
    copies = RealNVPDensity(random_state=0).fit(np.repeat(X, 20, axis=0))
    assert copies.score(fresh) == pytest.approx(alone, abs=1e-4)
    mixed = np.random.default_rng(1).permutation(np.repeat(X, 20, axis=0))
    assert RealNVPDensity(random_state=0).fit(mixed).score(fresh) > alone - 0.3


@pytest.mark.parametrize("factor", [1e160, 1e-200, 1e-9])
def test_columns_of_any_unit(factor: float):
    X = rows(60, 2)
    one, other = (RealNVPDensity(**FAST, integers="none").fit(x) for x in (X, X * factor))
    expected = one.score_samples(X) - 2 * np.log(factor)
    np.testing.assert_allclose(other.score_samples(X * factor), expected, atol=1e-2)
    back = other.inverse_transform(other.transform(X * factor))
    np.testing.assert_allclose(back, X * factor, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:integer columns")
@pytest.mark.parametrize(("factor", "offset"), [(1e4, 2e5), (1e-12, 0.0)])
def test_numeric_conditions_of_any_unit(factor: float, offset: float):
    generator = np.random.default_rng(0)
    c = generator.normal(size=300)
    X = np.column_stack((2 * c, np.sin(2 * c))) + 0.1 * generator.normal(size=(300, 2))
    one = RealNVPDensity(**FAST).fit(X, condition=c)
    unit = factor * c + offset
    other = RealNVPDensity(**FAST).fit(X, condition=unit)
    expected, found = one.score_samples(X, c), other.score_samples(X, unit)
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("factor", [1e-50, 1e40, 1e-300])
def test_weights_of_any_unit(factor: float):
    X, weight = rows(100, 2), 1 + np.arange(100.0)
    one = RealNVPDensity(**FAST).fit(X, sample_weight=weight)
    other = RealNVPDensity(**FAST).fit(X, sample_weight=weight * factor)
    np.testing.assert_allclose(other.score_samples(X), one.score_samples(X), rtol=1e-6)


def test_columns_that_follow_from_others_are_given_back():
    """A copy of a column once raised the density from -4.26 to +3.68 nats, without a word."""
    X = rows(200, 3)
    more = np.column_stack((X, X[:, 1], 2.54 * X[:, 0] - 7, X.sum(axis=1)))
    with pytest.warns(UserWarning, match="linear function of others .*: 3, 4, 5"):
        density = RealNVPDensity(**FAST).fit(more)
    alone = RealNVPDensity(**FAST).fit(X)
    np.testing.assert_allclose(density.score_samples(more), alone.score_samples(X), atol=1e-4)
    samples = density.sample(5, random_state=0)
    assert np.array_equal(samples[:, 3], samples[:, 1])
    np.testing.assert_allclose(samples[:, 4], 2.54 * samples[:, 0] - 7, rtol=1e-6)
    np.testing.assert_allclose(samples[:, 5], samples[:, :3].sum(axis=1), atol=1e-5)
    more[0, 3] += 1e-3
    with pytest.warns(UserWarning, match="'x3' of X holds .* was always equal to 'x1'"):
        assert np.isneginf(density.score_samples(more[:1])).all()


def test_a_class_has_at_least_its_own_gaussian():
    """The three species once had -15 nats and 87 % accuracy; one Gaussian each -14.2 and 98 %."""
    X, y = load_wine(return_X_y=True)
    X = X[:, [0, 6, 9, 12]]
    train, test = train_test_split(np.arange(len(X)), random_state=0, stratify=y)
    density = RealNVPDensity(random_state=0, integers="none").fit(X[train], condition=y[train])
    gaussians = [
        multivariate_normal(X[train][y[train] == c].mean(0), np.cov(X[train][y[train] == c].T))
        for c in range(3)
    ]
    simple = np.stack([g.logpdf(X[test]) for g in gaussians], axis=1)
    ours = np.stack([density.score_samples(X[test], [c] * len(test)) for c in range(3)], axis=1)
    own = np.arange(len(test)), y[test]
    assert ours[own].mean() > simple[own].mean() - 0.1
    right = (ours.argmax(1) == y[test]).mean()
    assert right >= (simple.argmax(1) == y[test]).mean() - 0.03


def test_threads_fit_and_score_as_one_does():
    X, Y = rows(100, 2), np.random.default_rng(1).poisson(5, size=(100, 2)).astype(float)

    def work(_: int) -> list[np.ndarray]:
        density = RealNVPDensity(**FAST, integers="none").fit(X)
        other = RealNVPDensity(**FAST, integers=[0, 1]).fit(Y)
        return [density.score_samples(X), density.transform(X), other.score_samples(Y)]

    expected = work(0)
    torch.manual_seed(3)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(4)):
            assert all(map(np.array_equal, found, expected))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_fit_ignores_the_processes_around_it(monkeypatch):
    variables = {
        "TORCHELASTIC_RUN_ID": "1", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
        "SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1",
    }  # fmt: skip
    X = rows(40, 2)
    alone = RealNVPDensity(**FAST).fit(X)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    there = RealNVPDensity(**FAST).fit(X)
    assert np.array_equal(there.score_samples(X), alone.score_samples(X))


def test_saved_densities_are_equal_and_readable_by_the_command_line(tmp_path, capsys):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(rows(80, 2) * [1e-3, 1e4], columns=["a", "b"])
    frame["always"], frame["twice"] = 3.5, frame["a"]
    frame["count"] = generator.poisson(3, 80).astype(float)
    kind = pd.Series(generator.choice(["left", "right"], 80), name="kind")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = RealNVPDensity(**FAST).fit(frame, condition=kind)
    density.save(tmp_path / "model")
    twin = RealNVPDensity.load(tmp_path / "model")
    assert np.array_equal(twin.score_samples(frame, kind), density.score_samples(frame, kind))
    assert twin.get_params() == density.get_params()
    pd.testing.assert_frame_equal(
        pd.DataFrame(twin.sample(4, 0, "left")), pd.DataFrame(density.sample(4, 0, "left"))
    )
    frame.assign(kind=kind).to_csv(tmp_path / "rows.csv", index=False)
    command = ["eval", str(tmp_path / "model"), "--data", str(tmp_path / "rows.csv"), "--json"]
    assert main([*command, "--samples", "16"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nats"] == pytest.approx(density.score(frame, condition=kind), abs=0.1)
    realnvp.vector_flow(2).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="not one of a table"):
        RealNVPDensity.load(tmp_path / "other")


def test_a_few_lines_in_the_units_of_score(capsys):
    X = rows(100, 2) * 1000
    density = RealNVPDensity(**FAST, verbose=True).fit(X)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 10
    shown = float(lines[0].partition("score ")[2].split()[0])
    assert shown == pytest.approx(density.score(X), abs=1.0)


def test_random_states_of_any_kind():
    X = rows(30, 2)
    for make in (np.random.default_rng, np.random.RandomState, int):
        one, two = (RealNVPDensity(**{**FAST, "random_state": make(3)}).fit(X) for _ in range(2))
        assert np.array_equal(one.score_samples(X), two.score_samples(X))
        assert np.array_equal(one.sample(3, make(1)), two.sample(3, make(1)))


def test_fit_transform_takes_the_condition():
    X, kind = rows(60, 2), ["a", "b"] * 30
    Z = RealNVPDensity(**FAST).fit_transform(X, condition=kind)
    expected = RealNVPDensity(**FAST).fit(X, condition=kind).transform(X, kind)
    assert np.array_equal(Z, expected)


def test_bad_use_is_refused():
    X = rows()
    with pytest.raises(NotFittedError):
        RealNVPDensity().score_samples(X)
    with pytest.raises(NotFittedError):
        RealNVPDensity().sample(1)
    density = RealNVPDensity(**FAST).fit(X)
    with pytest.raises(ValueError, match="3 features"):
        density.score_samples(X[:, :2])
    with pytest.raises(ValueError, match="Expected 2D array"):
        density.inverse_transform(np.zeros(3))
    with pytest.raises(ValueError, match="latents have 3"):
        density.inverse_transform(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="one row for each"):
        RealNVPDensity(**FAST).fit(X, condition=3)
    for bad in ({"coupling": "cubic"}, {"max_steps": 0}, {"validation_fraction": 1.5}):
        with pytest.raises(ValueError, match=next(iter(bad)).replace("max_", "")):
            RealNVPDensity(**{**FAST, **bad}).fit(X)


def test_many_rows_have_wider_networks_that_are_trained_for_longer():
    X = np.random.default_rng(0).normal(size=(10_010, 2))
    density = RealNVPDensity(max_steps=1, random_state=0).fit(X)
    assert density.flow_.config["arguments"]["hidden"] == 64
    assert RealNVPDensity(**FAST).fit(X).flow_.config["arguments"]["hidden"] == 8


def test_more_columns_than_rows():
    X = np.random.default_rng(0).normal(size=(15, 40))
    density = RealNVPDensity(**FAST).fit(X)
    assert np.isfinite(density.score(X))
    assert np.isfinite(density.sample(3)).all()


def test_classes_that_are_numbers_are_known_to_the_command_line(tmp_path, capsys):
    X, kind = rows(60, 2), pd.Series([3, 7] * 30, name="kind")
    density = RealNVPDensity(**FAST).fit(X, condition=kind)
    density.save(tmp_path / "model")
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(kind=kind)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    assert (
        main(["eval", str(tmp_path / "model"), "--data", str(tmp_path / "rows.csv"), "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["nats"] == pytest.approx(density.score(X, condition=kind), abs=1e-3)
    assert "accuracy" in found
    frame.assign(kind=5).to_csv(tmp_path / "other.csv", index=False)
    assert main(["eval", str(tmp_path / "model"), "--data", str(tmp_path / "other.csv")]) == 2
    assert "none of the known classes 3, 7" in capsys.readouterr().err


def test_a_condition_in_seconds_is_known_to_the_command_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    t = pd.Series(1.7e9 + 20 * rng.random(300), name="t")
    frame = pd.DataFrame({"y": np.sin(t - 1.7e9) + 0.1 * rng.normal(size=300)})
    frame["z"] = frame["y"] + rng.normal(size=300)
    density = RealNVPDensity(max_steps=100, mixture_init=1, random_state=0)
    density.fit(frame, condition=t).save(tmp_path / "model")
    frame.assign(t=t).to_csv(tmp_path / "rows.csv", index=False)
    command = ["eval", str(tmp_path / "model"), "--data", str(tmp_path / "rows.csv"), "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nats"] == pytest.approx(density.score(frame, condition=t), abs=1e-6)


def test_unknown_categories_have_no_probability():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"town": ["Rome", "Oslo"] * 30, "x": generator.normal(size=60)})
    density = RealNVPDensity(**FAST).fit(frame)
    new = frame.head(4).assign(town=["Rome", "Ulm", "Oslo", None])
    with pytest.warns(UserWarning, match="has a missing value in row 3 .* holds 'Ulm' in row 1"):
        found = density.score_samples(new)
    assert np.isneginf(found).tolist() == [False, True, False, True]
    expected = density.score_samples(frame.head(4))
    assert np.array_equal(found[[0, 2]], expected[[0, 2]])


def test_columns_may_be_called_by_numbers():
    X = np.random.default_rng(0).normal(size=(60, 2))
    frame = pd.DataFrame(X, columns=[1, 2])
    density = RealNVPDensity(random_state=0, max_steps=1).fit(frame)
    for column in (1, "1"):
        found = density.quantiles(frame[[2]], column=column, candidates=20)
        pd.testing.assert_frame_equal(found, density.quantiles(frame, column=1, candidates=20))
    filled, _ = density.impute(frame.mask(frame > 2), candidates=20)
    assert filled.columns.tolist() == [1, 2]
    assert filled.notna().all(axis=None)


@pytest.mark.parametrize("method", ["fit", "score_samples"])
def test_gaps_in_an_array_are_said_to_belong_in_a_frame(method):
    X = np.random.default_rng(0).normal(size=(60, 2))
    density = RealNVPDensity(random_state=0, max_steps=1).fit(X)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN, first in row 3 .* DataFrame"):
        getattr(density, method)(X)


def test_noise_for_more_columns_than_a_sobol_sequence_has():
    few, many = (even_noise(features, DRAWS).numpy() for features in (3, 21_202))
    assert (few.shape, many.shape) == ((DRAWS, 3), (DRAWS, 21_202))
    for points in (few, many):  # one in each interval
        assert np.array_equal(np.sort(np.floor(points * DRAWS), axis=0)[:, 0], np.arange(DRAWS))
