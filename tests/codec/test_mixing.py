"""Context mixing: exact, small, and the same on every machine."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from realnvp.codec.mixing import SQUASH, STRETCH, mix, unmix


@pytest.mark.parametrize("levels", [2, 17, 256, 1000, 65536])
@pytest.mark.parametrize("kind", ["noise", "ramp", "zeros", "full"])
def test_images_come_back(levels, kind):
    x = np.random.default_rng(0).integers(0, levels, (2, 3, 4, 5))
    if kind == "ramp":
        x = np.broadcast_to(np.arange(5) * levels // 5, (2, 3, 4, 5)).copy()
    elif kind != "noise":
        x[:] = 0 if kind == "zeros" else levels - 1
    before = x.copy()
    assert np.array_equal(unmix(mix(x, levels), x.shape, levels), before)
    assert np.array_equal(x, before)


def test_smooth_images_take_a_fraction_and_noise_no_more_than_itself():
    ramp = (np.arange(24)[:, None] + np.arange(24))[None, None] * 5
    assert len(mix(ramp, 256)) < ramp.size / 3
    noise = np.random.default_rng(0).integers(0, 256, (1, 1, 24, 24))
    assert len(mix(noise, 256)) < 1.1 * noise.size


def test_values_beyond_the_levels_are_refused():
    data = mix(np.full((1, 1, 4, 4), 255), 256)
    with pytest.raises(ValueError, match="damaged"):
        unmix(data, (1, 1, 4, 4), 200)


def test_the_bytes_never_change():
    # files depend on it: a change needs a new version of the format
    x = np.arange(200).reshape(2, 1, 10, 10) ** 2 % 97
    assert zlib.crc32(mix(x, 97)) == 945984406
    assert sorted(STRETCH) == STRETCH
    assert len(SQUASH) == 33
