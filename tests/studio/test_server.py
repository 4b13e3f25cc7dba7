"""The server: what it refuses, what it leaves behind, several visitors at once."""

from __future__ import annotations

import http.client
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.command import refused
from realnvp import load
from realnvp.studio import server
from realnvp.studio.models import Library
from realnvp.studio.server import serving

UPLOAD = "/gradio_api/upload"


def test_what_cannot_be_served_is_refused(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="there is no model 'nowhere'"):
        serving(Library(tmp_path, "nowhere")).__enter__()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 cannot be used"):
            serving(Library(tmp_path, "moons"), port=port).__enter__()
    assert "no model 'nowhere'" in refused(capsys, "studio nowhere --no-browser")


def test_without_gradio_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(ValueError, match=r"pip install '\.\[studio\]'"):
        serving(Library(tmp_path, "moons")).__enter__()


@pytest.fixture(scope="module")
def send(address):
    """Return a function that sends a request with headers, and returns the answer's status."""
    port = urlsplit(address).port

    def send(path: str, body: bytes | None = None, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, body, named)
        with connection.getresponse() as answer:
            answer.read()
        connection.close()
        return answer.status

    return send


FORM = {
    "body": b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\n1\r\n'
    b"--x--\r\n",
    "Content_Type": "multipart/form-data; boundary=x",
}
CALL = {"body": b'{"data": ["digits", 0, 4, 1.0, ""]}', "Content_Type": "application/json"}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_other_names_of_this_machine_are_refused(send, host):
    for path, request in {"/": {}, UPLOAD: FORM, "/gradio_api/call/sample": CALL}.items():
        assert send(path, **request, Host=host) == 400


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
def test_pages_of_other_sites_send_nothing(send, origin):
    for path, request in {UPLOAD: FORM, "/gradio_api/call/sample": CALL}.items():
        assert send(path, **request, Origin=origin) == 403


def test_its_own_page_sends(send, address):
    port = urlsplit(address).port
    for name in ("localhost", "127.0.0.1", "[::1]", socket.gethostname()):
        own = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
        assert send(UPLOAD, **FORM, **own) == 200
    assert send(UPLOAD, **FORM) == 200, "programs name no origin"


def test_all_uploads_together_are_bounded(send, monkeypatch):
    endless = {**FORM, "body": b"0\r\n\r\n", "Transfer_Encoding": "chunked"}
    assert send(UPLOAD, **endless) == 411
    monkeypatch.setattr(server, "MOST_BYTES", 1)
    assert send(UPLOAD, **FORM) == 413
    assert send("/") == 200


def test_several_visitors_get_their_own_samples_and_nothing_is_left(tmp_path, monkeypatch):
    from gradio_client import Client

    monkeypatch.chdir(tmp_path)
    before = set(Path(tempfile.gettempdir()).glob("realnvp-studio-*"))
    flow = load("digits")
    with serving(Library(tmp_path / "runs", "digits")) as address:

        def visit(seed: int) -> np.ndarray:
            client = Client(address, verbose=False, download_files=str(tmp_path / "got"))
            _, grid, *_ = client.predict("digits", seed, 4, 1.0, "", api_name="/sample")
            with Image.open(grid["value"]) as image:
                return np.asarray(image)

        with ThreadPoolExecutor(3) as visitors:
            pictures = list(visitors.map(visit, [1, 2, 3]))
    from realnvp.plots import tiles

    for seed, picture in zip([1, 2, 3], pictures, strict=True):
        own = flow.sample(4, generator=torch.Generator().manual_seed(seed))
        assert (picture == np.asarray(tiles(own, levels=17))).all()
    assert set(Path(tempfile.gettempdir()).glob("realnvp-studio-*")) == before
    assert {p.name for p in tmp_path.iterdir()} <= {"got"}
