"""``realnvp export``."""

from __future__ import annotations

from pathlib import Path

import torch

from helpers.command import json_of, refused, run


def test_a_run_is_exported(runs, here, capsys):
    moons = runs / "moons"
    run(f"export {moons} --format torch --part log_prob --out graphs --json")
    [graph] = json_of(capsys)["graphs"]
    assert graph["inputs"] == ["x"]
    assert graph["difference"] < 1e-4
    scorer = torch.export.load(graph["out"]).module()
    assert scorer(x=torch.zeros(5, 2)).shape == (5,)
    assert "--overwrite" in refused(
        capsys, f"export {moons} --format torch --part log_prob --out graphs"
    )
    assert "--part" in refused(capsys, f"export {moons} --part encoder")
    assert not Path("exported").exists()
