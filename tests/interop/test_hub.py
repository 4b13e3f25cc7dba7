"""Models on a hub, which here is a server on this machine: nothing leaves it."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import realnvp
from helpers.command import refused, run
from helpers.flows import small_image_flow
from helpers.hub import TOKEN, serving
from realnvp.config import DataConfig
from realnvp.interop.hub import parse_address
from realnvp.model_info import ModelInfo

pytest.importorskip("huggingface_hub")

# Of the client, about its own network library.
pytestmark = pytest.mark.filterwarnings("ignore:Use .content:DeprecationWarning")


def forget_client():
    """Let the client be imported again, since it reads its variables only then."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        del sys.modules[name]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with serving() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        for name in ("DISABLE_XET", "DISABLE_TELEMETRY", "DISABLE_PROGRESS_BARS"):
            monkeypatch.setenv(f"HF_HUB_{name}", "1")
        forget_client()
        yield found
        # Versions before 1.0 have no connections that stay open.
        getattr(import_module("huggingface_hub"), "close_session", lambda: None)()
        forget_client()


@pytest.fixture(scope="module")
def flow():
    flow = small_image_flow()
    flow.trained_on = ModelInfo(DataConfig("/home/me/secret/pictures", root="/home/me/data"))
    return flow


def test_addresses():
    assert parse_address("hf://a/b@refs/pr/1") == ("a/b", "refs/pr/1")
    for wrong in ("hf://a", "hf://a/b/c", "hf://a/b@", "hf://../b c", "a/b"):
        with pytest.raises(ValueError, match="owner/name@revision"):
            parse_address(wrong)


def test_a_model_comes_back_as_it_went(hub, flow):
    address = realnvp.push_to_hub(
        flow, "me/tiny", license="mit", commit_message="first", private=True
    )
    assert hub.messages == ["first"]
    assert hub.private["me/tiny"]
    files = hub.files("me/tiny")
    assert set(files) == {"README.md", "config.json", "model.safetensors", "samples.png"}
    assert b"license: mit" in files["README.md"]
    for content in files.values():
        assert b"/home/me" not in content, "paths of this machine stay here"
    back = realnvp.load("hf://me/tiny")
    assert (back.origin, back.source) == ("hub", address)
    assert back.trained_on.data.source == "pictures"
    z = torch.randn(3, *flow.shape)
    assert torch.equal(back.decode(z), flow.decode(z))
    asked = {path.rpartition("/")[2] for _, path in hub.requests if "/resolve/" in path}
    assert asked == {"config.json", "model.safetensors", "calibration.safetensors"}


def parameters(address: str | realnvp.Flow) -> int:
    flow = realnvp.load(address) if isinstance(address, str) else address
    return sum(p.numel() for p in flow.parameters())


def test_a_commit_names_the_same_files_forever(hub, flow):
    larger = small_image_flow(hidden=6)
    first = realnvp.push_to_hub(flow, "me/tiny")
    second = realnvp.push_to_hub(larger, "me/tiny")
    aside = realnvp.push_to_hub(flow, "me/tiny", branch="aside")
    assert realnvp.load("hf://me/tiny").source == second
    assert realnvp.load("hf://me/tiny@aside").source == aside
    assert parameters("hf://me/tiny") == parameters(larger)
    assert parameters(first) == parameters("hf://me/tiny@aside") == parameters(flow)


def test_what_was_fetched_is_used_without_a_hub(hub, flow, monkeypatch):
    address = realnvp.push_to_hub(flow, "me/tiny")
    realnvp.load("hf://me/tiny")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    forget_client()
    assert realnvp.load("hf://me/tiny").source == address
    assert realnvp.load(address).source == address
    with pytest.raises(OSError, match="cannot find the requested files"):
        realnvp.load("hf://me/other")


def test_damaged_and_foreign_files_are_refused(hub, flow):
    realnvp.push_to_hub(flow, "me/tiny")
    config = json.loads(hub.files("me/tiny")["config.json"])
    config["arguments"]["hidden"] = 10**9
    hub.commit("me/tiny", "main", {"config.json": json.dumps(config).encode()})
    with pytest.raises(ValueError, match="does not belong to"):
        realnvp.load("hf://me/tiny")
    hub.commit("me/tiny", "main", {"config.json": b" " * 5_000_000})
    with pytest.raises(ValueError, match="too large"):
        realnvp.load("hf://me/tiny")
    hub.create("me/empty")
    with pytest.raises(OSError, match="Not Found"):
        realnvp.load("hf://me/empty")


def test_errors_are_one_line_that_helps(hub, flow, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    realnvp.push_to_hub(flow, "me/tiny")
    assert "Repository Not Found" in refused(capsys, "sample hf://me/nothing")
    assert "Revision Not Found" in refused(capsys, "sample hf://me/tiny@v9")
    assert "hf://owner/name" in refused(capsys, "sample hf://tiny")
    assert "is not a folder" in refused(capsys, "calibrate hf://me/tiny --data digits")
    assert "owner/name" in refused(capsys, "push moons moons")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "401" in refused(capsys, "push moons me/moons")
    run("sample hf://me/tiny -n 2 --out two.npz")
    assert (tmp_path / "two.npz").is_file()


def test_an_estimator_comes_back_too(hub):
    x = np.random.default_rng(0).normal(size=(60, 2))
    density = realnvp.RealNVPDensity(random_state=0, max_steps=5).fit(x)
    realnvp.push_to_hub(density.flow_, "me/table")
    back = realnvp.RealNVPDensity.load("hf://me/table")
    assert np.array_equal(back.score_samples(x), density.score_samples(x))


def test_the_page_of_the_documentation(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "hub.md").read_text("utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    exec(code, {})
    assert b"license: apache-2.0" in hub.files("me/digits")["README.md"]


def test_the_extra_is_named_where_it_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install '.[hub]'" in refused(capsys, "eval hf://me/tiny --data digits")
    assert "pip install '.[hub]'" in refused(capsys, "push moons me/moons")
