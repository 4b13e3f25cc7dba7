"""``realnvp models``."""

from __future__ import annotations

from helpers.command import json_of, refused, run
from realnvp.recipes import read_recipe


def test_commands_of_cards_work_today(capsys):
    run("models --json")
    cards = json_of(capsys)
    for card in cards.values():
        words = card["command"].split()
        assert words[:2] == ["realnvp", "train"]
        read_recipe(words[2])
    run("models")
    assert "bits/dim" in capsys.readouterr().out


def test_a_card(capsys):
    run("models moons")
    assert "KL" in capsys.readouterr().out
    assert "there are" in refused(capsys, "models mnits")
