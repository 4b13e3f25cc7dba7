r"""The power spectrum of an image, which does not depend on any model.

A likelihood is a sum over all pixels. An image that is smoother than ordinary ones in one octave
and rougher in another has an ordinary likelihood, but not an ordinary power spectrum: a few bands,
of brightness and of the differences of colors, separate blurred, resized and recompressed images
from others. (The spectra of natural images are alike: Field 1987.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["power_spectrum"]

BANDS = (0.0, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0)
"""Lower ends of the bands, in shares of the highest frequency of a row; the last one is open."""

ROUNDING = 1 / 12
"""Power of the rounding to integer grey levels, which is in every coefficient."""


def power_spectrum(x: Tensor) -> dict[str, Tensor]:
    r"""Return the logarithm of the power in bands of frequencies.

    For each plane, the brightness (the mean over the channels) and the differences of neighboring
    channels, ``spectrum_PLANE_BAND`` is

    .. math:: \log\left(\tfrac{1}{12} + \operatorname{mean}_{r_B \le r < r_{B + 1}} f^2\right),

    with the coefficients :math:`f` of the orthonormal discrete cosine transform, without that of
    the mean; :math:`r` is their radial frequency. Bands without a coefficient, of small images, are
    left out.

    Args:
        x: ``(B, C, H, W)`` integers.

    Returns:
        statistics by name, each ``(B,)``, in float64.

    >>> flat, noise = torch.full((1, 1, 16, 16), 9), torch.randint(256, (1, 1, 16, 16))
    >>> found = power_spectrum(torch.cat([flat, noise]))
    >>> bool(found["spectrum_0_6"][1] > found["spectrum_0_6"][0] + 5)
    True
    """
    values = x.detach().cpu().double()
    planes = torch.cat([values.mean(1, keepdim=True), values.diff(dim=1)], dim=1)
    height, width = x.shape[2:]
    power = (_cosines(height) @ planes @ _cosines(width).T).square()
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    frequency = torch.hypot(rows[:, None], columns)
    band = torch.bucketize(frequency, torch.tensor(BANDS), right=True) - 1
    band[0, 0] = -1
    found = {}
    for index in range(len(BANDS)):
        inside = band == index
        if inside.any():
            for plane, mean in enumerate(power[:, :, inside].mean(2).unbind(1)):
                found[f"spectrum_{plane}_{index}"] = (mean + ROUNDING).log()
    return found


def _cosines(size: int) -> Tensor:
    """Return the matrix of the orthonormal discrete cosine transform (DCT-II), ``(size, size)``."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * k[:, None] * (k + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix
