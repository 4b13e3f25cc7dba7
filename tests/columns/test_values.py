"""The values of one column as coordinates, and back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from realnvp.columns.kinds.values import same_values
from realnvp.columns.schema import TableSchema

PANDAS = int(pd.__version__.partition(".")[0])


def test_whole_numbers_of_a_step_come_back_as_such():
    frame = pd.DataFrame({"mass": 25 * (np.arange(60) % 37)})
    column = TableSchema.of(frame).columns[0]
    x, good = column.encode(frame.mass, "mass")
    assert good.all()
    back = column.decode(x + 11.0)  # a draw may be off its grid by rounding
    pd.testing.assert_series_equal(back.rename("mass"), frame.mass)


def test_gaps_are_equal_to_gaps_only():
    one, other = pd.Series([1.0, None, None, "x"]), pd.Series([1.0, None, 3.0, "y"])
    assert same_values(one, other).tolist() == [True, True, False, False]


def test_texts_of_gaps_and_nothing():
    frame = pd.DataFrame({"a": ["", None, "x", ""] * 5})
    schema = TableSchema.of(frame)
    assert schema.columns[0].categories == ("", "x")
    pd.testing.assert_frame_equal(schema.decode(schema.encode(frame)[0]), frame)


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
@pytest.mark.parametrize("own", ["spread", "few", "constant"])
def test_durations_come_back_as_such(unit, own):
    rng = np.random.default_rng(0)
    size = {"spread": 10_000, "few": 3, "constant": 1}[own]
    waits = pd.Series(pd.to_timedelta(60 * rng.integers(size, size=80) + 60, unit="s"))
    frame = pd.DataFrame({"wait": waits.astype(f"timedelta64[{unit}]")})
    if own != "constant":
        frame.loc[5, "wait"] = pd.NaT
    schema = TableSchema.of(frame)
    assert schema.columns[0].missing == (own != "constant")
    schema = TableSchema.from_dict(schema.as_dict())
    x, possible = schema.encode(frame)
    assert possible.all()
    pd.testing.assert_frame_equal(schema.decode(x), frame)
    written = frame.astype(str).where(frame.notna(), None)  # as in a CSV file
    np.testing.assert_array_equal(schema.encode(written)[0], x)


@pytest.mark.parametrize(
    ("fitted", "texts"),
    [([True, False], ["True", "TRUE", "unknown"]), ([1, 2, 5], ["1", "1.0", "five"])],
)
def test_a_text_among_truth_values_or_numbers_changes_no_other_value(fitted, texts):
    frame = pd.DataFrame({"a": pd.Series(fitted * 20).astype("category")})
    column = TableSchema.of(frame).columns[0]
    first, _ = column.encode(frame.a[:1], "a")
    given = pd.Series(texts, dtype=object)
    x, good = column.encode(given, "a")
    assert good.tolist() == [True, True, False]
    assert (x[:2] == first).all()


@pytest.mark.parametrize("fitted", [[True, False], ["yes", "no"], ["N", "Y"], [0, 1]])
def test_truth_values_are_read_however_they_are_written(fitted):
    frame = pd.DataFrame({"a": fitted * 20})
    column = TableSchema.of(frame).columns[0]
    truth = [str(value).lower() in ("true", "yes", "y", "1") for value in column.categories]
    for words in (["Yes", "No"], ["true", "FALSE"], ["t", "f"], [True, False], ["1", "0"]):
        x, good = column.encode(pd.Series(words, dtype=object), "a")
        assert good.all()
        assert [truth[int(code)] for code in x[:, 0]] == [True, False]
    assert not column.encode(pd.Series(["perhaps"]), "a")[1].any()
    sex = TableSchema.of(pd.DataFrame({"a": ["f", "m"] * 20})).columns[0]
    assert not sex.encode(pd.Series(["no"]), "a")[1].any()


@pytest.mark.parametrize("written", [False, True], ids=["dates", "text"])
@pytest.mark.parametrize("far", ["9999-12-31", "1600-01-01"])
def test_dates_too_far_away_are_refused_instead_of_wrapped(written, far):
    days = pd.Series(pd.date_range("2020-01-01", periods=30)).astype("datetime64[s]")
    read = not written or PANDAS >= 3  # before, it reads no such text as a date
    open_end = days.where(days.index % 4 > 0, pd.Timestamp(far))
    if written:
        days, open_end = days.dt.strftime("%Y-%m-%d"), open_end.dt.strftime("%Y-%m-%d")
    reason = f"{far}, but dates are from 1677" if read else f"dates in more .* holds '{far}'"
    with pytest.raises(ValueError, match=f"'end' of t holds {reason}"):
        TableSchema.of(pd.DataFrame({"end": open_end}), where="t")
    schema = TableSchema.of(pd.DataFrame({"end": days}))
    reason = f"{far}, .*empty if it" if read else f"'{far}' in row 0 .*is not a date"
    with pytest.raises(ValueError, match=f"'end' of new holds {reason}"):
        schema.encode(pd.DataFrame({"end": open_end}), where="new")
    always = pd.DataFrame({"end": [far] * 30, "x": np.arange(30.0)})
    schema = TableSchema.of(always)
    assert schema.columns[0].kind == "constant"
    assert schema.encode(always)[1].all()


@pytest.mark.parametrize(
    ("fitted", "same", "other"),
    [
        (pd.Timestamp("2020-01-31"), ["2020-01-31", "2020-01-31 00:00:00"], ["2020-02-01", "x"]),
        (pd.Timestamp("2020-01-31", tz="UTC"), ["2020-01-31T00:00:00Z"], ["2020-01-31T01:00Z"]),
        pytest.param(
            pd.Timestamp("9999-12-31"),
            [pd.Timestamp("9999-12-31")],
            ["2020-02-01"],
            marks=pytest.mark.skipif(PANDAS < 3, reason="pandas before 3 has no column of such"),
        ),
        (pd.Timedelta("90s"), ["0 days 00:01:30", 90.0], ["0 days 00:01:31", 91.0, "x"]),
        (1.5, ["1.5", "1.50", 1.5], ["1.51", "x", 2]),
        (0.1, np.array([0.1], np.float32), np.array([0.2], np.float32)),
        (1_000_000_007, ["1000000007", 1e9 + 7], [1e9 + 8, "1000000008"]),
        (True, ["True", "yes", 1, "1.0"], ["no", 0, False]),
        ("yes", ["yes"], ["no", "Yes "]),
        (None, [None], ["x", 0.0]),
    ],
)
def test_a_constant_may_be_written_otherwise(fitted, same, other):
    column = TableSchema.of(pd.DataFrame({"a": [fitted] * 30, "x": np.arange(30.0)})).columns[0]
    assert column.kind == "constant"
    for values, expected in ((same, True), (other, False)):
        for value in values:
            found = column.encode(pd.Series([value], dtype=getattr(values, "dtype", None)), "a")[1]
            assert found.tolist() == [expected], value
    assert column.encode(pd.Series([None]), "a")[1].tolist() == [fitted is None]


def test_a_constant_date_is_the_same_after_a_round_trip_through_text(tmp_path):
    when = pd.Timestamp("2020-01-01")
    frame = pd.DataFrame({"x": np.arange(30.0), "when": when, "took": pd.Timedelta("1h")})
    frame.to_csv(tmp_path / "t.csv", index=False)
    schema = TableSchema.of(frame)
    assert schema.encode(pd.read_csv(tmp_path / "t.csv"))[1].all()
