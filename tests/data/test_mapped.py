"""Rows of images in mapped files are those of the tensor that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from realnvp.data import Split
from realnvp.data.mapped import MappedImages

RNG = np.random.default_rng(0)
SHARDS = [
    RNG.integers(0, 256, (5, 1, 4, 6), dtype=np.uint8),
    RNG.integers(0, 256, (3, 3, 4, 6), dtype=np.uint8),
    RNG.integers(0, 256, (2, 1, 4, 6), dtype=np.uint8),
]
WHOLE = torch.cat([torch.from_numpy(shard).expand(-1, 3, -1, -1) for shard in SHARDS])


@pytest.mark.parametrize(
    "index", [slice(2, 7), slice(None), torch.tensor([9, 0, 6, 6]), torch.arange(0), -1, 3]
)
def test_indexing_reads_the_rows_asked_for(index):
    assert torch.equal(MappedImages(SHARDS, "key")[index], WHOLE[index])


def test_a_choice_of_a_choice_is_not_read_before_it_is_asked_for():
    first, then = torch.tensor([8, 1, 4, 5]), torch.tensor([3, 0])
    some = MappedImages(SHARDS, "key").take(first).take(then)
    assert torch.equal(some.cpu(), WHOLE[first][then])
    assert some.max() == WHOLE[first][then].max()
    assert some.nbytes == some.numel() == 2 * 3 * 4 * 6


def test_a_split_of_them_has_the_fingerprint_of_the_tensor(tmp_path):
    labels = torch.arange(10) % 3
    chosen = torch.tensor([7, 0, 2])
    split = Split(MappedImages(SHARDS, "key", tmp_path / "f.json"), labels=labels).select(chosen)
    known = Split(WHOLE, labels=labels).select(chosen)
    assert split.fingerprint == known.fingerprint
    again = Split(MappedImages([shard * 0 for shard in SHARDS], "key", tmp_path / "f.json"))
    again = Split(again.x, labels=labels).select(chosen)
    assert again.fingerprint == known.fingerprint  # remembered by the name of the content
    other = Split(MappedImages(SHARDS, "other", tmp_path / "f.json"), labels=labels)
    assert other.select(chosen.flip(0)).fingerprint != known.fingerprint
