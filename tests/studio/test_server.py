"""The server: what it refuses, what it leaves behind, several visitors at once."""

from __future__ import annotations

import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.command import refused
from realnvp import load
from realnvp.studio.models import Library
from realnvp.studio.server import serving


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
