r"""Statistics of an example under a flow, from one pass, from which outlier scores are computed.

The likelihood alone misleads: a flow that was trained on clothes finds digits likelier than
clothes (arXiv 1810.09136). But the terms of the likelihood, and how far the latents are from the
white noise that they should be, are unusual for most outliers, in one direction or the other. So
all of them are kept, and their joint density decides what is unusual (DoSE, Morningstar et al.,
arXiv 2006.09273).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from realnvp.bijections import Bijection, Chain, FactorOut
from realnvp.bijections.base import zero_log_det
from realnvp.bijections.dequantization import Noise
from realnvp.flow import Flow
from realnvp.outliers.complexity import png_bits_per_dim
from realnvp.outliers.spectrum import power_spectrum
from realnvp.utils.rng import Stream, uniform_of_rows

__all__ = ["COPIES", "noise_of", "statistics", "symmetric_copies"]

COPIES = ("transposed", "inverted")
"""Statistics that compare an image with a copy of it; see :func:`symmetric_copies`."""


def noise_of(flow: Flow, x: Tensor, seed: int, start: int = 0, draw: int = 0) -> Tensor | None:
    """Return the dequantization noise of a draw for consecutive examples; None if there is none.

    The noise of an image follows from its index. The noise of a vector follows from its values, so
    that its score is the same in every part of a table.

    Args:
        flow: flow.
        x: ``(B, *shape)`` raw data.
        seed: seed of the noise.
        start: index of the first example.
        draw: index of the draw.
    """
    key = (seed, Stream.DRAWS, draw)
    if flow.levels is not None or not flow.noisy:
        return flow.example_noise(key, start, len(x))
    # Rounding to the type of the flow could reach 1.
    below_one = 1 - torch.finfo(flow.dtype).eps / 2
    return uniform_of_rows(x, key).clamp(max=below_one).to(flow.device, flow.dtype)


@torch.no_grad()
def statistics(
    flow: Flow,
    x: Tensor,
    condition: Tensor | None = None,
    noise: Noise = None,
    *,
    symmetries: bool = False,
) -> tuple[dict[str, Tensor], Tensor]:
    r"""Return the statistics of each example, and its latents.

    For all flows: ``log_likelihood``, in nats; ``energy``, the mean of :math:`z^2`, which is 1 for
    typical examples; and ``log_det``, in nats per dimension. For images also, by scale,
    ``energy_S`` and ``log_det_S``; ``preprocessing``, the log-determinants of dequantization and
    logit; ``correlation``, of latents that are neighbors, and ``kurtosis``, the logarithm of that
    of all latents, which are 0 and log 3 for white noise; ``codec``, the size as a PNG in bits/dim
    (:func:`~realnvp.outliers.complexity.png_bits_per_dim`); and the image's power spectrum
    (:func:`~realnvp.outliers.spectrum.power_spectrum`).

    Args:
        flow: flow.
        x: ``(B, *shape)`` raw data.
        condition: labels or vectors, if the flow is conditional. Without labels, the likelihood is
            the marginal one, and everything else is of the likeliest class.
        noise: source of the dequantization noise, of which one draw is made.
        symmetries: compare images with their :func:`symmetric_copies`, too, which takes two more
            passes: ``transposed`` and ``inverted`` are how much likelier the image is, in nats per
            dimension. For a conditional flow, all are given the same condition.

    Returns:
        statistics by name, each ``(B,)`` in float64 on the CPU, and latents ``(B, *shape)``.

    >>> from realnvp import vector_flow
    >>> found, z = statistics(vector_flow(2, coupling="affine"), torch.zeros(3, 2))
    >>> sorted(found), z.shape
    (['energy', 'log_det', 'log_likelihood'], torch.Size([3, 2]))
    """
    flow.check(x)
    marginal, classes = None, flow.classes if condition is None else None
    symmetries = symmetries and flow.levels is not None
    if flow.noisy and (classes is not None or symmetries) and not isinstance(noise, Tensor):
        noise = torch.rand(x.shape, generator=noise, dtype=flow.dtype, device=x.device)
    if classes is not None:
        by_class = flow.class_log_probs(x, noise)
        marginal, condition = by_class.logsumexp(1) - math.log(classes), by_class.argmax(1)
    with flow.evaluating():
        given = flow.as_condition(condition, len(x))
        v, first = flow.dequantize(x, given, noise)
        z, log_dets = _by_scale(flow.body, v, given)
    total = first + sum(log_dets)
    per_dim = 1 / flow.dim
    joint = total + flow.log_prior(z)
    found = {
        "log_likelihood": joint if marginal is None else marginal,
        "energy": z.square().flatten(1).mean(1),
        "log_det": total * per_dim,
    }
    if flow.levels is not None:
        scales = flow.latent_scales().to(z.device)
        for scale, log_det in enumerate(log_dets):
            own = z[:, scales == scale]
            if own.shape[1]:
                found[f"energy_{scale}"] = own.square().mean(1)
            found[f"log_det_{scale}"] = log_det * per_dim
        found["preprocessing"] = first * per_dim
        found |= _whiteness(z)
        if symmetries and isinstance(noise, Tensor):
            with flow.evaluating():
                for name, (copy, u) in symmetric_copies(x, noise, flow.levels).items():
                    found[name] = (joint - flow.log_prob(copy, condition, u)) * per_dim
    found = {name: values.double().cpu() for name, values in found.items()}
    if flow.levels is not None:
        found["codec"] = png_bits_per_dim(x, flow.levels)
        found |= power_spectrum(x)
    return found, z


def symmetric_copies(x: Tensor, noise: Tensor, levels: int) -> dict[str, tuple[Tensor, Tensor]]:
    r"""Return copies of images with the same complexity, and the noise of each.

    Transposing an image (turning it upside down, unless it is square) or inverting it,
    :math:`x \to K - 1 - x`, keeps volumes, contrast and edges. So the contribution of complexity to
    the likelihood is the same for both, and the difference is what the flow has learned about which
    of them is natural: where light, sky and floor are. Noise is transformed in the same way, so
    that its effect cancels, too.

    Args:
        x: ``(B, C, H, W)`` integers, 0 to ``levels - 1``.
        noise: uniform numbers of the same shape.
        levels: number of grey levels.

    >>> x = torch.tensor([[[[0, 1], [2, 3]]]])
    >>> copies = symmetric_copies(x, torch.full(x.shape, 0.25), 4)
    >>> {name: copy.flatten().tolist() for name, (copy, _) in copies.items()}
    {'transposed': [0, 2, 1, 3], 'inverted': [3, 2, 1, 0]}
    """

    def turned(values: Tensor) -> Tensor:
        square = values.shape[-1] == values.shape[-2]
        return (values.mT if square else values.flip(-2)).contiguous()

    # Uniform numbers are less than 1.
    below_one = 1 - torch.finfo(noise.dtype).eps / 2
    inverted = (levels - 1 - x, (1 - noise).clamp(max=below_one))
    return dict(zip(COPIES, ((turned(x), turned(noise)), inverted), strict=True))


def _whiteness(z: Tensor) -> dict[str, Tensor]:
    """Return how far latents ``(B, C, H, W)`` are from white noise."""
    centered = z - z.flatten(1).mean(1).view(-1, 1, 1, 1)
    variance = centered.square().flatten(1).mean(1).clamp(min=1e-12)
    down = (centered[:, :, 1:] * centered[:, :, :-1]).flatten(1).mean(1)
    right = (centered[..., 1:] * centered[..., :-1]).flatten(1).mean(1)
    fourth = centered.square().square().flatten(1).mean(1)
    return {
        "correlation": (down + right) / (2 * variance),
        "kurtosis": (fourth / variance.square()).log(),
    }


def _by_scale(
    bijection: Bijection, x: Tensor, condition: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """Return latents, and the log-determinants ``(B,)`` of the layers of each scale."""
    total: list[Tensor] = [zero_log_det(x)]
    for layer in _layers(bijection):
        if not isinstance(layer, FactorOut):
            x, log_det = layer(x, condition)
            total[0] = total[0] + log_det
            continue
        out, rest = layer.split(x)
        rest, inner = _by_scale(layer.inner, rest, condition)
        x = torch.cat((out, rest), dim=1)
        for scale, log_det in enumerate(inner, 1):
            if scale == len(total):
                total.append(zero_log_det(x))
            total[scale] = total[scale] + log_det
    return x, total


def _layers(bijection: Bijection) -> Iterator[Bijection]:
    """Yield the layers of a chain, with no chain inside another."""
    if isinstance(bijection, Chain):
        for layer in bijection:
            yield from _layers(layer)
    else:
        yield bijection
