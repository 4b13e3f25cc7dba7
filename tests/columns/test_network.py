"""Categories first: exact tables, and the other columns given them.

Invertibility and the log-determinant are tested in ``test_base.py``, for all bijections.
"""

from __future__ import annotations

import pytest
import torch

from realnvp.bijections import Chain
from realnvp.columns.layer import TableColumns
from realnvp.columns.network import CategoriesFirst
from realnvp.conditioners import MLP

LINKS = [{"column": 1, "size": 3}, {"column": 0, "size": 2, "parents": [0]}]
EDGES = torch.tensor([[0, 0.2, 0.7, 1], [0, 0.6, 1, 1]], dtype=torch.float64)
ROWS = [torch.tensor(row, dtype=torch.float64) for row in (
    [0, 0.2, 0.7, 1], [0, 0.9, 1], [0, 0.5, 1], [0, 0.4, 1]
)]  # fmt: skip
TABLES = torch.cat(ROWS)


@pytest.fixture
def layer() -> CategoriesFirst:
    layer = CategoriesFirst(LINKS, 3, 2, Chain())
    layer.fill({"edges": EDGES, "tables": TABLES})
    return layer.double()


@pytest.fixture
def columns() -> TableColumns:
    columns = TableColumns([{"kind": "cells", "size": 2}, {"kind": "cells", "size": 3}, {}])
    columns.fill({"edges": EDGES[[1, 0]]})
    return columns.double()


def test_the_probability_of_categories_is_that_of_the_tables(layer, columns):
    x = torch.tensor([[a, b, 0.5] for a in (0, 1) for b in (0, 1, 2)], dtype=torch.float64)
    u = torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v, first = columns(x, noise=u)
    z, second = layer(v)
    normal = torch.distributions.Normal(0.0, 1.0)
    log_p = first + second + normal.log_prob(z[:, :2]).sum(1)
    expected = [
        ROWS[0].diff()[int(b)] * ROWS[1 + int(b)].diff()[int(a)] for a, b in x[:, :2].tolist()
    ]
    torch.testing.assert_close(log_p, torch.stack(expected).log())


def test_numbers_among_the_categories_have_probabilities_that_add_up():
    """Those beyond the first and the last cell, and two that share an interval, too."""
    columns = TableColumns(
        [{"kind": "cells", "size": 2}, {"kind": "cells", "size": 4, "ordered": True}]
    )
    cells = torch.tensor([0.05, 0.4, 0.45, 0.5, 0.9], dtype=torch.float64)
    columns.fill({"edges": torch.stack([torch.tensor([0, 0.6, 1, 1, 1]).double(), cells])})
    edges = torch.tensor([[0, 0.05, 0.4, 0.5, 0.9, 1], [0, 0.6, 1, 1, 1, 1]], dtype=torch.float64)
    links = [{"column": 1, "size": 5}, {"column": 0, "size": 2, "parents": [0]}]
    layer = CategoriesFirst(links, 3, 0, Chain()).double()
    split = torch.tensor([0.1, 0.9, 0.5, 0.2, 0.999], dtype=torch.float64)
    given = torch.stack([torch.zeros(5).double(), split, torch.ones(5).double()], dim=1)
    own = torch.tensor([0, 0.01, 0.3, 0.6, 0.7, 1], dtype=torch.float64)
    layer.fill({"edges": edges, "tables": torch.cat([own, given.flatten()])})
    u = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    grid = torch.cartesian_prod(torch.arange(2).double(), torch.arange(-12, 16).double(), u)
    v, first = columns(grid[:, :2], noise=grid[:, 2:].expand(-1, 2))
    z, second = layer(torch.cat([v, torch.zeros(len(v), 1).double()], dim=1))
    p = (torch.distributions.Normal(0.0, 1.0).log_prob(z[:, :2]).sum(1) + first + second).exp()
    p = p.view(2, 28, 200).mean(2)
    assert p.sum().item() == pytest.approx(1.0, abs=1e-3)
    torch.testing.assert_close(p[0, 13:15], (own.diff()[2] * 0.5 / 2).expand(2), rtol=1e-6, atol=0)
    torch.testing.assert_close(p[:, 12].sum(), own.diff()[1])
    back, log_det = layer.inverse(z)
    torch.testing.assert_close(log_det, -second)
    torch.testing.assert_close(columns.inverse(back[:, :2])[0], grid[:, :2])


