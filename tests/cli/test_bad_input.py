"""Every bad input is refused with one line that helps, and nothing is lost or left behind."""

from __future__ import annotations

import pytest

from helpers.bad_input import BAD, refuse
from realnvp.cli.main import main


@pytest.mark.parametrize("name", BAD)
def test_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse(name, tmp_path)


def test_there_are_many():
    assert len(BAD) >= 100


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("realnvp.cli.recipes.main", lambda argv: {}["bug"])
    with pytest.raises(KeyError):
        main(["recipes"])


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        main(["eval", "nowhere", "--debug"])
