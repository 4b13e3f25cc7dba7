r"""Explanations of unusual examples: by column, or by place in the image.

The contribution of a column is the amount by which the log-density would rise if the column were as
expected from the rest of the row,

.. math:: E_{x_j' \sim p(x_j | x_{-j})}[\log p(x_j', x_{-j})] - \log p(x).

The conditional density is that of the flow along the column, computed on a grid that is refined
where the density is largest. The latents of an image have the places of its pixels, so that their
energy is a heat map.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from realnvp.evaluation import grid_log_probs
from realnvp.flow import Flow

__all__ = ["heat_map", "surprises"]

GRID = 64
"""Largest number of values of a column at which the density is computed."""

REFINED = 32
"""Number of values that a refinement of the grid adds."""

BESIDE = 4
"""They are within so many values of the likeliest one, on both sides."""

AT_ONCE = 2**14
"""Rows in a batch."""


@torch.no_grad()
def surprises(
    flow: Flow,
    x: Tensor,
    condition: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the contribution of each column to how unusual rows are, in nats.

    Args:
        flow: flow of vectors.
        x: ``(B, D)`` rows.
        condition: labels or vectors, if the flow is conditional.
        seed: seed of the samples of the flow that the grid spans.
        progress: called with the number of columns done, and the total.

    Returns:
        ``(B, D)``, about 0 for ordinary values; it does not depend on the unit of a column.
        Negative for values that are even likelier than most. For impossible rows, infinite at their
        marks (:meth:`realnvp.columns.layer.TableColumns.mark`), and NaN elsewhere.

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
    found = torch.full(x.shape, torch.nan, dtype=torch.float64)
    marks = x.new_zeros(x.shape, dtype=torch.bool)
    if flow.columns is not None:
        marks = flow.columns.marks(x)
        found[marks.cpu()] = torch.inf
        x = x.masked_fill(marks.any(1, keepdim=True), torch.nan)
    for j in range(x.shape[1]):
        there = (~x[:, j].isnan()).nonzero()[:, 0]  # a gap is explained by its status
        if len(there) and not drawn[:, j].isnan().all():
            known = _known(drawn[:, j], x[there, j], j in flow.integers)
            values = _grid(drawn[:, j], known)
            for part in there.split(max(1, AT_ONCE // len(values))):
                own = None if condition is None else condition[part]
                found[part, j] = _surprise(flow, x[part], j, values, known, own)
        if progress is not None:
            progress(j + 1, x.shape[1])
    return found


def _surprise(
    flow: Flow, x: Tensor, j: int, values: Tensor, known: Tensor | None, condition: Tensor | None
) -> Tensor:
    """Return the contribution of one column of rows ``(R, D)``, given a grid of its values.

    The grid is refined twice where the density of a row is largest, since given the other columns
    the values may be much closer to each other than in all rows.
    """

    def with_values(points: Tensor) -> Tensor:
        rows = x[:, None].repeat(1, points.shape[1], 1)
        rows[..., j] = points
        return rows

    def at(points: Tensor) -> Tensor:
        return grid_log_probs(flow, with_values(points), condition).cpu().nan_to_num(-torch.inf)

    def in_order(points: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        points, order = points.sort(1)
        return points, along.gather(1, order.cpu())

    own = at(x[:, [j]])
    if known is not None and len(known) < GRID:  # these are all values
        along = at(values.expand(len(x), -1))
        return (along.softmax(1) * along.clamp(min=-1e30)).sum(1) - own[:, 0]
    grid = values.expand(len(x), -1)
    points, along = in_order(torch.cat((grid, x[:, [j]]), 1), torch.cat((at(grid), own), 1))
    share = torch.linspace(0, 1, REFINED + 2, dtype=x.dtype)[1:-1].to(x.device)
    for _ in range(2):
        best = along.argmax(1, keepdim=True).to(x.device)
        low = points.gather(1, (best - BESIDE).clamp(min=0))
        high = points.gather(1, (best + BESIDE).clamp(max=points.shape[1] - 1))
        more = low + (high - low) * share
        if known is not None:
            more = known[torch.searchsorted(known, more).clamp(max=len(known) - 1)]
        points, along = in_order(torch.cat((points, more), 1), torch.cat((along, at(more)), 1))
    width = torch.gradient(points.double().cpu(), dim=1, edge_order=1)[0]
    if flow.columns is not None:
        rows = with_values(points).flatten(0, 1)
        atom = flow.columns.atom_widths(rows)[:, j].view(points.shape).cpu()
        atom[:, 1:] = atom[:, 1:].masked_fill((points[:, 1:] == points[:, :-1]).cpu(), 0.0)
        width = torch.where(atom.isnan(), width, atom)
    weight = (along + width.clamp(min=1e-300).log()).softmax(1)
    return (weight * along.clamp(min=-1e30)).sum(1) - own[:, 0]


def _known(drawn: Tensor, own: Tensor, integer: bool) -> Tensor | None:
    """Return the ascending values of a discrete column in rows and what a flow draws, or None."""
    return torch.cat((drawn[~drawn.isnan()], own)).unique() if integer else None


def _grid(drawn: Tensor, known: Tensor | None) -> Tensor:
    """Return ascending values of a column that the flow draws, or between those.

    For discrete columns, they are known values: all of them if there are few.
    """
    drawn = drawn[~drawn.isnan()]
    share = torch.linspace(0, 1, GRID // 2, dtype=drawn.dtype)
    even = torch.linspace(float(drawn.min()), float(drawn.max()), GRID // 2, dtype=drawn.dtype)
    if known is None:
        return torch.cat((drawn.quantile(share), even)).unique()
    if len(known) < GRID:
        return known
    quantiles = drawn.sort().values[(share * (len(drawn) - 1)).long()]
    near = known[torch.searchsorted(known, even).clamp(max=len(known) - 1)]
    return torch.cat((quantiles, near)).unique()


@torch.no_grad()
def heat_map(
    flow: Flow, x: Tensor, condition: Tensor | None = None, noise: Tensor | None = None
) -> Tensor:
    r"""Return how unusual images are at each pixel, :math:`(z^2 - 1) / 2` of its latent, in nats.

    It is the amount by which the prior's part of the log-likelihood is smaller than that of a
    typical image, pixel by pixel; its sum over the image is half of the number of dimensions times
    the excess of the energy over 1.

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
