r"""Explore the latents: interpolate between examples, and resample the finer scales.

Both follow the paper's figures (arXiv 1605.08803, section 4.2 and
appendices B and D).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from realnvp.flow import Flow

__all__ = ["interpolate", "levels"]


def interpolate(
    flow: Flow,
    corners: Tensor,
    steps: int = 8,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Decode a square of the latent space between four examples (paper, equation 19).

    .. math:: z = \cos\phi\,(\cos\phi'\,z_1 + \sin\phi'\,z_2)
        + \sin\phi\,(\cos\phi'\,z_3 + \sin\phi'\,z_4)

    for angles from 0 to :math:`\pi / 2`, which keeps latents as far from the origin as those of
    data are.

    Args:
        flow: flow to decode with.
        corners: four examples ``(4, *shape)``, at the square's top left, top right, bottom left
            and bottom right.
        steps: number of examples along each side.
        condition: condition of the examples, if the flow is conditional; all decode with the first.
        generator: source of the examples' dequantization noise.

    Returns:
        ``(steps * steps, *shape)``, row by row.
    """
    if len(corners) != 4:
        raise ValueError(f"interpolation needs four examples, got {len(corners)}")
    if steps < 2:
        raise ValueError(f"interpolation needs 2 steps or more, got {steps}")
    with torch.no_grad():
        z = flow.encode(corners, condition, generator)
        angles = torch.linspace(0, math.pi / 2, steps, dtype=z.dtype, device=z.device)
        down, right = (a.flatten() for a in torch.meshgrid(angles, angles, indexing="ij"))
        weights = torch.stack(
            (down.cos() * right.cos(), down.cos() * right.sin(),
             down.sin() * right.cos(), down.sin() * right.sin()), dim=1
        )  # fmt: skip
        mixed = (weights @ z.flatten(1)).view(-1, *flow.shape)
        if condition is not None:
            condition = condition[:1].expand(len(mixed), *condition.shape[1:])
        return flow.decode(mixed, condition)


def levels(
    flow: Flow, x: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Decode images with the latents of their finer scales resampled (paper, appendix D).

    Args:
        flow: flow to decode with.
        x: images ``(B, *shape)``.
        condition: condition of the images, if the flow is conditional.
        generator: source of the dequantization noise and the new latents.

    Returns:
        ``(S, B, *shape)`` for S scales: first all latents kept, which is the images themselves,
        last only those of the coarsest scale.
    """
    with torch.no_grad():
        z = flow.encode(x, condition, generator)
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
        scales = flow.latent_scales().to(z.device)
        kept = [torch.where(scales >= scale, z, noise) for scale in range(int(scales.max()) + 1)]
        return torch.stack([flow.decode(part, condition) for part in kept])
