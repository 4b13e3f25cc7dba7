"""Small flows and images, and a flow that is exactly uniform."""

from __future__ import annotations

import math

import torch

import realnvp
from helpers.bijections import randomize
from realnvp import image_flow


def small_image_flow(**options):
    options = {"levels": 17, "hidden": 4, "blocks": 1, **options}
    return randomize(image_flow((1, 8, 8), **options)).eval()


def mild_image_flow(**options):
    """Return a flow near the identity, whose latents of noise are within the table's range."""
    flow = image_flow((1, 8, 8), **{"levels": 17, "hidden": 4, "blocks": 1, **options})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in flow.state_dict(keep_vars=True).items():
            if name.endswith("initialized"):
                tensor.fill_(True)
            elif tensor.is_floating_point() and "running_var" not in name:
                tensor += 0.03 * torch.randn(tensor.shape, generator=generator)
    return flow.eval()


def small_images(n: int = 6, levels: int = 17) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, levels, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)


class UniformToNormal(realnvp.Bijection):
    """The quantile function of the normal: makes a flow exactly uniform on the unit cube."""

    def forward(self, x, condition=None):
        z = torch.special.ndtri(x.clamp(1e-12, 1 - 1e-12))
        return z, (0.5 * z.square() + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def inverse(self, z, condition=None):
        return torch.special.ndtr(z), -(0.5 * z.square() + 0.5 * math.log(2 * math.pi)).flatten(
            1
        ).sum(1)
