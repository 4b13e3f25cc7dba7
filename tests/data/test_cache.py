"""A cache of decoded images: the same pixels as without, whatever happens while it is made."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.data_files import RNG, load, refused, rows, save
from helpers.kills import in_child
from realnvp.config import DataConfig, ImageModel, ImageRecipe, TrainingConfig
from realnvp.data import cache, images
from realnvp.data.dataset import Dataset
from realnvp.data.stored_images import StoredImages
from realnvp.training.train import train


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Cache few files, in shards of four, in this process."""
    monkeypatch.setattr(images, "_CACHE_FROM", 8)
    monkeypatch.setattr(cache, "SHARD", 4 * 8 * 6)  # the first file is grey
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)


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
        torch.equal(a.x[:], b.x[:]) and torch.equal(a.labels, b.labels) for a, b in pairs
    )


def shards(folder) -> dict[str, int]:
    """Return the shards of a cache, and when each was made."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}


def test_it_holds_the_pixels_that_reading_gives(photos, tmp_path):
    known = load(photos, cache="none")
    assert isinstance(known.train.x, torch.Tensor)
    for _ in range(2):
        found = load(photos, cache=str(tmp_path / "cache"))
        assert isinstance(found.train.x, StoredImages)
        assert same(found, known)
    held = load(photos, cache=str(tmp_path / "cache"), storage="memory")
    assert isinstance(held.train.x, torch.Tensor)
    assert same(held, known)
    other = load(photos, cache=str(tmp_path / "cache"), size=4, channels=1)
    assert same(other, load(photos, cache="none", size=4, channels=1))
    assert len([*(tmp_path / "cache/images").iterdir()]) == 2


def test_equal_files_are_in_one_part(photos, tmp_path):
    for path in sorted(photos.rglob("*.png")):
        for i in range(2):
            shutil.copy(path, path.with_name(f"{path.stem}-copy-{i}.png"))
    known = load(photos, cache="none", validation=0.3)
    found = load(photos, cache=str(tmp_path / "cache"), validation=0.3)
    assert same(found, known)
    parts = [rows(split.x[:]) for split in (found.train, found.validation)]
    assert sum(map(len, parts)) == 18
    assert len(found.train) == 3 * len(parts[0])


def test_several_processes_make_it(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    found = load(photos, cache=str(tmp_path / "cache"))
    assert same(found, load(photos, cache="none"))


def test_a_second_start_decodes_nothing(photos, tmp_path, monkeypatch):
    load(photos, cache=str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "write_stack", None)
    assert len(load(photos, cache=str(tmp_path / "cache")).train) == 16


def test_a_changed_file_costs_its_own_shard(photos, tmp_path):
    load(photos, cache=str(tmp_path / "cache"))
    before = shards(tmp_path / "cache")
    Image.fromarray(255 - np.asarray(Image.open(photos / "b/17.png"))).save(photos / "b/17.png")
    os.utime(photos / "b/17.png", ns=(0, 10**18))  # as coarse clocks may not show
    assert same(load(photos, cache=str(tmp_path / "cache")), load(photos, cache="none"))
    after = shards(tmp_path / "cache")
    assert len(before) == len(after) == 5
    assert len(before.items() & after.items()) == 4


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_shard_is_made_again(photos, tmp_path, damage):
    load(photos, cache=str(tmp_path / "cache"))
    path = next((tmp_path / "cache").rglob("*.npy"))
    path.unlink() if damage == "gone" else os.truncate(path, path.stat().st_size // 2)
    assert same(load(photos, cache=str(tmp_path / "cache")), load(photos, cache="none"))


def test_killed_while_it_is_made_it_is_finished_later(photos, tmp_path):
    root = tmp_path / "cache"

    def killed() -> None:
        write = cache.write_stack
        made = []

        def at_the_third(files, path, read):
            if len(made) == 2:
                path.with_name(f".{path.name}.1.tmp~.npy").write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            made.append(path)
            return write(files, path, read)

        cache.write_stack = at_the_third
        load(photos, cache=str(root))

    assert in_child(killed, tmp_path / "log") == -signal.SIGKILL, (tmp_path / "log").read_text()
    before = shards(root)
    assert len(before) == 3  # with the half of one
    assert same(load(photos, cache=str(root)), load(photos, cache="none"))
    after = shards(root)
    assert len(after) == 5
    assert len(before.items() & after.items()) == 2


def test_two_at_once_make_it_once(photos, tmp_path, monkeypatch, capsys):
    root, write = tmp_path / "cache", cache.write_stack
    made, waits = [], threading.Event()

    def counted(files, path, read):
        waits.wait(5)  # until the second one has met the lock
        made.append(path)
        return write(files, path, read)

    monkeypatch.setattr(cache, "write_stack", counted)
    monkeypatch.setattr(cache, "warn", lambda text: (said.append(text), waits.set()))
    said: list[str] = []
    found: list[Dataset] = []
    threads = [
        threading.Thread(target=lambda: found.append(load(photos, cache=str(root))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(shards(root)) == 5
    assert said == ["another process is decoding the same images: waiting for it"]
    assert same(*found)


def test_a_full_disk_is_refused_in_one_line(photos, tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(OSError, match=r"take .* MiB, and the disk .* --data-cache") as caught:
        load(photos, cache=str(tmp_path / "cache"))
    assert "\n" not in str(caught.value)
    assert not shards(tmp_path / "cache")
    # Where nobody asked for a cache, there is none.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert same(load(photos), load(photos, cache="none"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "no cache, so the images are decoded at every start" in line


def test_a_disk_that_fills_up_is_an_error_and_leaves_no_half_shard(photos, tmp_path):
    def starved() -> None:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (250, hard))
        with pytest.raises(OSError, match="File too large"):
            load(photos, cache=str(tmp_path / "cache"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    assert in_child(starved, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert not shards(tmp_path / "cache")
    assert same(load(photos, cache=str(tmp_path / "cache")), load(photos, cache="none"))


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


def test_a_run_from_the_cache_is_a_run_from_memory(photos, tmp_path):
    def run(name: str, steps: int, resume: bool = False, **data) -> dict[str, torch.Tensor]:
        recipe = ImageRecipe(
            ImageModel(scales=1, hidden=4, blocks=1),
            DataConfig(source=str(photos), flip=True, shift=1, condition="label", **data),
            TrainingConfig(
                steps=steps, batch_size=5, warmup=2, num_validations=2, precision="float32",
                calibration=0,
            ),
        )  # fmt: skip
        result = train(recipe, tmp_path / name, quiet=True, resume=resume)
        return result.flow.state_dict()

    def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(value, two[name]) for name, value in one.items())

    root = str(tmp_path / "cache")
    run("memory", 3, cache="none")
    assert equal(run("mapped", 3, cache=root), run("memory", 3, True, cache="none"))
    known = run("memory", 6, True, cache="none")
    assert equal(run("mapped", 6, True, cache=root), known)
    assert not equal(run("other", 6, cache=root), known)  # that of another budget
