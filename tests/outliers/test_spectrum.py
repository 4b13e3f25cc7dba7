"""The power spectrum of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torchvision.transforms.v2.functional import gaussian_blur

from realnvp.outliers.spectrum import BANDS, ROUNDING, _cosines, power_spectrum


def images(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def test_the_transform_is_the_orthonormal_one_of_scipy():
    x = images(2, 1, 6, 9).double()
    ours = _cosines(6) @ x @ _cosines(9).T
    assert np.allclose(ours.numpy(), dctn(x.numpy(), axes=(2, 3), norm="ortho"))


def test_the_bands_together_hold_the_variance():
    x = images(3, 3, 16, 16)
    found = power_spectrum(x)
    assert {name.split("_")[1] for name in found} == {"0", "1", "2"}  # brightness, two differences
    frequency = np.hypot(*np.meshgrid(np.arange(16) / 16, np.arange(16) / 16))
    total = torch.zeros(3, dtype=torch.float64)
    for i, (low, high) in enumerate(zip(BANDS, (*BANDS[1:], np.inf), strict=True)):
        count = int(((frequency >= low) & (frequency < high)).sum()) - (i == 0)
        if count:
            total += count * (found[f"spectrum_0_{i}"].exp() - ROUNDING)
    assert torch.allclose(total, x.double().mean(1).var((1, 2), correction=0) * 256)


def test_a_blurred_image_has_less_of_high_frequencies_and_a_gray_one_no_color():
    x = images(1, 3, 16, 16)
    sharp, blurred = power_spectrum(x), power_spectrum(gaussian_blur(x, [5, 5], [1.0, 1.0]))
    assert blurred["spectrum_0_8"] < sharp["spectrum_0_8"] - 2
    gray = power_spectrum(x[:, :1].expand(1, 3, 16, 16))
    assert gray["spectrum_1_5"].item() == pytest.approx(np.log(ROUNDING))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 4), (2, 5, 3)])
def test_small_images_have_what_they_can_have(shape):
    found = power_spectrum(images(2, *shape))
    assert all(t.shape == (2,) and t.isfinite().all() for t in found.values())
