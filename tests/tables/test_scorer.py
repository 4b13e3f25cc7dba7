"""One table, scored in Python, by the command line and in batches of every kind."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from realnvp import RealNVPDensity, Scorer, load
from realnvp.cli.main import main
from realnvp.utils.threads import single_thread


def people(n: int = 300, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    sex = random.choice(["f", "m"], n)
    age = random.integers(18, 90, n)
    income = np.round(np.exp(random.normal(7, 1, n)) + 20 * age, 2)
    income[random.random(n) < 0.1] = np.nan
    return pd.DataFrame({"id": np.arange(n), "sex": sex, "age": age, "income": income})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return the run directory of a table whose density is conditioned on a column."""
    folder = tmp_path_factory.mktemp("scorer")
    people().drop(columns="id").to_csv(folder / "people.csv", index=False)
    words = f"train table --data {folder}/people.csv --condition sex --out {folder}/run --quiet"
    assert main([*words.split(), "--steps", "20", "--training.num_validations", "1"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def scored(run) -> pd.DataFrame:
    out = run.parent / "scores.csv"
    assert main(["score", str(run), "--data", f"{run.parent}/people.csv", "--out", str(out)]) == 0
    return pd.read_csv(out)


SCORES = ["log_likelihood", "outlier_score", "p_value"]


def test_a_scorer_says_what_the_command_line_says(run, scored):
    rows = people()
    found = Scorer(run)(rows)
    assert list(found) == [*rows, *SCORES]
    pd.testing.assert_frame_equal(found[[*rows]], rows)
    np.testing.assert_allclose(found[SCORES], scored[SCORES], rtol=1e-8)


def test_scores_do_not_depend_on_the_batch(run):
    rows, scorer = people(700, 1), Scorer(run)
    whole = scorer(rows)[SCORES]
    parts = [scorer(part) for part in (rows[:1], rows[1:300], rows[300:300], rows[300:])]
    assert np.array_equal(pd.concat(parts)[SCORES], whole)
    order = np.random.default_rng(0).permutation(700)
    assert np.array_equal(scorer(rows.iloc[order])[SCORES], whole.iloc[order])


def test_batches_stay_what_they_are(run):
    rows = people(5)
    scorer = pickle.loads(pickle.dumps(Scorer(run)))
    expected = scorer(rows)["p_value"].tolist()
    table = scorer(pa.Table.from_pandas(rows, preserve_index=False))
    assert isinstance(table, pa.Table)
    assert table["p_value"].to_pylist() == expected
    arrays = scorer({name: rows[name].to_numpy() for name in rows})
    assert isinstance(arrays, dict)
    assert arrays["p_value"].tolist() == expected
    polars = pytest.importorskip("polars")
    frame = scorer(polars.DataFrame(rows.to_dict("list")).with_columns(polars.col("income")))
    assert frame["p_value"].to_list() == expected
    with pytest.raises(ValueError, match="a batch is a table with named columns, got ndarray"):
        scorer(np.zeros((2, 2)))


def test_impossible_rows_are_marked_and_nothing_is_overwritten(run):
    rows = people(4).assign(p_value="own", age=[20, 30.5, 40, 50])
    found = Scorer(run, explain=True, quantiles={"income": (0.1, 0.9)})(rows)
    assert np.isneginf(found["log_likelihood"]).tolist() == [False, True, False, False]
    assert (found["p_value"] == "own").all()
    assert found["p_value (realnvp)"][1] == found["p_value (realnvp)"].min()
    assert np.isinf(found["surprise: age"]).tolist() == [False, True, False, False]
    assert (found["income (0.1)"] < found["income (0.9)"]).all()


def test_what_is_no_table_or_lacks_a_column_is_refused(run):
    with pytest.raises(ValueError, match="moons is not a model of a table"):
        Scorer("moons")
    with pytest.raises(ValueError, match="the batch has no column 'sex', on which the density"):
        Scorer(run)(people(3).drop(columns="sex"))
    with pytest.raises(ValueError, match="the batch has no column 'age'"):
        Scorer(run)(people(3).drop(columns="age"))


def test_a_run_is_an_estimator(run, scored):
    density = RealNVPDensity.load(run)
    rows = people().drop(columns="id")
    assert np.array_equal(density.p_values(rows), Scorer(run)(rows)["p_value"])
    np.testing.assert_allclose(density.outlier_score(rows), scored["outlier_score"], rtol=1e-8)
    apart = density.score_samples(rows[["age", "income"]], rows["sex"])
    assert np.array_equal(density.score_samples(rows), apart)
    assert density.predict_column(rows[:5], "age").between(10, 100).all()
    assert density.sample(3, condition="f", random_state=0).columns.tolist() == ["age", "income"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert density.impute(rows)[0]["income"].notna().all()
    assert density.explain(rows[:3]).columns.tolist() == ["age", "income"]
    flow = load(run)
    with pytest.raises(ValueError, match="got DataFrame: RealNVPDensity"):
        flow.log_prob(rows)


def test_a_density_that_is_fitted_can_be_calibrated_and_saved(tmp_path):
    rows = people(260).drop(columns="id")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = RealNVPDensity(max_steps=20, random_state=0).fit(rows[:200])
    with pytest.raises(ValueError, match="p-values need held-out rows"):
        density.p_values(rows)
    density.calibrate(rows[200:], learned=rows[:200]).save(tmp_path / "model")
    p = RealNVPDensity.load(tmp_path / "model").p_values(rows)
    assert np.array_equal(p, density.p_values(rows))
    assert p.min() >= 1 / 61
    out = tmp_path / "scores.csv"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    main(["score", str(tmp_path / "model"), "--data", f"{tmp_path}/rows.csv", "--out", str(out)])
    np.testing.assert_allclose(pd.read_csv(out)["p_value"], p, rtol=1e-8)


def test_threads_are_restored():
    before = torch.get_num_threads()
    with single_thread(), single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
