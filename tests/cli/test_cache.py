"""The command ``realnvp cache``."""

from __future__ import annotations

import numpy as np

from helpers.command import json_of, run
from helpers.data_files import load, save
from realnvp.data import images


def test_it_lists_and_clears(here, monkeypatch, capsys):
    monkeypatch.setattr(images, "_CACHE_FROM", 3)
    for i in range(4):
        save(np.full((4, 6, 3), i, np.uint8), here / f"photos/{i}.png")
    load(here / "photos", cache=str(here / "cache"))
    run("cache --data-cache cache --json")
    (entry,) = json_of(capsys)["entries"]
    assert (entry["images"], entry["shape"]) == (4, [3, 4, 6])
    assert entry["source"] == str(here / "photos")
    assert entry["bytes"] > 4 * 3 * 4 * 6
    run("cache --data-cache cache")
    assert "photos" in capsys.readouterr().out
    run("cache --data-cache cache --clear --json")
    assert json_of(capsys)["removed_bytes"] == entry["bytes"]
    assert not [*(here / "cache").rglob("*.npy")]
    run("cache --data-cache cache --json")
    assert json_of(capsys)["entries"] == []


def test_the_default_is_the_folder_of_the_user(here, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "mine"))
    run("cache --json")
    assert json_of(capsys)["cache"].startswith(str(here))
