"""``realnvp eval``."""

from __future__ import annotations

import numpy as np
import pytest

import realnvp
from helpers.command import json_of, run


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_likelihood_and_round_trip(runs, name, capsys):
    run(f"eval {runs / name} --json")
    result = json_of(capsys)
    assert ("bits_per_dim" in result) == (name == "digits")
    assert ("kl" in result) == (name == "moons")
    assert result["round_trip"]["wrong_values"] == 0
    assert result["made_with"]["realnvp"] == realnvp.__version__
    run(f"eval {runs / name} --samples 2")
    printed = capsys.readouterr().out
    assert "round trip" in printed
    assert f"realnvp {realnvp.__version__}, torch" in printed


def test_other_data(runs, here, capsys):
    np.save("images.npy", np.random.default_rng(0).integers(0, 17, (20, 8, 8), dtype=np.uint8))
    run(f"eval {runs / 'digits'} --data images.npy --json")
    assert json_of(capsys)["examples"] == 20
    run(f"eval {runs / 'digits'} --split test --json")
    assert json_of(capsys)["examples"] == 257


def test_the_table_says_which_way_is_better(runs, capsys):
    run(f"eval {runs / 'digits'}")
    assert "lower is better" in capsys.readouterr().out
    run(f"eval {runs / 'moons'}")
    assert "higher is better" in capsys.readouterr().out
