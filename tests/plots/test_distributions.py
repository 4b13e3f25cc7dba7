"""Latents against the standard normal, and tables real against synthetic."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from realnvp import plots

NORMAL = np.random.default_rng(0).normal(size=(4000, 2))


def test_normal_latents_are_on_the_diagonal_and_wide_ones_steeper():
    for factor in (1.0, 2.0):
        (axes,) = plots.quantiles(factor * NORMAL).axes
        x, y = axes.lines[1].get_data()
        middle = np.abs(x) < 2
        assert np.polyfit(x[middle], y[middle], 1)[0] == pytest.approx(factor, rel=0.03)


def test_coverage_is_the_share_inside_the_central_interval():
    (axes,) = plots.coverage([NORMAL, 2 * NORMAL], ["right", "wide"]).axes
    _, right, wide = axes.lines
    nominal, share = right.get_data()
    assert share == pytest.approx(nominal, abs=0.02)
    assert wide.get_ydata()[50] == pytest.approx(0.264, abs=0.02), "P(|z| < 0.674 / 2)"


def test_norms_of_normal_latents_are_flat():
    (axes,) = plots.norms(NORMAL).axes
    assert [patch.get_height() for patch in axes.patches] == pytest.approx([1] * 20, abs=0.25)
    (axes,) = plots.norms(3 * NORMAL).axes
    assert axes.patches[-1].get_height() > 10


def test_a_histogram_of_latents_says_their_mean_and_deviation():
    axes = Figure().subplots()
    assert plots.latents(2 * NORMAL + 1, ax=axes) is axes.figure
    mean, std = (2 * NORMAL + 1).mean(), (2 * NORMAL).std()
    assert axes.get_xlabel() == f"latent: mean {mean:.3f}, std {std:.3f}"


def test_scores_of_strange_examples_are_marked_within_the_picture():
    (axes,) = plots.scores(NORMAL[:, 0], "nats", marks=[0.5, -1e9]).axes
    near, far = (line.get_xdata()[0] for line in axes.lines)
    low, high = axes.get_xlim()
    assert near == 0.5
    assert low <= far < -4 < high < 20
    assert [text.get_text() for text in axes.texts] == [" ← -1e+09"]


def test_a_column_of_integers_has_a_bar_for_each():
    real = pd.DataFrame({"count": np.arange(400) % 4, "size": NORMAL[:400, 0]})
    figure = plots.table_marginals(real, real)
    assert [axes.get_title() for axes in figure.axes] == ["count", "size"]
    bars = figure.axes[0].patches[:4]
    assert [bar.get_height() for bar in bars] == pytest.approx([0.25] * 4)


def test_pairs_are_real_below_and_synthetic_above_the_diagonal():
    figure = plots.pairs(NORMAL[:50], NORMAL[:50] + 10, ["a", "b"])
    above, below = figure.axes[1], figure.axes[2]
    assert below.lines[0].get_xdata() == pytest.approx(NORMAL[:50, 0])
    assert above.lines[0].get_xdata() == pytest.approx(NORMAL[:50, 1] + 10)


def test_pairs_of_columns_with_missing_values():
    x = np.random.default_rng(0).normal(size=(50, 3))
    x[::2, 0], x[:, 1] = np.nan, np.nan
    figure = plots.pairs(x, x, ["a", "b", "c"])
    low, high = figure.axes[3].get_xlim()
    assert low < np.nanmin(x[:, 0]) + 0.1
    assert high > np.nanmax(x[:, 0]) - 0.1


def test_a_column_given_the_others_is_shown_where_it_is_likely():
    at = np.linspace(-100, 100, 2001)
    density = np.exp(-0.5 * at**2)
    (axes,) = plots.conditional(at, density, 5.0, "cost $").axes
    low, high = axes.get_xlim()
    assert -6 < low < -3 < 5 < high < 7
    assert axes.lines[0].get_xdata()[0] == 5.0
    assert axes.get_xlabel() == r"cost \$, given the other columns"
    assert plots.range_of(np.array([2.0, 2.0])) == (1.0, 3.0)


def table() -> pd.DataFrame:
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(40), unit="D")
    kind = [None if i % 10 == 0 else "ab"[i % 2] for i in range(40)]
    return pd.DataFrame({"kind": kind, "size": np.arange(40.0), "day": days})


def test_tables_of_text_dates_and_gaps_are_drawn_over_each_other():
    figure = plots.table_marginals(table(), table().iloc[:20])
    kind, size, day = figure.axes[:3]
    assert [text.get_text() for text in kind.get_xticklabels()] == ["a", "b"]
    assert [axes.get_title() for axes in (kind, size, day)] == ["kind", "size", "day"]
    assert kind.patches[0].get_height() == pytest.approx(16 / 36), "of those that are no gap"
    assert day.get_xlim()[0] == pytest.approx(18_262, abs=5), "days since 1970"


def test_durations_are_drawn_as_seconds():
    waits = pd.to_timedelta(np.arange(40.0), unit="min").to_series(index=range(40))
    waits[3] = pd.NaT
    (axes,) = plots.table_rows(pd.DataFrame({"size": np.arange(40.0), "wait": waits})).axes
    assert axes.get_ylabel() == "wait"
    assert axes.get_ylim()[1] == pytest.approx(39 * 60, rel=0.2)


def test_a_category_given_the_others():
    p = pd.Series([0.7, 0.1, 0.2], index=pd.Index(["a", "b", None], dtype=object))
    (axes,) = plots.probabilities(p, "b", "kind").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b", "(missing)", "a"]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]
    assert "the row has b" in axes.get_title()
    (axes,) = plots.probabilities(p, None, "kind").axes
    assert "no value" in axes.get_title()


def test_draws_of_a_date_are_beside_the_one_that_it_is():
    days = table()["day"]
    (axes,) = plots.draws(days, days[3], "day").axes
    assert axes.lines[0].get_xdata()[0] == 18_262 + 3
    (axes,) = plots.draws(days, pd.NaT, "day").axes
    assert not axes.lines
    assert "no value" in axes.get_title()


def test_rows_are_points_of_columns_that_say_something():
    codes = {"code": np.arange(40) % 3, "constant": np.ones(40)}
    rows = table().assign(**codes)[["kind", "code", "constant", "size", "day"]]
    left, right = plots.table_rows(rows.iloc[::2], rows).axes
    assert [left.get_title(), right.get_title()] == ["data", "samples"]
    assert [left.get_xlabel(), left.get_ylabel()] == ["size", "day"]
    assert len(left.collections[0].get_offsets()) == 40
    assert len(right.collections[0].get_offsets()) == 20
    low, high = left.get_ylim()
    assert low < 18_262 < 18_301 < high, "days since 1970"


def test_rows_without_two_columns_of_many_values_are_histograms():
    rows = table()[["kind", "size"]].assign(constant=1, flag=[True, False] * 20)
    figure = plots.table_rows(rows, rows)
    assert [axes.get_title() for axes in figure.axes] == ["size", "kind", "flag", "constant"]
    (axes,) = plots.table_rows(rows[["kind"]]).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["synthetic"]
