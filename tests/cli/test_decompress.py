"""``realnvp decompress``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("constriction")

from helpers.command import json_of, refused, run
from helpers.flows import small_image_flow, small_images
from realnvp.codec import compress


@pytest.fixture
def model(here):
    flow = small_image_flow(hidden=2)
    flow.save_pretrained(here / "model")
    return flow


def test_images_come_back(model, here, capsys):
    images = small_images(7)
    Path("x.nvp").write_bytes(compress(model, images))
    run("decompress x.nvp --model model --out x.npz --json")
    assert json_of(capsys)["images"] == 7
    assert np.array_equal(np.load("x.npz")["images"], images.numpy())
    assert "--overwrite" in refused(capsys, "decompress x.nvp --model model --out x.npz")
    assert "--model" in refused(capsys, "decompress x.nvp --out y.npz")
    Path("bad.nvp").write_bytes(b"PNG")
    assert "realnvp compress" in refused(capsys, "decompress bad.nvp --out y.npz")


def test_names_cannot_lead_out_of_the_folder(model, here, capsys):
    Path("x.nvp").write_bytes(compress(model, small_images(1), names=["../../evil.png"]))
    assert "leads out" in refused(capsys, "decompress x.nvp --model model --out back")
    assert not list(here.parent.glob("**/evil.png"))


@pytest.mark.skipif(os.name == "nt", reason="its file names have neither")
def test_names_with_colons_and_backslashes_are_kept(model, here):
    names = ["at 12:30.png", "a\\b.png"]
    Path("x.nvp").write_bytes(compress(model, small_images(2), names=names))
    run("decompress x.nvp --model model --out back")
    assert sorted(path.name for path in Path("back").iterdir()) == sorted(names)


def test_labels_are_folders(here, capsys):
    flow, images = small_image_flow(hidden=2, classes=3), small_images(2)
    flow.save_pretrained(here / "model")
    labels = torch.tensor([2, 0])
    Path("x.nvp").write_bytes(compress(flow, images, labels))
    run("decompress x.nvp --model model --out back")
    for i, label in enumerate(labels.tolist()):
        with Image.open(f"back/{label}/{i:06d}.png") as found:
            assert np.array_equal(np.array(found), images[i, 0].numpy())
    np.savez("x.npz", x=images.numpy())
    run("compress model --data x.npz --out y.nvp")  # the likeliest labels are found
    run("decompress y.nvp --model model --out images.npz")
    with np.load("images.npz") as found:
        assert np.array_equal(found["images"], images.numpy())
