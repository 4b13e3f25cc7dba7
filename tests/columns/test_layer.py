"""The first layer of a table's flow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from realnvp.columns.layer import TableColumns

SMOOTH = {"kind": "smooth", "knots": 3}


def smooth(**settings) -> TableColumns:
    """Return one smooth column with a spline that is not straight."""
    layer = TableColumns([{**SMOOTH, **settings}]).double()
    spline = {"knots": [[-1.0, 0.2, 1.0]], "values": [[-1.5, 0.0, 2.0]], "slopes": [[0.7, 2, 1.3]]}
    layer.fill({name: torch.tensor(rows, dtype=torch.float64) for name, rows in spline.items()})
    return layer.eval()


def mixed() -> TableColumns:
    """Return a category, a status, a number with gaps, and decimals."""
    layer = TableColumns(
        [
            {"kind": "cells", "size": 3},
            {"kind": "cells", "size": 2},
            {**SMOOTH, "status": 1},
            {"kind": "cells", "size": 4, "ordered": True},
        ]
    ).double()
    edges = [[0, 0.2, 0.5, 1, 1], [0, 0.75, 1, 1, 1], [0.05, 0.3, 0.4, 0.9, 0.95]]
    layer.fill({
        "edges": torch.tensor(edges, dtype=torch.float64),
        "cell_origin": torch.tensor([0, 0, 36.5]), "cell_step": torch.tensor([1, 1, 0.5]),
    })  # fmt: skip
    return layer.eval()


def with_atoms(step: bool) -> TableColumns:
    """Return a smooth column with two atoms, and one without."""
    own = {**SMOOTH, "step": step}
    layer = TableColumns([{**own, "atoms": 2}, own]).double()
    layer.fill({
        "atoms": torch.tensor([[-0.5, 1.25], [0.0, 0.0]], dtype=torch.float64),
        "atom_edges": torch.tensor([[0, 0.3, 0.4], [0, 0, 0]], dtype=torch.float64),
        "origin": torch.tensor([-0.5, -0.5]), "step": torch.tensor([0.25, 0.25]),
        "center": torch.tensor([0.5, 0.5]), "scale": torch.tensor([1.5, 1.5]),
    })  # fmt: skip
    return layer.eval()


def normal(v: Tensor) -> Tensor:
    return -0.5 * (v.square() + math.log(2 * math.pi)).sum(1)


@pytest.mark.parametrize("shape", ["linear", "asinh", "log", "logit"])
def test_derivative_and_inverse_of_every_shape(shape: str):
    layer = smooth(shape=shape)
    layer.fill({"center": torch.tensor([-0.5]), "scale": torch.tensor([2.5])})
    x = torch.linspace(-0.49, 1.9, 40, dtype=torch.float64, requires_grad=True)
    v, log_det = layer(x[:, None])
    (slope,) = torch.autograd.grad(v.sum(), x)
    torch.testing.assert_close(log_det, slope.log())
    back, inverse_log_det = layer.inverse(v.detach())
    torch.testing.assert_close(back[:, 0], x.detach())
    torch.testing.assert_close(inverse_log_det, -log_det.detach())


@pytest.mark.parametrize(("shape", "low", "high"), [("linear", -30, 30), ("log", 1e-9, 4e5)])
def test_a_smooth_density_integrates_to_one(shape: str, low: float, high: float):
    layer = smooth(shape=shape)
    x = torch.linspace(low, high, 200_001, dtype=torch.float64)
    if shape == "log":  # evenly in the logarithm
        x = torch.logspace(math.log10(low), math.log10(high), 200_001, dtype=torch.float64)
    v, log_det = layer(x[:, None])
    p = (normal(v) + log_det).exp()
    assert torch.trapezoid(p, x).item() == pytest.approx(1, abs=1e-4)


def test_a_mixed_density_sums_to_one():
    """Over categories, the gap and the number, and decimals: with standard normal scores."""
    layer = mixed()
    total = 0.0
    numbers = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    u = torch.full((4,), 0.3, dtype=torch.float64)
    for category in range(3):
        for decimal in np.arange(36.5 - 40, 38.5 + 40, 0.5):
            rows = torch.tensor([[category, 1, math.nan, decimal]], dtype=torch.float64)
            v, log_det = layer(rows, noise=u.expand(1, -1))
            gap = (normal(v) + log_det).exp().sum().item()
            rows = torch.zeros(len(numbers), 4, dtype=torch.float64)
            rows[:, 0], rows[:, 2], rows[:, 3] = category, numbers, decimal
            v, log_det = layer(rows, noise=u.expand(len(rows), -1))
            present = torch.trapezoid((normal(v) + log_det).exp(), numbers).item()
            total += 0.5 * (gap + present)  # a decimal's is the mean density over its step
    assert total == pytest.approx(1, abs=1e-2)  # beyond the cells, one draw of the noise


def test_atoms_with_a_step_and_others_sum_to_one():
    layer = with_atoms(step=True)
    x = torch.arange(-0.5 - 0.25 * 60, 20, 0.25, dtype=torch.float64)[:, None].expand(-1, 2)
    u = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    total, atom = 0.0, []
    for noise in u:
        v, slopes = layer.scores(x, noise.expand(x.shape))
        p = 0.25 * (slopes - 0.5 * (v.square() + math.log(2 * math.pi))).exp()
        total += p.sum(0) / len(u)
        atom.append(p[x[:, 0] == 1.25, 0].item())
        back, log_det = layer.inverse(v)
        torch.testing.assert_close(back, x)
        torch.testing.assert_close(log_det, -slopes.sum(1))
        assert not layer.differs(x, v).any()
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64), atol=1e-4, rtol=0)
    assert atom[0] == pytest.approx(atom[-1])
    assert 0.1 < atom[0] < 0.2  # its own 0.1, and what others have there


def test_atoms_without_a_step_have_a_probability_and_others_a_density():
    layer = with_atoms(step=False)
    x = torch.linspace(-40.05, 40, 400_000, dtype=torch.float64)[:, None].expand(-1, 2)
    v, slopes = layer.scores(x, torch.full_like(x, 0.3))
    p = (slopes - 0.5 * (v.square() + math.log(2 * math.pi))).exp()
    assert torch.trapezoid(p[:, 0], x[:, 0]).item() == pytest.approx(0.6, abs=1e-4)
    assert torch.trapezoid(p[:, 1], x[:, 1]).item() == pytest.approx(1, abs=1e-4)
    at = torch.tensor([[-0.5, -0.5], [1.25, 1.25]], dtype=torch.float64)
    assert layer.has_probability(at).tolist() == [[True, False], [True, False]]
    assert layer.atom_widths(at)[:, 0].tolist() == [1, 1]
    for _ in range(20):
        v, slopes = layer.scores(at, torch.rand(2, 2, dtype=torch.float64))
        p = (slopes - 0.5 * (v.square() + math.log(2 * math.pi))).exp()
        torch.testing.assert_close(p[:, 0], torch.tensor([0.3, 0.1], dtype=torch.float64))
        back, log_det = layer.inverse(v)
        torch.testing.assert_close(back, at)
        torch.testing.assert_close(log_det, -slopes.sum(1))
    drawn, _ = layer.inverse(torch.randn(20_000, 2, dtype=torch.float64))
    shares = (drawn[:, :1] == at[:, 0]).double().mean(0)
    torch.testing.assert_close(shares, torch.tensor([0.3, 0.1]).double(), atol=0.02, rtol=0)
    assert layer.noisy
    assert (drawn[:, 0] - drawn[:, 0].round(decimals=2)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        ("atoms", [[1.25, -0.5], [0, 0]], "atoms must ascend"),
        ("atom_edges", [[0, 0.3, 0.2], [0, 0, 0]], "edges of atoms must ascend from 0"),
        ("atom_edges", [[0, 0.3, 1], [0, 0, 0]], "less than 1"),
    ],
)
def test_atoms_that_cannot_be(name: str, rows: list, says: str):
    with pytest.raises(ValueError, match=says):
        with_atoms(step=False).fill({name: torch.tensor(rows, dtype=torch.float64)})


def test_far_beyond_the_cells_scores_grow_like_logarithms():
    layer = mixed()
    x = torch.tensor([[0, 1, math.nan, 36.5 + 0.5 * k] for k in (10**3, 10**6, 10**9)]).double()
    v, _ = layer.scores(x, torch.full_like(x, 0.5))
    far = v[:, 3].diff()
    assert far[0].item() == pytest.approx(far[1].item(), rel=0.01)
    torch.testing.assert_close(layer.inverse(v)[0], x, equal_nan=True)


def test_of_cells_the_probability_is_their_share_whatever_the_noise():
    layer, x = mixed(), torch.tensor([[2.0, 1.0, math.nan, 37.5]], dtype=torch.float64)
    for u in (0.1, 0.6):
        v, log_det = layer(x, noise=torch.full((1, 4), u, dtype=torch.float64))
        assert (normal(v) + log_det).exp().item() == pytest.approx(0.5 * 0.25 * 0.5 / 0.5)


def test_rows_come_back():
    layer = mixed()
    x = torch.tensor(
        [[0, 0, -7.5, 36.5], [2, 1, math.nan, 38.0], [1, 0, 0.1, 20.0], [1, 0, 4, 99.5]],
        dtype=torch.float64,
    )
    assert layer.possible(x).all()
    for _ in range(50):
        v, log_det = layer(x)
        back, inverse_log_det = layer.inverse(v)
        torch.testing.assert_close(back, x, equal_nan=True)
        torch.testing.assert_close(inverse_log_det, -log_det)
        assert not layer.differs(x, v).any()
    assert layer.differs(x, v + 3)[:, [0, 3]].any()


def test_what_cannot_be():
    layer = mixed()
    good = [1, 0, 0.5, 37.0]
    for column, value in ((0, 3), (0, 0.5), (0, math.nan), (1, 1), (2, math.inf), (3, 37.2)):
        row = torch.tensor([good], dtype=torch.float64)
        row[0, column] = value
        assert not layer.possible(row).all(), (column, value)
        with pytest.raises(ValueError, match=f"column {2 if column == 1 else column}, row 0"):
            layer.check(row)
    bounded = smooth(shape="log")
    assert bounded.possible(torch.tensor([[-1.0], [0.0], [1.0]]))[:, 0].tolist() == [
        False,
        False,
        True,
    ]


def test_what_cannot_be_is_marked_in_a_column_without_gaps():
    x = torch.tensor([
        [0.0, 0, 0.1, 37], [0, 1, math.nan, 37], [3, 0, 0.1, 37], [0, 1, 0.1, 37], [0, 0, 0.1, 36.7]
    ]).double()  # fmt: skip
    marked = mixed().mark(x)
    assert mixed().marks(marked).nonzero().tolist() == [[2, 0], [3, 1], [4, 3]]
    assert torch.equal(mixed().mark(marked).isnan(), marked.isnan())
    assert torch.equal(marked[:2].nan_to_num(9), x[:2].nan_to_num(9))


def test_float32_keeps_far_offsets():
    layer = TableColumns([{"kind": "smooth"}])
    layer.fill({"center": torch.tensor([1.7e9], dtype=torch.float64)})
    layer = layer.float().to(torch.float32)
    x = torch.tensor([[1.7e9 + 3], [1.7e9 - 10]], dtype=torch.float64)
    v, _ = layer(x)
    assert v.dtype == torch.float32
    assert v[:, 0].tolist() == [3, -10]
    assert torch.equal(layer.inverse(v)[0], x)
    assert layer.state_dict()["center"].dtype == torch.float64


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ([{"kind": "other"}], "plain, smooth or cells"),
        ([{"kind": "cells", "size": True}], "size"),
        ([{"kind": "smooth", "knots": 10**9}], "knots"),
        ([{"kind": "smooth", "shape": "cubic"}], "linear, asinh"),
        ([{"kind": "plain", "status": 0}], "cells without gaps"),
        ([{"kind": "plain", "step": 1}], "true or false"),
        (["plain"], "mapping"),
    ],
)
def test_settings_of_strangers(columns, says):
    with pytest.raises(ValueError, match=says):
        TableColumns(columns)


def test_tensors_of_strangers():
    layer = mixed()
    for name, value in (("edges", -1.0), ("cell_step", 0.0), ("scale", -1.0), ("knots", 0.0)):
        tensor = getattr(layer, name)
        before = tensor.clone()
        tensor.fill_(value)
        with pytest.raises(ValueError, match="must"):
            layer.check_values()
        tensor.copy_(before)
    layer.check_values()
