"""Batches: every example once in an epoch, the same for a step however it was reached."""

from __future__ import annotations

import threading
from itertools import product
from typing import cast

import pytest
import torch

from realnvp.data import Split
from realnvp.data.batches import Batches, Prefetcher, to_device
from realnvp.data.stored_images import StoredImages
from realnvp.utils.weights import draw_weighted


def test_batches_are_an_epoch_without_repeats():
    split = Split(torch.arange(10)[:, None])
    batches = Batches(split, 3, seed=0, flip=False)
    assert batches.per_epoch == pytest.approx(10 / 3)
    seen = torch.cat([batches.get(step)[0] for step in range(10)]).flatten()
    for epoch in range(3):  # nothing is dropped, and nothing comes twice
        assert len(seen[10 * epoch : 10 * epoch + 10].unique()) == 10
    for world_size in (1, 2, 3):
        parts = [batches.get(4, rank, world_size)[0] for rank in range(world_size)]
        assert torch.equal(torch.cat(parts), batches.get(4)[0])
    assert torch.equal(Batches(split, 3, seed=0, flip=False).get(4)[0], batches.get(4)[0])


def test_flips_are_half_of_the_images():
    image = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4).expand(1000, 1, 1, 4)
    batches = Batches(Split(image), 1000, seed=0, flip=True)
    x, _ = batches.get(0)
    parts = [batches.get(0, rank, 3)[0] for rank in range(3)]
    assert torch.equal(torch.cat(parts), x)
    flipped = (x[:, 0, 0, 0] == 3).float().mean().item()
    assert flipped == pytest.approx(0.5, abs=0.06)
    assert ((x[:, 0, 0] == image[0, 0, 0]).all(1) | (x[:, 0, 0, 0] == 3)).all()


def test_half_of_the_images_move():
    image = torch.arange(1, 21, dtype=torch.uint8).view(1, 1, 4, 5).expand(2000, 1, 4, 5)
    batches = Batches(Split(image), 2000, seed=0, shift=1)
    x, _ = batches.get(0)
    parts = [batches.get(0, rank, 3)[0] for rank in range(3)]
    assert torch.equal(torch.cat(parts), x)
    rows = torch.tensor([[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 3]])
    columns = torch.tensor([[0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4]])
    shares = {}
    for (i, down), (j, right) in product(enumerate(rows), enumerate(columns)):
        expected = image[0][:, down][:, :, right]
        shares[i, j] = (x == expected).all((1, 2, 3)).float().mean().item()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares.pop((1, 1)) == pytest.approx(1 / 2 + 1 / 18, abs=0.05)
    assert list(shares.values()) == pytest.approx([1 / 18] * 8, abs=0.03)


def test_weights_are_how_often_an_example_comes():
    weight = torch.tensor([1.0, 2.0, 5.0, 0.0]).repeat_interleave(25)
    split = Split(torch.arange(100)[:, None], weight=weight)
    batches = Batches(split, 100, seed=0)
    counts = torch.zeros(100)
    for epoch in range(40):
        counts += batches.indices(epoch).bincount(minlength=100)
    assert counts.view(4, 25).sum(1).tolist() == pytest.approx([500, 1000, 2500, 0], rel=0.05)
    assert torch.equal(
        draw_weighted(torch.ones(7), torch.Generator().manual_seed(0)), torch.arange(7)
    )


class Recorded(StoredImages):
    """Images in files that note which thread read them."""

    threads: list[str]

    def __getitem__(self, index):
        self.threads.append(threading.current_thread().name)
        return super().__getitem__(index)


@pytest.mark.parametrize("world_size", [1, 3])
def test_batches_that_are_read_ahead_are_those_from_memory(world_size):
    x = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    stored = Recorded([x[:20].numpy(), x[20:].numpy()], "key")
    stored.threads = []
    condition = torch.arange(50)
    options = {"batch_size": 16, "seed": 3, "flip": True, "shift": 1}
    known = Batches(Split(x, condition), **options)
    cpu = torch.device("cpu")
    for rank in range(world_size):
        found = Batches(Split(cast("torch.Tensor", stored), condition), **options, device=cpu)
        # in order, once more, forth and back, as after a failed step or in a resumed run
        for step in [0, 1, 2, 3, 4, 4, 2, 3, 40, 41, 0]:
            for one, two in zip(
                known.get(step, rank, world_size), found.get(step, rank, world_size), strict=True
            ):
                assert torch.equal(one, two)
    assert set(stored.threads) == {"ahead_0"}


def test_the_next_batch_is_read_before_it_is_asked_for():
    called: list[int] = []
    ready = threading.Event()

    def read(step: int) -> int:
        called.append(step)
        if step == 8:
            ready.set()
        if step == 10:
            raise OSError("gone")
        return step

    ahead = Prefetcher(read)
    assert ahead(7) == 7
    assert ready.wait(10)
    assert (ahead(8), ahead(9)) == (8, 9)
    assert called[:2] == [7, 8]
    with pytest.raises(OSError, match="gone"):
        ahead(10)
    assert ahead(11) == 11


def test_a_split_moves_whole():
    split = Split(torch.ones(3, 2), torch.arange(3), torch.arange(3), torch.ones(3))
    moved = to_device(split, torch.device("meta"))
    assert moved.x.is_meta
    assert moved.condition.is_meta
    assert moved.weight.is_meta
