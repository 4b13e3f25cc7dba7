"""What comes from a file is verified before it is used."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as tensors_from_bytes

from realnvp.utils import serialization as checkpoint
from realnvp.utils.serialization import check_like, parse_json, peek, seal, unseal

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
    with pytest.raises(TypeError, match="not set"):
        checkpoint.to_bytes({"a": {1}})


def test_a_file_is_written_without_a_copy_of_the_state(tmp_path):
    checkpoint.write_state(STATE, path := tmp_path / "state")
    assert path.read_bytes() == checkpoint.to_bytes(STATE)
    narrow = {"a": torch.ones(3, dtype=torch.bfloat16), "b": torch.tensor([True])}
    assert equal(checkpoint.from_bytes(checkpoint.to_bytes(narrow)), narrow)
    assert equal(tensors_from_bytes(seal(narrow, {"step": 3})), narrow), "any tool reads it"
    tensors, _ = checkpoint._flat(STATE)
    addresses = {np.asarray(part).ctypes.data for part in [*checkpoint._parts(tensors, {})][1:]}
    assert {STATE["weights"].data_ptr(), STATE["rng"].data_ptr()} < addresses


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


def test_sealed_data_may_be_anything_in_json():
    tensors, data = unseal(seal({"x": torch.ones(1)}, {"a": [1, {"b": None}], "ü": "ß"}))
    assert data == {"a": [1, {"b": None}], "ü": "ß"}
    assert torch.equal(tensors["x"], torch.ones(1))


def test_peek_returns_the_tensors_without_their_values(tmp_path):
    tensors = {"a": torch.ones(2, 3), "b": torch.zeros((), dtype=torch.int64), "c": torch.ones(0)}
    path = tmp_path / "a.safetensors"
    path.write_bytes(seal(tensors, {}))
    found, data = peek(path)
    assert data == {}
    assert all(tensor.is_meta for tensor in found.values())
    check_like(found, tensors)


def header(entries: Any, size: int = 0) -> bytes:
    if isinstance(entries, dict):
        entries = {"__metadata__": {"realnvp": "{}"}, **entries}
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * size


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 8, b"\xff" * 50, header([]), header({"__metadata__": {"realnvp": "[]"}}),
        header({"__metadata__": []}), header({"a": 3}), header({}, size=1),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, size=4),
        header({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, size=4),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, size=4),
        header({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, size=4),
        header({"a": {"dtype": "F32", "shape": "ab", "data_offsets": [0, 4]}}, size=4),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4]}}, size=4),
        header({"a": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 9]}}),
        header({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}),
        header({"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, size=4),
    ],
)  # fmt: skip
def test_a_header_that_fits_no_file_is_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"it is|its size|no possible size"):
        peek(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(seal({"a": torch.ones(4)}, {}))
    os.truncate(path, 6 * 2**30)  # sparse: it takes no room on the disk
    with pytest.raises(ValueError, match="not fully covered"):
        peek(path)
    path.write_bytes((2**40).to_bytes(8, "little"))
    os.truncate(path, 6 * 2**30)
    with pytest.raises(ValueError, match="cut off"):
        peek(path)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"x": [torch.ones(2)]}, "x is not a tensor"),
        ({"x": torch.ones(2).double()}, "x has dtype"),
        ({"x": torch.ones(2), "y": 1}, "y is unknown"),
        ({}, "x is missing"),
        ([], "not a mapping"),
    ],
)
def test_check_like_names_the_first_difference(found, message):
    with pytest.raises(ValueError, match=message):
        check_like(found, {"x": torch.ones(2)})
