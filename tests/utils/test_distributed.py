"""One process is the trivial case; several are tested in system/test_processes.py."""

from __future__ import annotations

import pytest
import torch

from realnvp.utils import distributed
from realnvp.utils.distributed import all_reduce, mean_and_variance, rank, rows_of_all, world_size


def test_one_process_without_a_group():
    assert (world_size(), rank()) == (1, 0)
    values = torch.tensor([1.0, 2.0])
    assert all_reduce(values) is values
    assert rows_of_all(values).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 2, 5)])
def test_mean_and_variance_are_per_channel_and_biased(shape):
    x = torch.randn(shape, dtype=torch.float64)
    mean, var, count = mean_and_variance(x)
    flat = x.movedim(1, 0).flatten(1)
    torch.testing.assert_close(mean, flat.mean(1))
    torch.testing.assert_close(var, flat.var(1, correction=0))
    assert count == flat.shape[1]


def test_a_large_mean_costs_no_precision():
    x = 1e4 + torch.randn(1000, 1)
    _, var, _ = mean_and_variance(x)
    torch.testing.assert_close(var.double(), x.double().var(0, correction=0), rtol=1e-4, atol=0)


def test_parts_of_different_sizes_give_the_statistics_of_the_whole(monkeypatch):
    """As if two processes held 3 and 5 of the examples."""
    x = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    parts = x[:3], x[3:]
    rows = [torch.cat((*mean_and_variance(p)[:2], p.new_full((1,), len(p)))) for p in parts]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rows_of_all", lambda row: torch.stack(rows))
    mean, var, count = mean_and_variance(parts[0])
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(var, x.var(0, correction=0))
    assert count == 8
    (grad,) = torch.autograd.grad(var.sum(), x)
    torch.testing.assert_close(grad, 2 * (x - x.mean(0)) / 8)
