"""Rows of images in files are those of the tensor that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from realnvp.data import Split
from realnvp.data.stored_images import ArrayFile, StoredImages

RNG = np.random.default_rng(0)
SHARDS = [
    RNG.integers(0, 256, (5, 1, 4, 6), dtype=np.uint8),
    RNG.integers(0, 256, (3, 3, 4, 6), dtype=np.uint8),
    RNG.integers(0, 256, (2, 1, 4, 6), dtype=np.uint8),
]
WHOLE = torch.cat([torch.from_numpy(shard).expand(-1, 3, -1, -1) for shard in SHARDS])


@pytest.fixture
def files(tmp_path):
    """Return the shards as files."""
    for i, shard in enumerate(SHARDS):
        np.save(tmp_path / f"{i}.npy", shard)
    return [ArrayFile(tmp_path / f"{i}.npy") for i in range(len(SHARDS))]


INDICES = [slice(2, 7), slice(None), torch.tensor([9, 0, 6, 6, 5, 4, 8, 9]), torch.arange(0), -1, 3]


@pytest.mark.parametrize("index", INDICES)
def test_indexing_reads_the_rows_asked_for(index, files):
    assert torch.equal(StoredImages(SHARDS, "key")[index], WHOLE[index])
    assert torch.equal(StoredImages(files, "key")[index], WHOLE[index])


def test_a_file_that_is_removed_stays_and_one_that_is_cut_is_an_error(files, tmp_path):
    images = StoredImages(files, "key")
    (tmp_path / "0.npy").unlink()
    assert torch.equal(images[:], WHOLE)
    with (tmp_path / "1.npy").open("r+b") as file:
        file.truncate(200)
    assert torch.equal(images[:6], WHOLE[:6])
    with pytest.raises(OSError, match=r"1\.npy was truncated .* start again"):
        images[:8]


def test_only_arrays_of_bytes_are_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="not an array of bytes"):
        ArrayFile(tmp_path / "a.npy")


def test_a_choice_of_a_choice_is_not_read_before_it_is_asked_for():
    first, then = torch.tensor([8, 1, 4, 5]), torch.tensor([3, 0])
    some = StoredImages(SHARDS, "key").take(first).take(then)
    assert torch.equal(some.cpu(), WHOLE[first][then])
    assert some.max() == WHOLE[first][then].max()
    assert some.numel() == 2 * 3 * 4 * 6


def test_a_split_of_them_has_the_fingerprint_of_the_tensor(tmp_path):
    labels = torch.arange(10) % 3
    chosen = torch.tensor([7, 0, 2])
    split = Split(StoredImages(SHARDS, "key", tmp_path / "f.json"), labels=labels).select(chosen)
    known = Split(WHOLE, labels=labels).select(chosen)
    assert split.fingerprint == known.fingerprint
    again = Split(StoredImages([shard * 0 for shard in SHARDS], "key", tmp_path / "f.json"))
    again = Split(again.x, labels=labels).select(chosen)
    assert again.fingerprint == known.fingerprint  # remembered by the name of the content
    other = Split(StoredImages(SHARDS, "other", tmp_path / "f.json"), labels=labels)
    assert other.select(chosen.flip(0)).fingerprint != known.fingerprint
