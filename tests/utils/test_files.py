"""What comes from a file is verified before it is used, and what is written is whole."""

from __future__ import annotations

import json
import os
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import realnvp
from helpers.bad_files import full_disk
from helpers.flows import small_image_flow
from realnvp import image_flow, vector_flow
from realnvp.pretrained import save
from realnvp.utils import serialization as checkpoint
from realnvp.utils.files import Appender, remove_temporary, replacing, write_atomically
from realnvp.utils.serialization import parse_json, seal, unseal

STATE = {
    "step": 3, "best": float("inf"), "name": "x", "none": None, "flag": True, "betas": (0.9, 0.99),
    "weights": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
    "moments": {"0": {"step": torch.tensor(2.0)}}, "numbers": {0: 1, 7: [1, 2.5]},
    "rng": torch.get_rng_state()[:20], "empty": torch.zeros(0, 3), "dots": {"$tensor": 1},
}  # fmt: skip


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and all(map(equal, a, b))
    return a == b and type(a) is type(b)


def test_a_state_comes_back_as_it_was():
    content = checkpoint.to_bytes(STATE)
    back = checkpoint.from_bytes(content)
    assert equal(back, STATE)
    assert back["weights"].stride() == STATE["weights"].stride()
    assert checkpoint.to_bytes(STATE) == content
    with pytest.raises(TypeError, match="no set"):
        checkpoint.to_bytes({"a": {1}})


def test_a_tensor_that_occurs_twice_is_stored_once():
    x = torch.randn(1000)
    assert len(checkpoint.to_bytes({"a": x, "b": [x, x]})) < 5000


def test_every_flipped_bit_and_every_cut_is_found():
    content = checkpoint.to_bytes(STATE)
    chance = random.Random(0)
    for _ in range(300):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        for bad in (bytes(flipped), content[: chance.randrange(len(content))], content + b"x"):
            with pytest.raises(ValueError, match="it "):
                checkpoint.from_bytes(bad)


def test_other_files_are_no_checkpoints():
    import pickle

    from safetensors.torch import save as plain

    class Attack:
        def __reduce__(self):
            return (os.system, ("touch owned",))

    for content in (
        b"", b"\0" * 100, pickle.dumps(Attack()), plain({"a": torch.ones(2)}),
        plain({"a": torch.ones(2)}, {"realnvp": "{}"}), b"\xff" * 50, b"\x02" + b"\0" * 7 + b"{}",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="it "):
            checkpoint.from_bytes(content)
    assert not Path("owned").exists()
    with pytest.raises(ValueError, match="format"):
        checkpoint.from_bytes(seal({"a": torch.ones(2)}, {"format": 1, "state": {}}))
    for state in ([], {"$tensor": "b", "order": []}, {"x": {"$tensor": "a", "order": [5]}}):
        with pytest.raises(ValueError, match="not a checkpoint"):
            checkpoint.from_bytes(seal({"a": torch.ones(2)}, {"format": 2, "state": state}))


def test_json_that_is_an_attack_is_refused():
    for text, message in (("[" * 100_000, "deeply"), ("9" * 5000, "valid"), ('{"a"', "valid")):
        with pytest.raises(ValueError, match=message):
            parse_json(text)


# ---------------------------------------------------------------------- models from strangers


