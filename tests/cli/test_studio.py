"""``realnvp studio``: the server is tested in ``tests/studio``."""

from __future__ import annotations

from realnvp.cli.main import main


def test_it_serves_until_ctrl_c(monkeypatch, capsys):
    from contextlib import contextmanager

    asked = []

    @contextmanager
    def serving(library, *options):
        asked.append((library.first, str(library.runs), *options))
        yield "http://127.0.0.1:1"

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("realnvp.studio.server.serving", serving)
    monkeypatch.setattr("threading.Event.wait", interrupted)
    assert main(["studio", "moons", "--port", "8000", "--no-browser", "--runs", "r"]) == 0
    assert asked == [("moons", "r", "127.0.0.1", 8000, False)]
    assert "http://127.0.0.1:1" in capsys.readouterr().out
