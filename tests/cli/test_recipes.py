"""``realnvp recipes``."""

from __future__ import annotations

import yaml

from helpers.command import json_of, run
from realnvp.recipes import recipe_names


def test_a_list_and_one_as_yaml(capsys):
    run("recipes")
    assert "cifar10-paper" in capsys.readouterr().out
    run("recipes digits")
    assert yaml.safe_load(capsys.readouterr().out)["kind"] == "image"
    run("recipes --json")
    assert list(json_of(capsys)) == recipe_names()