def test_samples_have_the_frequencies_of_the_tables(layer, columns):
    z = torch.randn(20_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v, log_det = layer.inverse(z)
    x = columns.inverse(v)[0]
    for b in range(3):
        own = x[x[:, 1] == b]
        assert abs(len(own) / len(x) - ROWS[0].diff()[b]) < 0.02
        assert abs((own[:, 0] == 0).double().mean() - ROWS[1 + b][1]) < 0.03
    back, again = layer(v)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(again, -log_det)


def test_a_condition_tilts_the_tables(columns):
    """Each row of a table, times the exponential of logits, adds up to one again."""
    net = MLP(0, 5, hidden=4, blocks=1, condition_dim=2)
    torch.nn.init.normal_(net.last.weight)
    layer = CategoriesFirst(LINKS, 2, 0, Chain(), condition_dim=2, conditioner=net).double()
    slopes = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    layer.fill({"edges": EDGES, "tables": TABLES, "slopes": slopes})
    columns = TableColumns([{"kind": "cells", "size": 2}, {"kind": "cells", "size": 3}])
    columns.fill({"edges": EDGES[[1, 0]]})
    x = torch.tensor([[a, b] for a in (0, 1) for b in (0, 1, 2)], dtype=torch.float64)
    y = torch.tensor([[0.5, -1.0]], dtype=torch.float64).expand(6, 2)
    v, first = columns(x)
    z, second = layer(v, y)
    log_p = first + second + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    tilt = (y[0] @ layer.slopes + net(y[:1, :0], y[:1])[0]).detach().split((3, 2))
    for i, (a, b) in enumerate(x.long().tolist()):
        p_b = torch.softmax(ROWS[0].diff().log() + tilt[0], dim=0)[b]
        p_a = torch.softmax(ROWS[1 + b].diff().log() + tilt[1], dim=0)[a]
        assert log_p[i].item() == pytest.approx((p_a * p_b).log().item(), abs=1e-3), "but a floor"
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    latents = torch.randn(4_000, 2, generator=torch.Generator().manual_seed(0)).double()
    drawn = columns.inverse(layer.inverse(latents, y[:1].expand(4_000, 2))[0])[0]
    for i, row in enumerate(x):
        share = (drawn == row).all(1).double().mean().item()
        assert share == pytest.approx(log_p[i].exp().item(), abs=0.03)
    with pytest.raises(ValueError, match="none is given"):
        layer(v)


def test_features_say_which_categories_there_are(layer, columns):
    layer.embedding.copy_(torch.arange(10.0).view(5, 2))
    v, _ = columns(torch.tensor([[1.0, 2.0, 0.0]]), noise=torch.full((1, 3), 0.5))
    # Rows 0 to 2 are those of the first link, which is of column 1.
    assert layer.features(v).tolist() == [[4.0 + 8.0, 5.0 + 9.0]]


def test_tables_stay_in_float64(layer):
    assert layer.float().tables.dtype == torch.float64
    assert layer.embedding.dtype == torch.float32
    torch.testing.assert_close(layer.tables, TABLES, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("links", "says"),
    [
        ([{"column": 3, "size": 2}], "column of link 0 must be 0 to 2, got 3"),
        ([{"column": 0, "size": 0}], "size of link 0"),
        ([{"column": 0, "size": 2, "parents": [0]}], "parent of link 0"),
        ([{"column": 0, "size": True}], "size of link 0"),
        (
            [{"column": 0, "size": 2}, {"column": 1, "size": 2, "parents": [0, 0]}],
            "different links",
        ),
        ([{"column": 0, "size": 2, "parents": 3}], "parents of link 0"),
        ([{"column": 0, "size": 2}] * 2, "different columns"),
        ([{"column": i, "size": 2} for i in range(3)], "leave at least one other column"),
        ([{"column": 0, "size": 10**7}], "more than 10,000,000 cells"),
        ([3], "must be a mapping"),
    ],
)
def test_links_that_cannot_be(links, says):
    with pytest.raises(ValueError, match=says):
        CategoriesFirst(links, 3, 1, Chain())


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("tables", TABLES.flip(0), "tables of categories must ascend from 0"),
        ("tables", TABLES * 0.9, "ascend to 1"),
        ("edges", EDGES * 0, "edges of categories must ascend from 0"),
    ],
)
def test_damaged_tables(layer, name, value, says):
    with pytest.raises(ValueError, match=says):
        layer.fill({name: value})