def hostile(folder: Path, **changes: Any) -> Path:
    """A valid model folder whose settings were changed by somebody who knows the format."""
    flow = small_image_flow()
    flow.save_pretrained(folder)
    assert flow.config is not None
    arguments = {**flow.config["arguments"], **changes.pop("arguments", {})}
    flow.config = {**flow.config, "arguments": arguments, **changes.pop("config", {})}
    flow.trained_on = changes.pop("trained_on", None)
    save(flow, folder, changes.pop("weights", None))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arguments": {"hidden": 10**15}}, "too large|shape|overflow|Storage|rebuilt"),
        ({"arguments": {"hidden": 100_000}}, "has shape"),
        ({"arguments": {"blocks": 10**6}}, "blocks"),
        ({"arguments": {"blocks": 900}}, "blocks is more than"),
        ({"arguments": {"scales": 10**9}}, "scales"),
        ({"arguments": {"scales": 1}}, "missing|unknown"),
        ({"arguments": {"hidden": "8; rm -rf /"}}, "hidden must be"),
        ({"arguments": {"hidden": True}}, "hidden must be"),
        ({"arguments": {"hidden": 4.5}}, "hidden must be"),
        ({"arguments": {"norm": "evil"}}, "norm must be"),
        ({"arguments": {"alpha": float("nan")}}, "alpha"),
        ({"arguments": {"levels": 10**12}}, "levels"),
        ({"arguments": {"levels": "many"}}, "levels"),
        ({"arguments": {"shape": [1, 8]}}, "shape"),
        ({"arguments": {"shape": ["a", 8, 8]}}, "channels"),
        ({"arguments": {"shape": [1, 8, 2**60]}}, "width"),
        ({"arguments": {"classes": -5}}, "classes"),
        ({"arguments": {"condition_dim": 10**12}}, "condition_dim"),
        ({"arguments": {"unknown": 1}}, "unknown"),
        ({"config": {"builder": "eval"}}, "does not describe"),
        ({"config": {"builder": "load"}}, "does not describe"),
        ({"config": {"arguments": []}}, "does not describe"),
        ({"trained_on": {"data": {"source": "/etc/passwd", "evil": 1}}}, "rebuilt"),
        ({"trained_on": {"data": {"points": -1}}}, "points"),
        ({"trained_on": {"data": {}, "columns": [1, 2]}}, "text"),
        ({"trained_on": ["x"]}, "rebuilt"),
    ],
)  # fmt: skip
def test_a_model_with_hostile_settings_is_refused_at_once(tmp_path, changes, message):
    folder = hostile(tmp_path, **changes)
    begin = time.monotonic()
    with pytest.raises(ValueError, match=message) as caught:
        realnvp.load(folder)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert time.monotonic() - begin < 20  # without memory, it is a second on an idle machine


@pytest.mark.parametrize("what", ["more", "less", "shape", "dtype", "nan"])
def test_a_model_with_other_tensors_is_refused(tmp_path, what):
    weights = {name: t.clone() for name, t in small_image_flow().state_dict().items()}
    name = next(name for name in weights if name.endswith("direction"))
    if what == "more":
        weights["evil"] = torch.ones(2)
    elif what == "less":
        del weights[name]
    elif what == "shape":
        weights[name] = weights[name][:1]
    elif what == "dtype":
        weights[name] = weights[name].half()
    else:
        weights[name][0] = torch.nan
    with pytest.raises(ValueError, match=str(tmp_path)):
        realnvp.load(hostile(tmp_path, weights=weights))


def test_a_plain_safetensors_file_is_no_model(tmp_path):
    from safetensors.torch import save_file

    small_image_flow().save_pretrained(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="no checksum"):
        realnvp.load(tmp_path)


def test_the_settings_belong_to_the_weights(tmp_path):
    for name, hidden in (("a", 4), ("b", 8)):
        image_flow((1, 4, 4), hidden=hidden, blocks=1).save_pretrained(tmp_path / name)
    (tmp_path / "b" / "config.json").write_bytes((tmp_path / "a" / "config.json").read_bytes())
    with pytest.raises(ValueError, match="does not belong"):
        realnvp.load(tmp_path / "b")
    (tmp_path / "a" / "config.json").write_text(" " * 20_000_000)
    with pytest.raises(ValueError, match="too large"):
        realnvp.load(tmp_path / "a")


def test_weights_are_readable_by_any_tool(tmp_path):
    from safetensors import safe_open

    flow = vector_flow(2, couplings=1, hidden=4)
    flow.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(flow.state_dict())
        assert set(json.loads(file.metadata()["realnvp"])) == {"sha256", "config_sha256"}


# ---------------------------------------------------------------------- writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")
    with suppress(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with suppress(KeyError), replacing(tmp_path / "new" / "deep" / "a.txt"):
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(NotADirectoryError):
        write_atomically(path / "b.txt", b"")


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in (".a.12.tmp~.png", "deep/.b.1.tmp~.safetensors"):
        (tmp_path / name).write_text("half")
    (tmp_path / "kept.txt").write_text("whole")
    remove_temporary(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["kept.txt"]


def test_a_record_that_does_not_fit_is_taken_back(tmp_path):
    file = Appender(tmp_path / "log")
    file.append(b"x" * 95 + b"\n")
    with full_disk(), pytest.raises(OSError, match="too large"):
        file.append(b"too much\n")
    file.append(b"three\n")
    assert (tmp_path / "log").read_bytes() == b"x" * 95 + b"\nthree\n"


def test_sealed_data_may_be_anything_in_json():
    tensors, data = unseal(seal({"x": torch.ones(1)}, {"a": [1, {"b": None}], "ü": "ß"}))
    assert data == {"a": [1, {"b": None}], "ü": "ß"}
    assert torch.equal(tensors["x"], torch.ones(1))
