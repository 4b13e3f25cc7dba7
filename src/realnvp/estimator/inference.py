r"""What people ask of a table: rows by a rule, a column given the others, and gaps filled in.

All of it is of a flow and the columns of its table, for the command line and the estimator alike.

The probability of a category given the rest of its row is exact by Bayes' rule over its values, but
for the noise of other discrete columns, which is the same for all of them:

.. math:: p(c \mid x) = \frac{p(c, x)}{\sum_{c'} p(c', x)}.

Gaps are filled in by sampling importance resampling (Rubin 1988). With :math:`v_k` the normal
scores of what is known and candidates :math:`v_u \sim q(v_u \mid v_k)` from a Gaussian fitted to
the flow's own samples, one of them is drawn with weights :math:`w \propto p(v_k, v_u) / q(v_u \mid
v_k)`. Their effective number, :math:`(\sum w)^2 / \sum w^2`, says how far to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.data.columns import TableSchema
from realnvp.evaluation import log_likelihood
from realnvp.flow import Flow
from realnvp.utils.errors import some_of

__all__ = ["category_log_probs", "impute", "sample_table"]

PILOT = 4_000
"""Samples of the flow that the Gaussian of the candidates is fitted to."""

WIDER = 1.3
"""Factor of the candidates' standard deviations: the tails of a proposal must not be too light."""

AT_ONCE = 2**15
"""Rows that are computed at once."""

MOST_DRAWS = 1_000
"""Rows that are drawn, at most, for each that a rule leaves."""


def category_log_probs(
    flow: Flow,
    schema: TableSchema,
    x: Tensor,
    column: str,
    condition: Tensor | None = None,
    *,
    draws: int = 16,
    seed: int = 0,
) -> Tensor:
    """Return the log-probability of every category of a column given the others.

    Args:
        flow: flow of the table.
        schema: its columns.
        x: ``(N, D')`` coordinates; those of the column itself make no difference.
        column: name of a categorical column.
        condition: condition of each row, if the flow is conditional.
        draws: number of noise draws.
        seed: seed of the noise.

    Returns:
        ``(N, K)`` for the K categories, with the gap last if the column has gaps.

    Raises:
        ValueError: if there is no such categorical column.
    """
    kinds = {c.name: c.kind for c in schema.columns}
    known = [name for name, kind in kinds.items() if kind == "categorical"]
    if column not in known:
        raise ValueError(
            f"{column!r} is no categorical column of the model: there are "
            f"{some_of(known) or 'none'}"
        )
    place = schema.places()[column].start
    size = schema.coordinates[place].size
    generator = torch.Generator(flow.device).manual_seed(seed)
    noise = torch.rand((draws, flow.dim), generator=generator, dtype=flow.dtype, device=flow.device)

    def same_noise(count: int) -> Callable[[int], Tensor]:
        return lambda draw: noise[draw].expand(count, -1)

    parts = []
    for start in range(0, len(x), AT_ONCE):
        rows = x[start : start + AT_ONCE].to(flow.device)
        given = None if condition is None else condition[start : start + AT_ONCE].to(flow.device)
        scores = []
        for category in range(size):
            rows = rows.clone()
            rows[:, place] = category
            with torch.no_grad():
                scores.append(
                    log_likelihood(
                        flow, rows, given, samples=draws, generator=same_noise(len(rows))
                    )
                )
        parts.append(torch.stack(scores, dim=1).log_softmax(1).cpu())
    return torch.cat(parts)


# ---------------------------------------------------------------------- gaps


