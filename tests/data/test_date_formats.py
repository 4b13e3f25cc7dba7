"""Dates as people write them."""

from __future__ import annotations

import pandas as pd
import pytest

from realnvp.data.columns import TableSchema
from realnvp.data.date_formats import date_format, looks_like_a_date

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
