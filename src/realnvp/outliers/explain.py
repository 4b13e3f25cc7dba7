r"""Why an example is strange: which columns, or where in the image.

The contribution of a column is by how much the log-density would rise if the column were an
ordinary one for the rest of the row,

.. math:: E_{x_j' \sim p(x_j | x_{-j})}[\log p(x_j', x_{-j})] - \log p(x).

The conditional density is that of the flow along the column, computed on a grid. Of an image, the
latents are where the pixels are, so that their energy is a heat map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from realnvp.flow import Flow

__all__ = ["heat_map", "surprises"]

GRID = 64
"""Values of a column at which the density is computed."""


@torch.no_grad()
def surprises(flow: Flow, x: Tensor, condition: Tensor | None = None, seed: int = 0) -> Tensor:
    """Return the contribution of each column to how unusual rows are, in nats.

    Args:
        flow: flow of vectors.
        x: ``(B, D)`` rows.
        condition: labels or vectors, if the flow is conditional.
        seed: seed of the samples of the flow that the grid spans.

    Returns:
        ``(B, D)``, about 0 for values as they are to be expected; it does not depend on the unit of
        a column. Negative for values that are even likelier than most.

    >>> from realnvp import vector_flow
    >>> found = surprises(vector_flow(2, coupling="affine"), torch.tensor([[0.0, 4.0]]))
    >>> [round(value, 1) for value in found[0].tolist()]  # -1/2 and 4**2 / 2 - 1/2
    [-0.5, 7.5]
    """
    if len(flow.shape) != 1:
        raise ValueError("surprises explains vectors: for images, use heat_map")
    generator = torch.Generator(flow.device).manual_seed(seed)
    given = None
    if condition is not None:
        given = condition[torch.arange(512) % len(condition)]
    drawn = flow.sample(512, condition=given, generator=generator).to(x)
    found = torch.empty(x.shape, dtype=torch.float64)
    for j in range(x.shape[1]):
        for i in range(len(x)):
            label = None if condition is None else condition[i : i + 1]
            found[i, j] = _surprise(flow, x[i], j, drawn[:, j], label)
    return found


def _surprise(flow: Flow, row: Tensor, j: int, drawn: Tensor, condition: Tensor | None) -> float:
    """Return the contribution of one column of one row."""
    drawn = drawn[~drawn.isnan()]
    if bool(row[j].isnan()) or len(drawn) == 0:  # a gap
        return float("nan")
    values = _grid(drawn, row[j], j in flow.integers)
    rows = row.expand(len(values), -1).clone()
    rows[:, j] = values
    rows = torch.cat((rows, row[None]))
    given = None if condition is None else condition.expand(len(rows), *condition.shape[1:])
    noise = torch.full(rows.shape, 0.5, dtype=flow.dtype) if flow.noisy else None
    log_p = flow.log_prob(rows, given, noise).double().cpu()
    along, own = log_p[:-1], log_p[-1]
    width = torch.ones(len(values), dtype=torch.float64)
    if j not in flow.integers:
        width = torch.gradient(values.double().cpu(), edge_order=1)[0] if len(values) > 1 else width
    share = (along + width.clamp(min=1e-300).log()).nan_to_num(-torch.inf).softmax(0)
    expected = (share * along.nan_to_num(0.0, 0.0, -1e30)).sum()
    return float(expected - own)


def _grid(drawn: Tensor, value: Tensor, integer: bool) -> Tensor:
    """Return ascending values of a column that the flow draws, or between those."""
    if integer:
        return torch.cat((drawn, value[None])).unique()
    even = torch.linspace(float(drawn.min()), float(drawn.max()), GRID // 2, dtype=drawn.dtype)
    quantiles = drawn.quantile(torch.linspace(0, 1, GRID // 2, dtype=drawn.dtype))
    return torch.cat((quantiles, even)).unique()


@torch.no_grad()
def heat_map(
    flow: Flow, x: Tensor, condition: Tensor | None = None, noise: Tensor | None = None
) -> Tensor:
    r"""Return how unusual images are at each pixel, :math:`(z^2 - 1) / 2` of its latent, in nats.

    It is by how much the prior's part of the log-likelihood is smaller than that of a typical
    image, pixel by pixel; its sum over the image is half of the size times what the energy exceeds
    1 by.

    Args:
        flow: flow of images.
        x: ``(B, C, H, W)`` images.
        condition: labels or vectors, if the flow is conditional.
        noise: dequantization noise of the shape of ``x``; the middle of all levels if left out.

    Returns:
        ``(B, H, W)``, summed over the channels.
    """
    if len(flow.shape) != 3:
        raise ValueError("a heat map explains images: for vectors, use surprises")
    middle = torch.full(x.shape, 0.5, dtype=flow.dtype, device=x.device)
    with flow.evaluating():
        given = flow.as_condition(condition, len(x))
        z, _ = flow.latents_and_log_det(x, given, middle if noise is None else noise)
    return (0.5 * (z.square() - 1)).sum(1)
