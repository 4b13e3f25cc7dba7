"""Random numbers that are functions of a seed, a stream and a position."""

from __future__ import annotations

import itertools

import pytest
import torch

from realnvp.utils.rng import Stream, normal_of, seed_of, uniform


def test_streams_are_distinct():
    assert len({stream.value for stream in Stream}) == len(Stream.__members__)
    seeds = {seed_of(0, stream, step) for stream in Stream for step in range(100)}
    assert len(seeds) == 100 * len(Stream)


def test_the_number_of_arguments_is_part_of_the_seed():
    """``SeedSequence`` alone pads with zeros."""
    assert seed_of(0, 3, 7) != seed_of(0, 3, 7, 0)
    assert seed_of(0) != seed_of(0, 0)
    seeds = [seed_of(*n) for k in range(1, 5) for n in itertools.product((0, 1, 2**32), repeat=k)]
    assert len(set(seeds)) == len(seeds)


def test_seeds_do_not_change():
    """A resumed run draws what it would have drawn, with a later version as well."""
    assert seed_of(0, Stream.NOISE, 7) == 15469505999438077500


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="0 or more, got -1"):
        seed_of(0, -1)


@pytest.mark.parametrize(("start", "count"), [(0, 1), (31, 2), (40, 100), (64, 32), (5, 0)])
def test_noise_belongs_to_the_example(start: int, count: int):
    whole = uniform([3], 0, 200, [2, 3])
    part = uniform([3], start, count, [2, 3])
    assert torch.equal(part, whole[start : start + count])
    assert not torch.equal(whole, uniform([4], 0, 200, [2, 3]))


def test_uniform_numbers_are_uniform():
    u = uniform([0], 0, 1000, [10], torch.float64)
    assert u.dtype == torch.float64
    assert u.min() >= 0
    assert u.max() < 1
    counts = torch.histc(u, 10, 0, 1)
    assert ((counts - 1000).square() / 1000).sum() < 30  # chi squared of 9: 30 is at 4e-4


def test_normal_quantiles_are_finite_everywhere():
    u = torch.cat((torch.tensor([0.0, 1.0]), torch.linspace(0, 1, 100_001)))
    z = normal_of(u)
    assert torch.isfinite(z).all()
    assert z[2:].std().item() == pytest.approx(1, abs=1e-3)
    assert normal_of(torch.tensor(0.5)) == 0
