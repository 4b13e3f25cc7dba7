"""A cache of decoded images: the same pixels as without, whatever happens while it is made."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.data_files import RNG, load, refused, save
from realnvp.data import cache, images
from realnvp.data.dataset import Dataset


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Cache few files."""
    monkeypatch.setattr(images, "_CACHE_FROM", 8)


@pytest.fixture
def photos(tmp_path):
    """Return a folder of 18 images, some of them grey."""
    for i in range(18):
        pixels = RNG.integers(0, 256, (8, 6, 3), dtype=np.uint8)
        save(pixels[:, :, 0] if i < 5 else pixels, tmp_path / f"photos/{'ab'[i % 2]}/{i:02}.png")
    return tmp_path / "photos"


def same(one: Dataset, two: Dataset) -> bool:
    """Return whether two sets have equal pixels, labels and fingerprints in their parts."""
    pairs = [(one.train, two.train), (one.validation, two.validation)]
    return one.fingerprint == two.fingerprint and all(
        torch.equal(a.x, b.x) and torch.equal(a.labels, b.labels) for a, b in pairs
    )


def test_it_holds_the_pixels_that_reading_gives(photos, tmp_path, monkeypatch):
    root, known = str(tmp_path / "cache"), load(photos, cache="none")
    assert same(load(photos, cache=root), known)
    small = load(photos, cache="none", size=4, channels=1)
    assert same(load(photos, cache=root, size=4, channels=1), small)
    assert len([*(tmp_path / "cache/images").iterdir()]) == 2
    monkeypatch.setattr(images, "_decoded", None)  # nothing is decoded again
    assert same(load(photos, cache=root), known)
    assert same(load(photos, cache=root, size=4, channels=1), small)


def test_a_changed_file_is_noticed_and_old_pixels_are_removed(photos, tmp_path):
    load(photos, cache=str(tmp_path / "cache"))
    Image.fromarray(255 - np.asarray(Image.open(photos / "b/17.png"))).save(photos / "b/17.png")
    os.utime(photos / "b/17.png", ns=(0, 10**18))  # as coarse clocks may not show
    assert same(load(photos, cache=str(tmp_path / "cache")), load(photos, cache="none"))
    assert len([*(tmp_path / "cache").rglob("*.npy")]) == 1


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_entry_is_made_again(photos, tmp_path, damage):
    load(photos, cache=str(tmp_path / "cache"))
    path = next((tmp_path / "cache").rglob("*.npy"))
    path.unlink() if damage == "gone" else os.truncate(path, path.stat().st_size // 2)
    assert same(load(photos, cache=str(tmp_path / "cache")), load(photos, cache="none"))


def test_a_full_disk_is_refused_where_a_cache_was_asked_for(photos, tmp_path, monkeypatch, capsys):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(cache, "replacing", full)
    with pytest.raises(OSError, match="No space left"):
        load(photos, cache=str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert same(load(photos), load(photos, cache="none"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "no cache, so the images are decoded at every start" in line


def test_files_that_cannot_be_used_are_said_as_without_it(photos, tmp_path, capsys):
    root = str(tmp_path / "cache")
    (photos / "a/04.png").write_bytes(b"no image")
    (photos / "a/zz.png").write_bytes(b"")
    without = refused(photos, "2 of 19 images cannot be used", cache="none")
    assert refused(photos, "2 of 19 images cannot be used", cache=root) == without
    known = load(photos, cache="none", skip_unreadable=True)
    said = capsys.readouterr().err
    assert same(load(photos, cache=root, skip_unreadable=True), known)
    assert capsys.readouterr().err == said
    save(np.zeros((5, 5, 3), np.uint8), photos / "b/17.png")
    without = refused(photos, "differ in size.*1 of 19", cache="none", skip_unreadable=True)
    with_it = refused(photos, "differ in size.*1 of 19", cache=root, skip_unreadable=True)
    assert with_it == without


def test_more_images_than_memory_holds_are_refused(photos, monkeypatch):
    monkeypatch.setattr("realnvp.utils.model_folder.physical_memory", lambda: 100)
    refused(photos, "the images take .* GiB, and this machine has")
