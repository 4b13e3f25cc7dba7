"""``realnvp studio``: the server is tested in ``tests/studio``."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest

from realnvp.cli.main import main


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_cleans_up(monkeypatch, capsys, number):
    asked = []

    @contextmanager
    def serving(library, *options):
        asked.append((library.first, str(library.runs), *options))
        try:
            yield "http://127.0.0.1:1"
        finally:
            asked.append("removed")

    monkeypatch.setattr("realnvp.studio.server.serving", serving)
    monkeypatch.setattr("threading.Event.wait", lambda self: os.kill(os.getpid(), number))
    command = ["studio", "moons", "--port", "8000", "--no-browser", "--runs", "r"]
    usual = signal.getsignal(signal.SIGTERM)
    if number == signal.SIGTERM:
        with pytest.raises(SystemExit, match="143"):
            main(command)
    else:
        assert main(command) == 0
    assert asked == [("moons", "r", "127.0.0.1", 8000, False, []), "removed"]
    assert signal.getsignal(signal.SIGTERM) == usual
    assert "http://127.0.0.1:1" in capsys.readouterr().out
