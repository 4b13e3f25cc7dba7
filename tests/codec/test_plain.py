"""The plain code: exact for any levels, and bounded."""

from __future__ import annotations

import pytest
import torch

from realnvp.codec.plain import pack_plain, unpack_plain


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
    data = pack_plain(x, levels)
    assert torch.equal(unpack_plain(data, tuple(x.shape), levels), x)
    assert len(data) <= x.numel() * (1 if levels <= 256 else 2) * 1.1 + 16


def test_what_was_written_once_is_read():
    # files depend on it: a change needs a new version of the format
    data = bytes.fromhex("00000000555a1aea427c332c1f5354ce52a6014b8102ba7bfffff4d84000")
    x = torch.arange(60).view(1, 2, 6, 5) ** 2 % 17
    assert torch.equal(unpack_plain(data, (1, 2, 6, 5), 17), x)


def test_a_bomb_and_damage_are_refused():
    data = pack_plain(torch.zeros(100, 1, 100, 100, dtype=torch.int64), 256)
    with pytest.raises(ValueError, match="damaged"):
        unpack_plain(data, (1, 1, 8, 8), 256)
    for first in (b"", b"\x03", b"\x00", data[:-9]):
        with pytest.raises(ValueError, match="damaged"):
            unpack_plain(first, (1, 1, 8, 8), 256)
    with pytest.raises(ValueError, match="damaged"):
        unpack_plain(b"\x00" + b"\xff" * 20, (1, 1, 8, 8), 256)
