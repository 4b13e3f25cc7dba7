"""Models that were saved once load, and say what they said then.

Densities, decoded latents and samples agree to 1e-6, relative or absolute, where they are computed
in float64. What the command line writes agrees to 1e-4: it computes most models in float32, where
rounding depends on the processor.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from golden.make import FITTED, FOLDER, SHIPPED, TRAINED, shipped_results, table_results

EXACT = 1e-6
SINGLE = 1e-4


def agree(value: Any, expected: Any, tolerance: float, what: str) -> None:
    """Check that arrays agree, including which values are infinite or missing."""
    kind = np.asarray(expected).dtype
    if kind.kind not in "fiub":  # rows of text: numbers among them need not agree exactly
        assert len(value) == len(expected), what
        for row, expected_row in zip(value, expected, strict=True):
            for each, other in zip(row, expected_row, strict=True):
                if isinstance(other, float):
                    assert each == pytest.approx(other, rel=tolerance, abs=tolerance), what
                else:
                    assert each == other, what
        return
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance, err_msg=what)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_says_what_it_said(name: str) -> None:
    with np.load(FOLDER / "shipped" / f"{name}.npz") as saved:
        inputs = {key[3:]: saved[key] for key in saved if key.startswith("in_")}
        expected = {key[4:]: saved[key] for key in saved if key.startswith("out_")}
    results = shipped_results(name, inputs)
    assert sorted(results) == sorted(expected)
    for key, value in expected.items():
        agree(results[key], value, SINGLE if key.startswith("score_") else EXACT, key)


@pytest.mark.parametrize("name", [*FITTED, *TRAINED])
def test_a_table_model_says_what_it_said(name: str) -> None:
    folder = FOLDER / "tables" / name
    expected = json.loads((folder / "results.json").read_text("utf-8"))
    results = table_results(name, folder)
    assert sorted(results) == sorted(expected)
    for key, value in expected.items():
        agree(results[key], value, SINGLE if key.startswith("score_") else EXACT, key)
