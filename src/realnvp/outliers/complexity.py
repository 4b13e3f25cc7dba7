r"""The complexity of an image: its size in a lossless codec.

The likelihood of an image depends both on how unusual and on how complex it is: a flat image is
likely under any model. The size of the image in a general codec measures its complexity alone, and
:math:`S(x) = \text{bits/dim}(x) - \text{codec bits/dim}(x)` the part beyond it (Serra et al., arXiv
1909.11480, section 3).
"""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["png_bits_per_dim"]


def png_bits_per_dim(x: Tensor, levels: int = 256) -> Tensor:
    r"""Return the size of each image as an optimized PNG, in bits/dim.

    Only the compressed pixels count, not the header, whose size is the same for all images. The
    codec is fixed, because sizes in two codecs cannot be compared: a calibration with one cannot be
    used with another.

    Args:
        x: ``(B, C, H, W)`` integers, 0 to ``levels - 1``.
        levels: number of grey levels; beyond 256, the two bytes of a value are two images.

    Returns:
        ``(B,)``, float64.

    >>> flat, noise = torch.zeros(1, 1, 16, 16), torch.randint(256, (1, 1, 16, 16))
    >>> sizes = png_bits_per_dim(torch.cat([flat.long(), noise]))
    >>> bool(sizes[0] < 1) and bool(sizes[1] > 8)
    True
    """
    x = x.detach().cpu()
    if levels > 256:
        parts = [x.long() // 256, x.long() % 256]
        high, low = (png_bits_per_dim(part, 256) for part in parts)
        return high + low
    images = x.to(torch.uint8)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # zlib releases the GIL
        sizes = list(pool.map(_png_bytes, images.unbind(0)))
    return torch.tensor(sizes, dtype=torch.float64) * 8 / math.prod(x.shape[1:])


def _png_bytes(image: Tensor) -> int:
    """Return the number of bytes of an image's compressed pixels; channels are rows if not 3."""
    from PIL import Image

    channels, height, width = image.shape
    if channels == 3:
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    else:
        picture = Image.fromarray(image.reshape(channels * height, width).numpy())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _data_bytes(buffer.getvalue())


def _data_bytes(content: bytes) -> int:
    """Return the size of the IDAT chunks of a PNG file (its specification, section 5)."""
    position, total = 8, 0
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] == b"IDAT":
            total += length
        position += length + 12
    return total
