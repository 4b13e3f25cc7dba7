"""Maps of cells: shares, values beyond the cells, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from realnvp.columns.bin_map import BinMap, even_edges


def numbers() -> BinMap:
    """Return a column of four numbers from 36.5 to 38, with a little mass beyond them."""
    edges = torch.tensor([[0.05, 0.3, 0.4, 0.9, 0.95]], dtype=torch.float64)
    half = torch.full((1,), 0.5, dtype=torch.float64)
    return BinMap((4,), (True,), 73 * half, half, edges, torch.ones(1, 2).double())


def test_scores_fill_the_interval_of_a_cell():
    x, u = torch.tensor([[37.0]] * 5).double(), torch.linspace(0.001, 0.999, 5)[:, None].double()
    v, slope = numbers()(x, u)
    share = torch.special.ndtr(v)
    torch.testing.assert_close(share, 0.3 + 0.1 * u)
    density = torch.distributions.Normal(0.0, 1.0).log_prob(v)
    torch.testing.assert_close((density + slope).exp(), torch.full_like(v, 0.1 / 0.5))
    torch.testing.assert_close(numbers().inverse(v)[0], x)


def test_numbers_beyond_the_cells_come_back():
    x = (36.5 + 0.5 * torch.tensor([-(10**9), -(10**3), -1, 0, 3, 4, 10**6]).double())[:, None]
    assert numbers().possible(x).all()
    v, slope = numbers()(x, torch.full_like(x, 0.5))
    assert (v.diff(dim=0) > 0).all()
    back, same = numbers().inverse(v)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(same, slope)
    strict = dataclasses.replace(numbers(), ordered=(False,))
    assert strict.possible(x)[:, 0].tolist() == [False] * 3 + [True] * 2 + [False] * 2


def test_what_is_between_cells_is_rounded_down():
    between = torch.tensor([[36.9], [37.0], [36.2]]).double()
    assert numbers().possible(between)[:, 0].tolist() == [False, True, False]
    assert numbers().snap(between)[:, 0].tolist() == [36.5, 37.0, 36.0]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("edges", [[0.3, 0.3, 0.5, 0.9, 1.0]], "from 0"),
        ("edges", [[0.1, 0.3, 0.5, 0.9, 1.1]], "to 1"),
        ("step", [0.0], "positive"),
        ("tails", [[1.0, -1.0]], "positive"),
    ],
)
def test_cells_that_cannot_be(name: str, value: list, says: str):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(numbers(), **{name: torch.tensor(value).double()}).check()


def test_edges_of_equal_cells_are_padded_with_ones():
    assert even_edges(torch.tensor([2, 1]), 4).tolist() == [[0, 0.5, 1, 1], [0, 1, 1, 1]]
