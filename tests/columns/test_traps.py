"""Values that look like something else: large floats, fill values, ambiguous dates and hours."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest

from realnvp.columns.schema import TableSchema
from realnvp.estimator import RealNVPDensity

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        np.repeat(1.7e9 + 3600 * RNG.random(150), 2),
        np.repeat(2_450_000 + RNG.random(150), 2),
        np.round(np.exp(RNG.normal(3, 3, 300)), 9),
        np.round(RNG.normal(1e4, 3e3, 300), 2).astype(np.float32),
        np.append(np.round(RNG.normal(size=297), 3), [1e20] * 3),
        np.append(np.round(RNG.normal(size=280), 1), [-999.0] * 20),
    ],
    ids=["seconds", "julian days", "nine digits", "float32", "fill", "code"],
)
@pytest.mark.filterwarnings("ignore:column 'a' holds")
def test_every_fitted_row_is_possible(values):
    frame = pd.DataFrame({"a": values, "b": RNG.normal(size=300)})
    density = RealNVPDensity(max_steps=1, random_state=0).fit(frame)
    assert np.isfinite(density.score_samples(frame)).all()
    assert np.isfinite(density.score_samples(density.sample(300))).all()


@pytest.mark.parametrize("fill", [1e20, 9.96921e36, 2147483647.0, 1e9])
def test_a_fill_value_does_not_make_columns_functions_of_each_other(fill):
    frame = pd.DataFrame({"x": RNG.normal(size=1000), "y": RNG.normal(100, 15, 1000)})
    frame.iloc[:3] = fill
    schema = TableSchema.of(frame)
    assert [column.kind for column in schema.columns] == ["continuous"] * 2
    assert [f"holds {fill:g}, far" in doubt for doubt in schema.doubts(frame)] == [True] * 2


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_linear_functions_of_heavy_tails_and_large_numbers_are_found(dtype):
    x = np.exp(RNG.normal(0, 3, 500)).astype(dtype)
    frame = pd.DataFrame(
        {"x": x, "y": (3 * x + 2).astype(dtype), "t": 1.7e9 + 1e4 * RNG.random(500)}
    )
    frame["later"] = frame.t + 60.5
    schema = TableSchema.of(frame)
    assert [column.kind for column in schema.columns] == ["continuous", "linear"] * 2
    assert schema.encode(frame)[1].all()
    assert not schema.encode(frame.assign(later=frame.later + 0.1))[1].any()
    assert schema.doubts(frame) == []


def test_repeated_prices_do_not_mix_probabilities_and_densities():
    x = np.round(np.exp(RNG.normal(4, 0.7, 2000)), 2)
    x[:500] = 50.0
    density = RealNVPDensity(max_steps=1, random_state=0).fit(pd.DataFrame({"a": x}))
    grid = pd.DataFrame({"a": np.round(np.arange(1, 80_000) * 0.01, 2)})
    total = 0.01 * np.exp(density.score_samples(grid)).sum()
    assert 0.97 < total < 1.01


def test_dates_that_may_be_read_in_two_ways_are_named():
    days = [f"{m:02d}/{d:02d}/2021" for m in range(1, 13) for d in (3, 7, 11)]
    schema = TableSchema.of(pd.DataFrame({"a": days}))
    (doubt,) = schema.doubts(pd.DataFrame({"a": days}))
    assert "read as %d/%m/%Y, but may be %m/%d/%Y" in doubt
    clear = pd.DataFrame({"a": [*days, "01/31/2021"]})
    assert TableSchema.of(clear).doubts(clear) == []


def test_the_hour_that_daylight_saving_repeats_comes_back():
    hours = pd.date_range("2021-10-30", periods=80, freq="30min", tz="Europe/Berlin")
    frame = pd.DataFrame({"a": hours})
    schema = TableSchema.of(frame)
    schema = TableSchema.from_dict(schema.as_dict())
    x, possible = schema.encode(frame)
    assert possible.all()
    pd.testing.assert_frame_equal(schema.decode(x), frame)


def test_integers_whose_digits_are_lost_are_named():
    frame = pd.DataFrame({"id": RNG.integers(2**60, 2**62, 300), "x": RNG.normal(size=300)})
    with pytest.warns(UserWarning, match=r"column 'id' holds integers beyond 2\*\*53"):
        RealNVPDensity(max_steps=1).fit(frame)


@pytest.mark.filterwarnings("ignore:column 'a' holds")
def test_a_fill_value_leaves_numbers_below_the_others_possible():
    frame = pd.DataFrame({"a": 1.7e9 + 3600 * RNG.random(300), "b": RNG.normal(size=300)})
    frame.loc[:1, "a"] = 1e30
    density = RealNVPDensity(max_steps=1, random_state=0).fit(frame)
    assert np.isfinite(density.score_samples(frame)).all()
    assert np.isfinite(density.score_samples(frame.assign(a=1e5))).all()


def test_keep_range_of_an_array_is_refused():
    with pytest.raises(ValueError, match="keep_range is for the columns of a DataFrame"):
        RealNVPDensity(max_steps=1, keep_range=True).fit(RNG.normal(size=(300, 2)))


def test_saved_columns_with_other_types_are_refused():
    frame = pd.DataFrame({
        "a": np.round(RNG.normal(size=300), 2), "b": ["x", "y"] * 150,
        "c": pd.date_range("2020", periods=300), "d": RNG.normal(size=300),
    })  # fmt: skip
    saved = TableSchema.of(frame.assign(e=2 * frame.d)).as_dict()
    for i, column in enumerate(saved["columns"]):
        for key in column:
            for value in ([], "x", None, 1.5, True, {}, [[1]], -1, [None]):
                columns = [*saved["columns"]]
                columns[i] = {**column, key: value}
                with contextlib.suppress(ValueError):  # anything else is a fault
                    TableSchema.from_dict({**saved, "columns": columns}).encode(
                        frame.assign(e=2 * frame.d)
                    )
