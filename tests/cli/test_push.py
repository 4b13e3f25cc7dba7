"""``realnvp push``; what goes over the wire is in tests/interop/test_hub.py."""

from __future__ import annotations

from pathlib import Path

from helpers.command import json_of, refused, run


def test_the_files_can_be_looked_at_first(runs, here, capsys):
    run(f"push {runs / 'digits'} me/digits --out card --license mit --json")
    found = json_of(capsys)
    names = ["README.md", "calibration.safetensors", "config.json", "curves.png"]
    assert found == {"out": "card", "files": [*names, "model.safetensors", "samples.png"]}
    assert "bits/dim" in Path("card/README.md").read_text("utf-8")
    run("eval card --data digits --json")
    assert "another --out" in refused(capsys, f"push {runs / 'digits'} me/digits --out card")
    assert "owner/name" in refused(capsys, f"push {runs / 'digits'} digits --out other")
    assert not Path("other").exists()
