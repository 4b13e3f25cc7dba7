r"""Explore the latents: interpolate between examples, and resample the finer scales.

Both follow the paper's figures (arXiv 1605.08803, section 4.2 and appendices B and D).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from realnvp.flow import Flow

__all__ = ["interpolate", "levels", "resample", "walk"]

FRAMES = 4
"""Number of examples that are decoded per batch where progress is reported."""


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
        condition: condition of the examples, if the flow is conditional; without labels, a
            class-conditional flow takes those of :meth:`~realnvp.Flow.classify`. What lies between
            examples has the mean of their conditions with the squares of these weights, which add
            up to 1.
        generator: source of the examples' dequantization noise.

    Returns:
        ``(steps * steps, *shape)``, row by row.
    """
    if len(corners) != 4:
        raise ValueError(f"interpolation needs four examples, got {len(corners)}")
    if steps < 2:
        raise ValueError(f"interpolation needs 2 steps or more, got {steps}")
    with torch.no_grad():
        condition = _vectors(flow, corners, condition, generator)
        z = flow.encode(corners, condition, generator)
        angles = torch.linspace(0, math.pi / 2, steps, dtype=z.dtype, device=z.device)
        down, right = (a.flatten() for a in torch.meshgrid(angles, angles, indexing="ij"))
        weights = torch.stack(
            (down.cos() * right.cos(), down.cos() * right.sin(),
             down.sin() * right.cos(), down.sin() * right.sin()), dim=1
        )  # fmt: skip
        mixed = (weights @ z.flatten(1)).view(-1, *flow.shape)
        if condition is not None:
            condition = weights.square().to(condition.dtype) @ condition
        return flow.decode(mixed, condition)


def _vectors(
    flow: Flow, x: Tensor, condition: Tensor | None, generator: torch.Generator | None
) -> Tensor | None:
    """Return the condition of examples as vectors, which have means: labels one-hot."""
    if flow.classes is None:
        # Means of integers, and the weights of these means, would be rounded to integers.
        integers = isinstance(condition, Tensor) and not condition.is_floating_point()
        return condition.to(flow.dtype) if integers else condition  # type: ignore[union-attr]
    if condition is None:
        condition = flow.classify(x, generator)
    return flow.as_condition(condition, len(x))


def levels(
    flow: Flow, x: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Decode images with the latents of their finer scales resampled (paper, appendix D).

    Args:
        flow: flow to decode with.
        x: images ``(B, *shape)``.
        condition: condition of the images, if the flow is conditional; without labels, a
            class-conditional flow takes those of :meth:`~realnvp.Flow.classify`.
        generator: source of the dequantization noise and the new latents.

    Returns:
        ``(S, B, *shape)`` for S scales: first all latents kept, which is the images themselves,
        last only those of the coarsest scale.
    """
    with torch.no_grad():
        condition = _vectors(flow, x, condition, generator)
        z = flow.encode(x, condition, generator)
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
        scales = flow.latent_scales().to(z.device)
        kept = [torch.where(scales >= scale, z, noise) for scale in range(int(scales.max()) + 1)]
        return torch.stack([flow.decode(part, condition) for part in kept])


def walk(
    flow: Flow,
    stops: Tensor,
    steps: int = 8,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    r"""Decode a path through the latents of several examples, from one to the next.

    Between two of them it is a side of :func:`interpolate`'s square,
    :math:`z = \cos\phi\,z_i + \sin\phi\,z_{i+1}`.

    Args:
        flow: flow to decode with.
        stops: two examples or more, ``(K, *shape)``.
        steps: number of examples from one stop to just before the next.
        condition: as in :func:`interpolate`.
        generator: source of the examples' dequantization noise.
        progress: called with the number of examples that are decoded, and the total.

    Returns:
        ``((K - 1) * steps + 1, *shape)``: the stops are at every multiple of ``steps``.

    >>> from realnvp import vector_flow
    >>> walk(vector_flow(2).eval(), torch.eye(2), steps=4).shape
    torch.Size([5, 2])
    """
    if len(stops) < 2:
        raise ValueError(f"a path needs two examples or more, got {len(stops)}")
    if steps < 1:
        raise ValueError(f"a path needs 1 step or more between examples, got {steps}")
    with torch.no_grad():
        condition = _vectors(flow, stops, condition, generator)
        z = flow.encode(stops, condition, generator)
        angles = torch.arange(steps, dtype=z.dtype, device=z.device) * (math.pi / 2 / steps)
        shape = (steps, *[1] * len(flow.shape))
        near, far = angles.cos().view(shape), angles.sin().view(shape)
        parts = [near * a + far * b for a, b in itertools.pairwise(z)]
        path = torch.cat([*parts, z[-1:]])
        if condition is not None:
            share = angles.sin().square().to(condition.dtype)[:, None]
            between = [torch.lerp(a, b, share) for a, b in itertools.pairwise(condition)]
            condition = torch.cat([*between, condition[-1:]])
        return _decoded(flow, path, condition, progress)


def resample(
    flow: Flow,
    x: Tensor,
    amounts: Sequence[float],
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    r"""Decode images with some of their latents resampled, by scale (paper, appendix D).

    The latents of scale s become :math:`\sqrt{1 - a_s^2}\,z + a_s\,\epsilon` with
    standard normal :math:`\epsilon`, which have the variance of :math:`z`.

    Args:
        flow: flow to decode with.
        x: images ``(B, *shape)``.
        amounts: for each scale, the finest first, from 0 (keep) to 1 (resample).
        condition: as in :func:`levels`.
        generator: source of the dequantization noise and the new latents.
        progress: called with the number of images that are decoded, and the total.

    Returns:
        ``(B, *shape)``.

    Raises:
        ValueError: if there are not as many amounts as scales, or one is not in [0, 1].
    """
    scales = flow.latent_scales().to(flow.device)
    count = int(scales.max()) + 1
    if len(amounts) != count or not all(0 <= amount <= 1 for amount in amounts):
        raise ValueError(f"resampling needs {count} amounts from 0 to 1, got {list(amounts)}")
    with torch.no_grad():
        condition = _vectors(flow, x, condition, generator)
        z = flow.encode(x, condition, generator)
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
        amount = torch.tensor(amounts, dtype=z.dtype, device=z.device)[scales]
        mixed = (1 - amount.square()).sqrt() * z + amount * noise
        return _decoded(flow, mixed, condition, progress)


def _decoded(
    flow: Flow,
    z: Tensor,
    condition: Tensor | None,
    progress: Callable[[int, int], None] | None,
) -> Tensor:
    """Decode a few latents at a time, and report how many are done."""
    parts = []
    for start in range(0, len(z), FRAMES):
        given = None if condition is None else condition[start : start + FRAMES]
        parts.append(flow.decode(z[start : start + FRAMES], given))
        if progress is not None:
            progress(min(start + FRAMES, len(z)), len(z))
    return torch.cat(parts)
