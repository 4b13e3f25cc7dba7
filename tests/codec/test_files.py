"""Files of compressed images: exact, and no damage or stranger goes unnoticed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("constriction")

from helpers.flows import small_image_flow, small_images
from realnvp.codec import compress, decompress, files, read_contents
from realnvp.codec.container import MARKER
from realnvp.data import Split
from realnvp.evaluation import class_log_likelihoods

EXPECTED = "damaged|cut off|missing|not a file|version|consistently|cannot be decoded"


def test_adversarial_images_come_back():
    flow = small_image_flow(coupling="logistic_mixture", norm="act", hidden=2)
    noise = small_images(3)
    kinds = [torch.zeros_like(noise), torch.full_like(noise, 16), noise, 16 - noise]
    images = torch.cat([*kinds, noise.roll(1, 3), noise[:, :, :1].expand(-1, -1, 8, -1)])
    data = compress(flow, images)
    back = decompress(flow, data)
    assert back.dtype == torch.uint8
    assert torch.equal(back, images)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_images(count):
    flow, images = small_image_flow(), small_images(count)
    assert torch.equal(decompress(flow, compress(flow, images)), images)


def test_labels_vectors_and_names_come_back():
    images = small_images(8)
    labels, vectors = torch.arange(8) % 3, torch.randn(8, 2)
    for options, condition in (({"classes": 3}, labels), ({"condition_dim": 2}, vectors)):
        flow = small_image_flow(**options)
        names = [f"a/{i}.png" for i in range(8)]
        found = read_contents(flow, compress(flow, images, condition, names=names, block=3))
        assert torch.equal(found.images, images)
        assert torch.equal(found.condition, condition)
        assert found.names == names
    with pytest.raises(ValueError, match="8 images, and 1 names"):
        compress(flow, images, vectors, names=["a"])


def test_names_are_restored_whatever_they_are_or_refused():
    flow, images = small_image_flow(), small_images(2)
    names = [os.fsdecode(b"\xff.png"), "a" * 1023]
    assert read_contents(flow, compress(flow, images, names=names)).names == names
    with pytest.raises(ValueError, match=r"less than 1,024 bytes"):
        compress(flow, images, names=["a" * 1024, "b"])


def test_labels_need_not_be_given():
    flow, images = small_image_flow(classes=3), small_images(8)
    found = read_contents(flow, compress(flow, images))
    assert torch.equal(found.images, images)
    likeliest = class_log_likelihoods(flow, Split(images)).argmax(1)
    assert torch.equal(found.condition, likeliest)
    with pytest.raises(ValueError, match="conditional"):
        compress(small_image_flow(condition_dim=2), images)


def test_portable_files_and_those_without_verification():
    flow, images = small_image_flow(), small_images(9)
    for options in ({"portable": True}, {"verify": False}):
        assert torch.equal(decompress(flow, compress(flow, images, **options)), images)


def test_damage_is_found():
    flow, images = small_image_flow(hidden=2, norm="none"), small_images(9)
    data = compress(flow, images, block=3)
    rng = np.random.default_rng(0)
    for i in range(12):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        content = bytes(damaged) if i % 3 else data[: rng.integers(len(data))]
        with pytest.raises(ValueError, match=EXPECTED):
            decompress(flow, content)


def test_a_lost_repeated_or_swapped_block_is_found():
    flow, images = small_image_flow(hidden=2, norm="none"), small_images(9)
    data = compress(flow, images, block=3)
    starts = [m.start() for m in re.finditer(re.escape(MARKER), data)]
    head, *blocks = [data[a:b] for a, b in zip([0, *starts], [*starts, None], strict=True)]
    for order in ([0, 2], [0, 1, 1, 2], [1, 0, 2], [0, 1]):
        with pytest.raises(ValueError, match="missing"):
            decompress(flow, head + b"".join(blocks[i] for i in order))


def test_another_model_and_another_machine_are_named(monkeypatch):
    flow, images = small_image_flow(), small_images(4)
    data = compress(flow, images)
    other = small_image_flow()
    with torch.no_grad():
        next(other.parameters())[0] += 1e-6
    with pytest.raises(ValueError, match="another model"):
        decompress(other, data)
    probe = files._probe
    monkeypatch.setattr(files, "_probe", lambda coder: probe(coder) ^ 1)
    with pytest.raises(ValueError, match=r"computes differently.*--portable"):
        decompress(flow, data)


def test_a_file_outlives_a_new_setting_and_another_summary(monkeypatch):
    flow, images = small_image_flow(), small_images(3)
    data = compress(flow, images)
    monkeypatch.setattr(type(flow), "__repr__", lambda self: "another summary")
    flow.config = {"builder": "image_flow", "arguments": {"a_later_setting": 1}}
    assert torch.equal(decompress(flow, data), images)


def test_equal_weights_in_another_arrangement_are_found():
    flow, images = small_image_flow(alpha=0.05), small_images(3)
    other = small_image_flow(alpha=0.1)
    other.load_state_dict(flow.state_dict())
    with pytest.raises(ValueError, match="computes differently"):
        decompress(other, compress(flow, images))


def test_another_machine_that_the_probe_misses_is_not_called_damage(monkeypatch):
    monkeypatch.setattr(files, "_probe", lambda coder: 7)
    flow, images = small_image_flow(alpha=0.05), small_images(9)
    other = small_image_flow(alpha=0.1)
    other.load_state_dict(flow.state_dict())
    data = compress(flow, images, verify=False, block=3)
    with pytest.raises(ValueError, match="computes differently") as caught:
        decompress(other, data)
    assert "damaged" not in str(caught.value)


def test_threads_and_processes_agree(tmp_path):
    flow, images = small_image_flow(coupling="logistic_mixture", hidden=2), small_images(7)
    flow.save_pretrained(tmp_path)
    (tmp_path / "x.nvp").write_bytes(compress(flow, images))
    np.save(tmp_path / "x.npy", images.numpy())
    code = """
import sys, numpy as np, torch, realnvp
from realnvp.codec import compress, decompress
torch.set_num_threads(2)
folder = sys.argv[1]
flow, images = realnvp.load(folder), torch.from_numpy(np.load(folder + "/x.npy"))
data = open(folder + "/x.nvp", "rb").read()
assert torch.equal(decompress(flow, data), images)
assert compress(flow, images) == data
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ValueError, match=r"pip install '\.\[codec\]'"):
        compress(small_image_flow(), small_images(2))
