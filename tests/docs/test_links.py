"""The tool that asks for outside pages, against a server of this machine; and links in a clone."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import links


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/there": 200, "/robots": 403}.get(self.path, 404))
        self.end_headers()

    def log_message(self, *given: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_page_that_is_gone_is_named(address, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"[a]({address}/there), [b]({address}/robots), [c]({address}/gone) [d](e.md)")
    assert links.main([str(page)]) == 1
    assert capsys.readouterr().out == (
        f"{address}/gone: HTTP Error 404: Not Found\n3 links, 1 of them lead nowhere\n"
    )
    page.write_text(f"[a]({address}/there)")
    assert links.main([str(page)]) == 0


def test_a_server_that_is_not_there_is_a_fault():
    assert "refused" in links.fault("http://127.0.0.1:9/")


def test_the_sources_have_links():
    assert len(links.links(links.SOURCES.read_text("utf-8"))) > 30


ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "benchmarks/results")
PAGES = [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere_in_a_clone(page):
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.M | re.S)
    assert "github.com/realnvp/realnvp/blob" not in text
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file = target.partition("#")[0]
        if file and not re.match(r"\w+:", file):
            assert (page.parent / file).exists(), target
