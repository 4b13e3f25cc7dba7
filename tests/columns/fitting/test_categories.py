"""Tables with categories: which columns are modeled first, and densities and samples of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from realnvp.estimator import RealNVPDensity

ISLANDS = {"Adelie": ["Biscoe", "Dream", "Torgersen"], "Chinstrap": ["Dream"], "Gentoo": ["Biscoe"]}


@pytest.fixture(scope="module")
def penguins() -> pd.DataFrame:
    """Return species that live on certain islands, with gaps in one column."""
    rng = np.random.default_rng(0)
    species = rng.choice(list(ISLANDS), 240, p=[0.4, 0.2, 0.4])
    bill = np.array([{"Adelie": 39.0, "Chinstrap": 49.0, "Gentoo": 47.5}[s] for s in species])
    mass = rng.normal(4.0 + 1.1 * (species == "Gentoo"), 0.4)
    return pd.DataFrame({
        "bill": bill + rng.normal(0, 2.5, 240),
        "species": species,
        "sex": pd.Series(rng.choice(["f", "m"], 240)).where(rng.random(240) > 0.1, None),
        "island": [rng.choice(ISLANDS[s]) for s in species],
        "mass": np.where(rng.random(240) > 0.1, mass, np.nan),
    })  # fmt: skip


@pytest.fixture(scope="module")
def density(penguins: pd.DataFrame) -> RealNVPDensity:
    return RealNVPDensity(random_state=0, max_steps=40).fit(penguins)


@pytest.fixture(scope="module")
def calendar() -> pd.DataFrame:
    """Return days, which say the month, and weather that follows the days."""
    rng = np.random.default_rng(0)
    day = rng.integers(1, 361, 4_000)
    return pd.DataFrame({
        "day": day,
        "month": (day - 1) // 30 + 1,
        "date": 2_000 + ((day - 1) // 30) / 12,
        "wind": rng.normal(size=4_000),
        "warmth": np.sin(day / 57) + 0.3 * rng.normal(size=4_000),
    })  # fmt: skip


def test_numbers_that_say_others_are_had_exactly(calendar, tmp_path):
    density = RealNVPDensity(random_state=0, max_steps=60).fit(calendar)
    drawn = density.sample(2_000, random_state=1)
    assert drawn.day.nunique() > 300
    inside = drawn.day.between(1, 360)
    assert inside.mean() > 0.99
    links = next(m for m in density.flow_.modules() if hasattr(m, "links")).links
    assert len(links) == 3, "of day, month and date"
    right = drawn.month == (drawn.day - 1) // 30 + 1
    assert right[inside].mean() > 0.97  # of smooth maps, some four fifths are
    np.testing.assert_allclose(drawn.date, 2_000 + (drawn.month - 1) / 12, atol=1e-9)
    assert np.corrcoef(np.sin(drawn.day / 57), drawn.warmth)[0, 1] > 0.8
    density.save(tmp_path / "m")
    loaded = RealNVPDensity.load(tmp_path / "m")
    rows = calendar.head(40)
    np.testing.assert_allclose(loaded.score_samples(rows), density.score_samples(rows), atol=1e-5)
    beyond = rows.assign(day=[0, 361, 400, 500] * 10)  # of which none was seen
    back = density.inverse_transform(density.transform(beyond))
    np.testing.assert_array_equal(back.day, beyond.day)


def test_pairs_that_no_smooth_map_would_keep_are_among_the_tables():
    """Ages and incomes in brackets, of which some go together; a third number does not care."""
    rng = np.random.default_rng(0)
    age, other = rng.integers(0, 12, 4_000), rng.integers(0, 40, 4_000)
    income = np.where(rng.random(4_000) < 0.6, (7 * age) % 13, rng.integers(0, 13, 4_000))
    frame = pd.DataFrame({
        "age": age / 7, "income": income + 100, "other": other**2, "x": rng.normal(size=4_000)
    })  # fmt: skip
    density = RealNVPDensity(random_state=0, max_steps=20).fit(frame)
    links = next(m for m in density.flow_.modules() if hasattr(m, "links")).links
    assert len(links) == 2
    drawn = density.sample(4_000, random_state=1)
    right = drawn.income == (7 * (drawn.age * 7).round()) % 13 + 100
    assert 0.55 < right.mean() < 0.7
    assert set(drawn.age) <= set(frame.age)
    assert np.isfinite(density.score_samples(frame.head(9).assign(age=0.5))).all()


def test_no_species_lives_on_another_island(penguins, density):
    drawn = density.sample(1_000, random_state=1)
    wrong = [i not in ISLANDS[s] for s, i in zip(drawn.species, drawn.island, strict=True)]
    assert np.mean(wrong) < 0.02  # of a mixture of Gaussians, a fifth are
    assert abs(drawn.sex.isna().mean() - penguins.sex.isna().mean()) < 0.05
    assert abs(drawn.mass.isna().mean() - penguins.mass.isna().mean()) < 0.05


def test_rows_of_all_categories_add_up_to_one(density, penguins):
    """The probabilities of all categories add up to the density of the numbers."""
    row = penguins.dropna().iloc[[0]]
    p = density.category_proba(row, "species")
    assert abs(p.to_numpy().sum() - 1) < 1e-9
    joint = [
        density.score_samples(row.assign(species=s, island=i))[0]
        for s in ISLANDS for i in ("Biscoe", "Dream", "Torgersen")
    ]  # fmt: skip
    share = np.exp(np.array(joint) - np.max(joint)).reshape(3, 3)
    given = share[:, ["Biscoe", "Dream", "Torgersen"].index(row.island.iloc[0])]
    names = list(p.columns)
    np.testing.assert_allclose(
        given / given.sum(), [p.iloc[0, names.index(s)] for s in ISLANDS], atol=0.02
    )


def test_gaps_are_filled_in_as_the_tables_say(density, penguins):
    rows = penguins.assign(island=None)[penguins.species != "Adelie"].head(40)
    filled, effective = density.impute(rows, random_state=0)
    assert np.isfinite(effective[effective < np.inf]).all()
    right = [i in ISLANDS[s] for s, i in zip(filled.species, filled.island, strict=True)]
    assert np.mean(right) > 0.9


def test_latents_and_saving(density, penguins, tmp_path):
    rows = penguins.dropna().head(50)
    z = density.transform(rows)
    assert z.shape == (50, density.flow_.dim)
    pd.testing.assert_frame_equal(
        density.inverse_transform(z)[["species", "island", "sex"]],
        rows[["species", "island", "sex"]].reset_index(drop=True),
    )
    density.save(tmp_path / "m")
    loaded = RealNVPDensity.load(tmp_path / "m")
    torch.testing.assert_close(
        torch.as_tensor(loaded.score_samples(rows)), torch.as_tensor(density.score_samples(rows)),
        rtol=0, atol=1e-5,
    )  # fmt: skip


def test_categories_alone_or_none_leave_it_out(penguins):
    small = {"max_steps": 3, "random_state": 0}
    texts = RealNVPDensity(**small).fit(penguins[["species", "island"]])
    numbers = RealNVPDensity(**small).fit(penguins[["bill"]].assign(b=np.arange(240.0) ** 1.5))
    for density in (texts, numbers):
        assert "CategoriesFirst" not in repr(density.flow_)


def test_categories_given_numbers(penguins, tmp_path):
    """No species lives on another island, and a bill says which species it is."""
    names = ["species", "island"]
    density = RealNVPDensity(random_state=0, max_steps=20).fit(
        penguins[names], condition=penguins[["bill"]]
    )
    bills = pd.DataFrame({"bill": np.repeat([36.0, 50.0], 500)})
    drawn = density.sample(1_000, condition=bills, random_state=1)
    assert list(drawn) == names
    assert (drawn.species[:500] == "Adelie").mean() > 0.95
    assert (drawn.species[500:] == "Adelie").mean() < 0.05
    wrong = [i not in ISLANDS[s] for s, i in zip(drawn.species, drawn.island, strict=True)]
    assert np.mean(wrong) < 0.02
    every = pd.DataFrame([(s, i) for s in ISLANDS for i in ISLANDS["Adelie"]], columns=names)
    p = np.exp(density.score_samples(every, condition=pd.DataFrame({"bill": [45.0] * 9})))
    assert p.sum() == pytest.approx(1.0, abs=1e-6)
    density.save(tmp_path / "m")
    loaded = RealNVPDensity.load(tmp_path / "m")
    found = loaded.score_samples(every, condition=pd.DataFrame({"bill": [45.0] * 9}))
    np.testing.assert_allclose(np.exp(found), p, atol=1e-5)


def test_categories_and_numbers_given_a_class(penguins):
    density = RealNVPDensity(random_state=0, max_steps=20).fit(
        penguins[["bill", "island", "mass"]], condition=penguins.species
    )
    assert "CategoriesFirst" in repr(density.flow_)
    drawn = density.sample(400, condition="Gentoo", random_state=1)
    assert (drawn.island == "Biscoe").mean() > 0.95
    assert abs(drawn.bill.mean() - 47.5) < 0.6
    assert abs(density.sample(400, condition="Adelie", random_state=1).bill.mean() - 39) < 0.6
    proba = density.category_proba(penguins.head(9), "island", condition=penguins.species.head(9))
    np.testing.assert_allclose(proba.to_numpy().sum(1), 1, atol=1e-6)


def test_a_network_learns_what_is_not_linear_in_the_condition():
    rng = np.random.default_rng(0)
    y = rng.normal(size=1_500)
    inside = (np.abs(y) < 0.7) ^ (rng.random(1_500) < 0.05)
    frame = pd.DataFrame({"a": np.where(inside, "in", "out"), "b": rng.choice(["u", "v"], 1_500)})
    density = RealNVPDensity(random_state=0, max_steps=200).fit(
        frame[:1_000], condition=pd.DataFrame({"y": y[:1_000]})
    )
    assert density.n_iter_ > 0
    found = density.score(frame[1_000:], condition=pd.DataFrame({"y": y[1_000:]}))
    assert found > np.log(0.5) - 0.4, "by chance, it is about -1.4; at best, -0.9"
