"""Data that a flow refuses, and what is skipped in a graph."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from realnvp import vector_flow
from realnvp.columns.layer import TableColumns
from realnvp.inputs import check_data, check_kind, check_overflow, without_marked


def test_kinds_and_ranges():
    check_data(torch.tensor([[0, 255]], dtype=torch.uint8), (2,), 256)
    with pytest.raises(ValueError, match=r"0 \.\. 16, got 0 \.\. 255"):
        check_data(torch.tensor([[0, 255]], dtype=torch.uint8), (2,), 17)
    with pytest.raises(ValueError, match="NaN or infinite"):
        check_data(torch.tensor([[0.0, math.nan]]), (2,), None)
    with pytest.raises(ValueError, match="models integers"):
        check_kind(torch.zeros(1, 2), (2,), 256)


def test_only_huge_data_are_blamed_for_an_overflow():
    nan = torch.tensor([math.nan])
    check_overflow(torch.ones(1, 2), nan, torch.float32)
    with pytest.raises(ValueError, match="rescale them"):
        check_overflow(torch.full((1, 2), 1e30), nan, torch.float32)


def test_values_are_not_looked_at_in_a_graph():
    flow = vector_flow(2, coupling="affine", couplings=1, hidden=4, blocks=0).eval()
    program = torch.export.export(flow, (torch.zeros(2, 2),), strict=False)
    x = torch.randn(2, 2)
    assert torch.allclose(program.module()(x), flow.log_prob(x))
    assert program.module()(torch.full((2, 2), math.nan)).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_found_among_large_ones(bad, dtype):
    x = torch.full((3, 4), torch.finfo(dtype).max, dtype=dtype)
    check_data(x, (4,), None)
    check_data(x[:0], (4,), None)
    x[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        check_data(x.requires_grad_(), (4,), None)


def test_arrays_are_refused_with_a_remedy():
    with pytest.raises(ValueError, match=r"takes tensors, got ndarray: pass torch.as_tensor\(x\)"):
        check_kind(np.zeros((3, 2)), (2,), None)  # type: ignore[arg-type]


def test_rows_that_are_not_possible_are_set_aside():
    columns = TableColumns([{"kind": "cells", "size": 2}, {"kind": "plain"}])
    x = torch.tensor([[0.0, 5.0], [math.nan, 6.0], [1.0, 7.0]])
    found, marked = without_marked(columns, x)
    assert marked is not None
    assert marked.tolist() == [False, True, False]
    assert columns.possible(found).all()
    assert torch.equal(found[[0, 2]], x[[0, 2]])
    assert without_marked(columns, x[[0, 2]])[1] is None
    assert without_marked(None, x)[1] is None


def test_types_without_arithmetic_are_refused():
    check_kind(torch.zeros(3, 2, dtype=torch.uint16), (2,), None)  # of numbers, it is converted
    with pytest.raises(ValueError, match=r"pass x.to\(torch.int32\)"):
        check_kind(torch.zeros(3, 2, dtype=torch.uint16), (2,), 256)
    with pytest.raises(ValueError, match="real numbers, got"):
        check_kind(torch.zeros(3, 2, dtype=torch.complex64), (2,), None)
