"""The models that come with the package."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
import torch

import realnvp
from realnvp.cli.main import main
from realnvp.data.toy import TOY
from realnvp.pretrained import cards, load_shipped, pack, shipped_names, unpack


def test_what_is_there():
    images = {"digits", "mnist", "mnist-conditional", "fashion-mnist"}
    assert set(shipped_names()) == set(TOY) | images
    for file in (files("realnvp") / "weights").iterdir():
        if file.name.endswith(".safetensors"):
            assert len(file.read_bytes()) <= 6 * 2**20


@pytest.mark.parametrize("name", shipped_names())
def test_every_model_loads_and_its_card_is_whole(name):
    flow, card = realnvp.load(name), cards()[name]
    assert not flow.training
    assert card["parameters"] == sum(p.numel() for p in flow.parameters())
    assert card["command"].startswith("realnvp train ")
    assert "/" not in flow.trained_on["data"]["source"] + flow.trained_on["data"]["root"]
    assert len(card["curve"]) >= 2
    condition = None if flow.classes is None else torch.arange(3) % flow.classes
    x = flow.sample(3, condition=condition)
    assert x.shape == (3, *flow.shape)
    if flow.levels is not None:
        assert torch.equal(flow.decode(flow.encode(x, condition), condition), x)


@pytest.mark.parametrize("name", TOY)
def test_toy_sets_have_the_divergence_of_their_cards(name):
    x = torch.from_numpy(TOY[name].sample(2000, seed=77))
    truth = torch.from_numpy(TOY[name].log_density(x.numpy()))
    with torch.no_grad():
        gap = truth - load_shipped(name).log_prob(x)
    card = cards()[name]
    error = gap.std() / 2000**0.5
    assert abs(gap.mean() - card["kl"]) < 5 * error + 5 * card["kl_standard_error"]


def test_digits_have_the_bits_of_their_card(capsys):
    assert main(["eval", "digits", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert abs(result["bits_per_dim"] - cards()["digits"]["value"]) < 0.01


def test_the_command_line_knows_them(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["models"]) == 0
    assert "moons" in capsys.readouterr().out
    assert main(["models", "moons"]) == 0
    assert "KL" in capsys.readouterr().out
    assert main(["sample", "digits", "-n", "4"]) == 0
    assert main(["plot", "moons", "--out", "m.png"]) == 0
    assert main(["models", "mooons"]) == 2
    assert "there are" in capsys.readouterr().err


def test_a_packed_model_comes_back():
    from realnvp.pretrained import rebuild

    flow = realnvp.vector_flow(2, couplings=2, hidden=4).eval()
    entry, tensors = unpack(pack({"a": (flow, {"x": 1})}))["a"]
    assert entry["card"] == {"x": 1}
    back = rebuild(entry["settings"], tensors, "it")
    assert back.dtype == torch.float32
    x = torch.randn(5, 2)
    torch.testing.assert_close(back.log_prob(x), flow.log_prob(x), atol=1e-2, rtol=1e-2)


def test_a_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    realnvp.vector_flow(5).save_pretrained("moons")
    assert realnvp.load("moons").dim == 5
