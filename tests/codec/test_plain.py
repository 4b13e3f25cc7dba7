"""The plain code: exact for any levels, and bounded."""

from __future__ import annotations

import pytest
import torch

from realnvp.codec.mixing import primed
from realnvp.codec.plain import deflate, pack_plain, unpack_plain


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
@pytest.mark.parametrize("kind", ["noise", "rows", "columns", "constant"])
def test_images_come_back(levels, kind):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, levels, (3, 2, 6, 5), generator=generator)
    if kind == "rows":
        x = x[:, :, :1].expand(-1, -1, 6, -1).contiguous()
    elif kind == "columns":
        x = x[..., :1].expand(-1, -1, -1, 5).contiguous()
    elif kind == "constant":
        x = torch.full_like(x, levels - 1)
    for pack in (deflate, pack_plain):
        assert torch.equal(unpack_plain(pack(x, levels), tuple(x.shape), levels), x)
    assert len(pack_plain(x, levels)) <= len(deflate(x, levels))


def test_a_code_that_has_learned_takes_fewer_bytes_if_images_are_alike():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 17, (2, 1, 8, 8), generator=generator)
    learned, x = primed(images.numpy(), 17), images[1:]
    for own, smaller in ((x, True), (torch.zeros_like(x), False)):
        data = pack_plain(own, 17, learned)
        assert (len(data) < len(pack_plain(own, 17))) == smaller
        assert torch.equal(unpack_plain(data, tuple(own.shape), 17, learned), own)
    with pytest.raises(ValueError, match="damaged"):
        unpack_plain(pack_plain(x, 17, learned), tuple(x.shape), 17)


def test_a_bomb_and_damage_are_refused():
    data = pack_plain(torch.zeros(100, 1, 100, 100, dtype=torch.int64), 256)
    with pytest.raises(ValueError, match="damaged"):
        unpack_plain(data, (1, 1, 8, 8), 256)
    with pytest.raises(ValueError, match="damaged"):
        unpack_plain(b"\x03", (1, 1, 200, 200), 256)  # this code is for few images
    for first in (b"", b"\x04", b"\x05"):
        with pytest.raises(ValueError, match="damaged"):
            unpack_plain(first, (1, 1, 8, 8), 256)
    with pytest.raises(ValueError, match="damaged"):
        unpack_plain(b"\x00" + b"\xff" * 20, (1, 1, 8, 8), 256)