@torch.no_grad()
def impute(
    flow: Flow,
    schema: TableSchema,
    x: Tensor,
    condition: Tensor | None = None,
    *,
    candidates: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Fill in what is unknown in rows, by a draw from its distribution given the rest.

    Args:
        flow: flow of the table.
        schema: its columns.
        x: ``(N, D')`` coordinates, NaN where they are unknown, as ``encode(unknown=True)`` has
            them.
        condition: condition of each row, if the flow is conditional.
        candidates: number of candidates for each row.
        seed: seed of all draws.
        progress: called with the number of rows done, and of all.

    Returns:
        the filled rows, and the effective number of candidates ``(N,)``, infinite for rows without
        gaps.
    """
    layer = flow.columns
    assert layer is not None  # every flow of a table has this layer
    generator = torch.Generator().manual_seed(seed)
    unknown = torch.isnan(x)
    for i, coordinate in enumerate(schema.coordinates):
        if coordinate.status is not None:  # without its number where the status says so
            unknown[:, i] = torch.isnan(x[:, coordinate.status])
    filled, effective = x.clone(), torch.full((len(x),), math.inf, dtype=torch.float64)
    forbidden = _gap_codes(schema)
    rows = unknown.any(1).nonzero()[:, 0]
    some = x[unknown.any(1)]
    if not len(rows):
        return filled, effective
    z = torch.randn(PILOT, flow.dim, generator=generator, dtype=flow.dtype).to(flow.device)
    patterns, group = unknown[rows].unique(dim=0, return_inverse=True)
    at_once = max(1, AT_ONCE // candidates)
    done = 0
    with flow.evaluating():
        given = flow.as_condition(condition, len(x))
        start = None if given is None else given[torch.arange(PILOT) % len(given)]
        pilot = flow.body.inverse(z, start)[0].double().cpu()
        mean, covariance = pilot.mean(0), pilot.T.cov() + 1e-6 * torch.eye(flow.dim).double()
        for p, pattern in enumerate(patterns):
            members = (group == p).nonzero()[:, 0]
            for part in members.split(at_once):
                own = None if given is None else given[rows[part]].repeat_interleave(candidates, 0)
                known = some[part].repeat_interleave(candidates, 0).to(flow.device)
                u = torch.rand(known.shape, generator=generator, dtype=torch.float64)
                v, slopes = layer.scores(known, u.to(flow.device), pattern.to(flow.device))
                v = v.cpu().double()
                v[:, pattern], log_q = _proposed(
                    v[:, ~pattern], pattern, mean, covariance, generator
                )
                v = v.to(flow.device, flow.dtype)
                latents, log_det = flow.body(v, own)
                log_w = (log_det - 0.5 * latents.square().sum(1)).double().cpu() - log_q
                log_w += slopes[:, ~pattern].sum(1).double().cpu()
                values = layer.inverse(v)[0].cpu()
                for i, code in forbidden.items():
                    if pattern[i]:
                        log_w[values[:, i] == code] = -math.inf
                log_w = log_w.view(len(part), candidates).nan_to_num(-math.inf, neginf=-math.inf)
                weight = (log_w - log_w.amax(1, keepdim=True)).nan_to_num(0.0).exp()
                effective[rows[part]] = weight.sum(1).square() / weight.square().sum(1)
                pick = torch.multinomial(weight, 1, generator=generator)[:, 0]
                chosen = values.view(len(part), candidates, -1)[torch.arange(len(part)), pick]
                filled[rows[part]] = torch.where(pattern, chosen, some[part])
                done += len(part)
                if progress is not None:
                    progress(done, len(rows))
    return filled, effective


def _gap_codes(schema: TableSchema) -> dict[int, int]:
    """Return the code that says "gap", of the coordinates that have one."""
    places, codes = schema.places(), {}
    for column in schema.columns:
        if column.missing:
            first = places[column.name].start
            codes[first] = len(column.categories) if column.kind == "categorical" else 1
    return codes


def _proposed(
    known: Tensor, pattern: Tensor, mean: Tensor, covariance: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return candidates for the scores that are unknown, and their log-density.

    They are of a Gaussian given what is known, or in part of one that ignores it.
    """
    ours, rest = covariance[pattern][:, pattern], covariance[~pattern][:, ~pattern]
    cross = covariance[pattern][:, ~pattern]
    gain = torch.linalg.solve(rest, cross.T).T if len(rest) else cross
    center = mean[pattern] + (known - mean[~pattern]) @ gain.T
    left = ours - gain @ cross.T + 1e-6 * torch.eye(len(ours), dtype=ours.dtype)
    narrow, wide = (torch.linalg.cholesky(WIDER**2 * s) for s in (left, ours))
    noise = torch.randn(len(known), len(ours), generator=generator, dtype=torch.float64)
    take_wide = torch.rand(len(known), generator=generator) < 0.25
    drawn = torch.where(
        take_wide[:, None], mean[pattern] + noise @ wide.T, center + noise @ narrow.T
    )

    def log_density(centered: Tensor, factor: Tensor) -> Tensor:
        white = torch.linalg.solve_triangular(factor, centered.T, upper=False)
        return -0.5 * white.square().sum(0) - factor.diagonal().log().sum()

    both = torch.stack([
        log_density(drawn - center, narrow) + math.log(0.75),
        log_density(drawn - mean[pattern], wide) + math.log(0.25),
    ])  # fmt: skip
    return drawn, both.logsumexp(0)


# ---------------------------------------------------------------------- rows


def sample_table(
    flow: Flow,
    schema: TableSchema,
    n: int,
    *,
    condition: Callable[[int], Tensor | None] | None = None,
    given: Mapping[str, Any] | None = None,
    reject: Sequence[str] = (),
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> pd.DataFrame:
    """Draw rows of a table, of which some may be left out.

    Args:
        flow: flow of the table.
        schema: its columns.
        n: number of rows.
        condition: returns the condition of so many rows, if the flow is conditional.
        given: values that columns of the table must have. Rows are drawn until they do, which is
            exact.
        reject: rules in the words of ``pandas.DataFrame.query``; rows of which one is true are
            left out.
        temperature: standard deviation of the latents.
        generator: source of the latents.

    Raises:
        ValueError: if a rule is none, or hardly any row is left.
    """
    found: list[pd.DataFrame] = []
    have = drawn = 0
    while have < n:
        ask = n if not (given or reject) else min(max(2 * (n - have), 1_000), 50_000)
        own = None if condition is None else condition(ask)
        rows = flow.sample(ask, temperature, own, generator).cpu().numpy()
        if not np.isfinite(rows[:, _always(schema)]).all():
            raise ValueError(
                f"samples at temperature {temperature:g} are not finite: lower --temperature"
            )
        frame = schema.decode(rows)
        drawn += ask
        for name, value in (given or {}).items():
            frame = frame[_equals(frame[name], value)]
        for rule in reject:
            frame = frame[~_query(frame, rule)]
        found.append(frame)
        have += len(frame)
        if have < n and drawn >= MOST_DRAWS * max(1, have) and drawn >= 20_000:
            raise ValueError(
                f"of {drawn:,} rows that were drawn, the rules leave {have}: ask for fewer, or "
                "train with the column as a condition (--condition NAME)"
            )
    return pd.concat(found, ignore_index=True).iloc[:n]


def _always(schema: TableSchema) -> list[int]:
    return [i for i, coordinate in enumerate(schema.coordinates) if coordinate.status is None]


def _equals(column: pd.Series, value: Any) -> NDArray:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        try:
            result: NDArray = (column == float(value)).to_numpy(dtype=bool, na_value=False)
        except ValueError as error:
            raise ValueError(f"column {column.name!r} holds numbers, got {value!r}") from error
        return result
    text: NDArray = (column.astype(str) == str(value)).to_numpy(dtype=bool)
    if len(column) > 500 and not text.any():
        known = some_of(sorted(map(str, column.dropna().unique()))[:20])
        raise ValueError(f"no row has {column.name} = {value!r}; there are {known}")
    return text


def _query(frame: pd.DataFrame, rule: str) -> NDArray:
    try:
        found = frame.eval(rule, engine="python")
        result: NDArray = np.asarray(found, dtype=bool)
    except Exception as error:  # whatever a rule makes pandas raise
        raise ValueError(f"the rule {rule!r} cannot be applied: {error}") from error
    if result.shape != (len(frame),):
        raise ValueError(
            f"the rule {rule!r} says nothing of each row: write one such as 'age > 120'"
        )
    return result
