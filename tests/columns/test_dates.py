"""Dates as people write them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from realnvp.columns.dates import date_format, looks_like_a_date, write_dates
from realnvp.columns.schema import TableSchema

DAYS = pd.Series(pd.date_range("2021-01-03", "2023-06-30", periods=40))


@pytest.mark.parametrize(
    "fmt",
    [
        "%b %d, %Y", "%d %B %Y", "%A, %B %d, %Y", "%d-%b-%y", "%m/%d/%Y %I:%M %p", "%m/%d/%y",
        "%d.%m.%Y, %H:%M", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%d %H:%M:%S+02:00", "%Y-%m", "%b %Y",
    ],
)  # fmt: skip
def test_dates_come_back_as_they_were_written(fmt):
    frame = pd.DataFrame({"day": DAYS.dt.strftime(fmt)})
    schema = TableSchema.from_dict(TableSchema.of(frame).as_dict())
    assert schema.columns[0].kind == "datetime"
    x, possible = schema.encode(frame)
    assert possible.all()
    pd.testing.assert_frame_equal(schema.decode(x), frame)


def test_dates_without_zeros_and_offsets_that_vary():
    slashes = [f"{day.month}/{day.day}/{day.year}" for day in DAYS]
    zones = [str(day) for day in DAYS.dt.floor("s").dt.tz_localize("Europe/Berlin")]
    frame = pd.DataFrame({"day": slashes, "at": zones})
    schema = TableSchema.of(frame)
    back = schema.decode(schema.encode(frame)[0])
    assert back["day"].tolist() == slashes
    assert (pd.to_datetime(back["at"], utc=True) == pd.to_datetime(frame["at"], utc=True)).all()
    assert back["at"].str.endswith("+00:00").all()


def test_an_ambiguous_format_is_decided_by_all_dates():
    assert date_format(pd.Series(["1/2/2020", "3/25/2020"]))[0] == "%-m/%-d/%Y"
    assert date_format(pd.Series(["01/02/2020", "25/03/2020"]))[0] == "%d/%m/%Y"
    fmt, fits = date_format(pd.Series(["Jan 3, 2020", "2020-01-04", "Jan 5, 2020"]))
    assert (fmt, fits.tolist()) == (None, [True, False, True])


@pytest.mark.parametrize("word", ["1.5", "May", "12-5", "10 kg", "maybe 2020", "18-24", "x"])
def test_other_texts_do_not_look_like_dates(word):
    assert not looks_like_a_date(word)


@pytest.mark.parametrize("trained", ["31.01.2020", "1/31/2020", "2020-01-31", "Jan 31, 2020"])
def test_dates_in_another_format_are_read_if_they_have_one_meaning(trained):
    days = pd.Series(pd.date_range("2020-01-31", periods=60, freq="9D"))
    fmt, _ = date_format(pd.Series([trained]))
    schema = TableSchema.of(pd.DataFrame({"day": write_dates(days, fmt), "b": range(60)}))
    known, _ = schema.encode(pd.DataFrame({"day": write_dates(days, fmt), "b": range(60)}))
    for other in ("%d.%m.%Y", "%m/%d/%Y", "%Y-%m-%d", "%b %d, %Y"):
        new = pd.DataFrame({"day": days.dt.strftime(other), "b": range(60)})
        np.testing.assert_array_equal(schema.encode(new)[0], known)
    short = pd.DataFrame({"day": ["02/03/2021"], "b": [1]})
    if trained != "1/31/2020":
        says = r"may be 0. \w+ 2021 or 0. \w+ 2021: write dates in the format of training"
        with pytest.raises(ValueError, match=says):
            schema.encode(short)


def test_text_for_dates_is_not_guessed_month_first():
    days = pd.Series(pd.date_range("2020-01-31", periods=60, freq="9D"))
    schema = TableSchema.of(pd.DataFrame({"day": days, "b": range(60)}))
    new = pd.DataFrame({"day": ["2021-02-03 00:00:00", None], "b": [1, 2]})
    x, _ = schema.encode(new, unknown=True)
    assert x[0, 0] == (pd.Timestamp("2021-02-03") - pd.Timestamp(0)).days
    with pytest.raises(ValueError, match=r"may be 0. \w+ 2021 or 0. \w+ 2021: write"):
        schema.encode(new.assign(day=["02/03/2021", "01/02/2021"]))
