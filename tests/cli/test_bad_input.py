"""Every bad input is refused with one line that helps, and no file changes."""

from __future__ import annotations

import pytest

from helpers.bad_input import BAD, refuse


@pytest.mark.parametrize("name", BAD)
def test_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse(name, tmp_path)


def test_there_are_many():
    assert len(BAD) >= 100
