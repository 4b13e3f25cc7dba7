"""Measurements for the report of one run: latents, log-densities and samples, computed once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from realnvp import latents
from realnvp.data import Split
from realnvp.evaluation import batches
from realnvp.flow import Flow
from realnvp.pretrained import table_of
from realnvp.reports.samples import table_of_rows
from realnvp.utils.rng import Stream

if TYPE_CHECKING:
    import pandas as pd

    from realnvp.columns.schema import TableSchema

__all__ = ["Findings", "measure"]

IMAGES, ROWS = 200, 2_000
"""Largest number of held-out examples that are measured, so that a report takes seconds."""

LEAST_ALIKE = 50
"""Smallest number of rows with the same missing values that are ranked."""

DRAWN = 64
"""Number of samples of images."""


@dataclass(frozen=True, eq=False)
class Findings:
    """Measurements of a model on held-out examples.

    Args:
        flow: the model.
        part: name of the part that the examples belong to.
        split: held-out examples, a random choice.
        log_p: ``(N,)``, their log-densities in nats, of one draw of the noise.
        z: ``(N, *shape)``, their latents.
        samples: samples at temperature 1, from seed 0 as ``realnvp sample`` draws them.
        cool: samples of images at temperature 0.7, None for vectors.
        scales: the pictures of :func:`realnvp.latents.levels` for a few images, or None.
        square: the pictures of :func:`realnvp.latents.interpolate`, or None.
    """

    flow: Flow
    part: str
    split: Split
    log_p: Tensor
    z: Tensor
    samples: Tensor
    cool: Tensor | None
    scales: Tensor | None
    square: Tensor | None

    @property
    def scores(self) -> Tensor:
        """Bits/dim of images, log-densities of vectors in nats."""
        if self.flow.levels is None:
            return self.log_p
        return -self.log_p / (self.flow.dim * math.log(2))

    @property
    def schema(self) -> TableSchema | None:
        """The columns of the table that the model was trained with, if it was one."""
        return table_of(self.flow)

    def table(self, x: Tensor) -> pd.DataFrame:
        """Return vectors ``(N, D)`` as rows of the table, in its own values."""
        return table_of_rows(x, self.flow.column_names, self.schema)

    @property
    def ranking(self) -> Tensor:
        """Indices of the examples, from the least to the most likely.

        A missing value saves a density, whose unit is that of its column, so that rows of a table
        are ranked among those with the same missing values. Rows of rare patterns are left out.
        """
        if self.schema is None or not (missing := self.table(self.split.x).isna()).any(axis=None):
            return self.log_p.argsort()
        group = missing.groupby(list(missing)).ngroup()
        place = missing.assign(place=self.log_p.numpy()).groupby(group)["place"].rank(pct=True)
        alike = group.map(group.value_counts()) >= LEAST_ALIKE
        return torch.tensor(place[alike].sort_values(kind="stable").index.to_list())

    def by_scale(self) -> dict[str, Tensor]:
        """Return the latents of each scale of an image model, or all of a vector's."""
        if self.flow.levels is None:
            return {"latents": self.z.flatten()}
        scales = self.flow.latent_scales()
        count = int(scales.max()) + 1
        names = [f"scale {i + 1} of {count}" for i in range(count)]
        return {name: self.z[:, scales == i].flatten() for i, name in enumerate(names)}


@torch.no_grad()
def measure(
    flow: Flow,
    part: str,
    split: Split,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Findings:
    """Measure a model on a random choice of held-out examples.

    Args:
        flow: the model.
        part: name of the part that the examples belong to.
        split: held-out examples.
        progress: called with the fraction that is done.
    """
    is_image = flow.levels is not None
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    chosen = split.select(order[: IMAGES if is_image else ROWS].sort().values)
    log_p, z = [], []
    for start, x, condition, _ in batches(chosen, 50 if is_image else 1000, flow.device):
        noise = flow.example_noise((0, Stream.DRAWS, 0), start, len(x))
        latent, terms = flow.log_prob_terms(x, condition, noise)
        log_p.append(torch.stack(list(terms.values())).sum(0).double().cpu())
        z.append(latent.cpu())
        progress(0.6 * (start + len(x)) / len(chosen))
    n = DRAWN if is_image else len(chosen)
    samples = _draw(flow, n, 1.0, chosen)
    progress(0.7)
    cool, scales, square = None, None, None
    if is_image:
        cool = _draw(flow, n // 2, 0.7, chosen)
        progress(0.8)
        few = chosen.x[:8].to(flow.device)
        condition = None if chosen.condition is None else chosen.condition[:8].to(flow.device)
        generator = torch.Generator(flow.device).manual_seed(0)
        scales = latents.levels(flow, few, condition, generator).cpu()
        progress(0.9)
        if len(few) >= 4:
            four = None if condition is None else condition[:4]
            square = latents.interpolate(flow, few[:4], 6, four, generator).cpu()
    progress(1.0)
    return Findings(
        flow, part, chosen, torch.cat(log_p), torch.cat(z), samples, cool, scales, square
    )


def _draw(flow: Flow, n: int, temperature: float, data: Split) -> Tensor:
    """Draw samples, of all classes in turn or with the conditions of the data."""
    condition = None
    if flow.classes is not None:
        condition = torch.arange(n, device=flow.device) * flow.classes // n
    elif data.condition is not None:
        condition = data.condition[torch.arange(n) % len(data)].to(flow.device)
    generator = torch.Generator(flow.device).manual_seed(0)
    return flow.sample(n, temperature, condition, generator).cpu()
