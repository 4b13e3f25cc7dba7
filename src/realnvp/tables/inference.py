r"""Queries of a table: a column given the others, and imputation.

They take a flow and the columns of its table, and are used by the command line and the estimator.

The probability of a category given the rest of its row follows from Bayes' rule over its values,
exactly except for the noise of other discrete columns, which is the same for all values:

.. math:: p(c \mid x) = \frac{p(c, x)}{\sum_{c'} p(c', x)}.

A value that another column cannot have, such as a category that training did not have, or a gap
where it had none, tells nothing about the rest of its row: it is unknown, and the probability is an
average over draws of what is unknown given the rest.

Gaps are filled in by sampling importance resampling (Rubin 1988). With :math:`v_k` the normal
scores of what is known and candidates :math:`v_u \sim q(v_u \mid v_k)` from a Gaussian fitted to
the flow's own samples, one of them is drawn with weights :math:`w \propto p(v_k, v_u) / q(v_u \mid
v_k)`. The effective number of candidates, :math:`(\sum w)^2 / \sum w^2`, measures its reliability.
The weighted candidates also approximate the distribution of a column given the others, and so its
quantiles. They are only drawn for rows with other unknown values, dates with a time, and numbers
among the categories of a network: else quantiles and means are computed on a grid of the column's
scores (:mod:`realnvp.tables.conditionals`), or in closed form for a conditional flow of one column.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from realnvp.bijections import DomainMap
from realnvp.bijections.gaussian_mixture import log_normal
from realnvp.columns.bin_map import score_of
from realnvp.columns.impossible import Tolerate, impossible_text
from realnvp.columns.kinds import Category
from realnvp.columns.kinds.base import Column
from realnvp.columns.kinds.implied import Implied
from realnvp.columns.layer import TableColumns
from realnvp.columns.schema import TableSchema
from realnvp.flow import Flow
from realnvp.inputs import impossible_values
from realnvp.tables.conditionals import (
    DRAWS,
    ScoreDensity,
    even_noise,
    has_grid,
    normal_quantiles,
)
from realnvp.utils.errors import some_of

__all__ = [
    "category_log_probs",
    "category_proba",
    "drawn_given",
    "filled_table",
    "impute",
    "known_rows",
    "quantiles",
]

PILOT = 4_000
"""Number of samples of the flow to which the Gaussian of the candidates is fitted."""

WIDER = 1.3
"""Factor of the candidates' standard deviations, so that the proposal has heavy enough tails."""

AT_ONCE = 2**15
"""Rows in a batch."""

GRIDS_AT_ONCE = 4_000
"""Rows whose densities are computed on a grid at the same time."""

MEAN_POINTS = 64
"""Quantiles whose mean is that of a flow of one feature."""

FILLINGS = 16
"""Draws of unknown values over which probabilities are averaged."""


def category_log_probs(
    flow: Flow,
    schema: TableSchema,
    x: Tensor,
    column: str,
    condition: Tensor | None = None,
    *,
    draws: int = DRAWS,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the log-probability of every category of a column given the others.

    Args:
        flow: flow of the table.
        schema: its columns.
        x: ``(N, D')`` coordinates; those of the column itself are ignored.
        column: name of a categorical column.
        condition: condition of each row, if the flow is conditional.
        draws: number of draws of the noise.
        progress: called with the number of rows done, and the total.

    Returns:
        ``(N, K)`` for the K categories, with the gap last if the column has gaps.

    Raises:
        ValueError: if there is no such categorical column.
    """
    kinds = {c.name: c.kind for c in schema.columns}
    known = [name for name, kind in kinds.items() if kind == "categorical"]
    if column not in known:
        raise ValueError(
            f"{column!r} is not a categorical column of the model, which has "
            f"{some_of(known) or 'none'}"
        )
    place = schema.places[column].start
    size = schema.features[place].size
    layer, device = _columns_of(flow), flow.device
    noise = even_noise(flow.dim, draws).to(device)
    # The score of a category is the same in all rows.
    every = layer.some_values().repeat(size, 1)
    every[:, place] = torch.arange(size)
    parts: list[Tensor] = []
    with torch.no_grad(), flow.evaluating():
        for start in range(0, len(x), AT_ONCE // size + 1):
            rows = x[start : start + AT_ONCE // size + 1].to(device)
            rows[:, place] = 0.0
            given = None if condition is None else condition[start : start + len(rows)].to(device)
            given = flow.as_condition(given, len(rows))
            if given is not None:
                given = given.repeat_interleave(size, 0)
            scores = []
            for u in noise:
                fixed, slopes = layer.scores(rows, u.expand_as(rows))
                own, slope = (each[:, place] for each in layer.scores(every, u.expand_as(every)))
                v = fixed[:, None].repeat(1, size, 1)
                v[..., place] = own
                z, log_det = flow.body(v.flatten(0, 1), given)
                log_p = (log_det - 0.5 * z.square().sum(1)).double().view(-1, size) + slope
                slopes[:, place] = 0.0
                scores.append(log_p + slopes.sum(1, keepdim=True))
            parts.append(torch.stack(scores).logsumexp(0).log_softmax(1).cpu())
            if progress is not None:
                progress(start + len(rows), len(x))
    return torch.cat(parts)


def category_proba(
    flow: Flow,
    schema: TableSchema,
    frame: pd.DataFrame,
    column: str,
    condition: Tensor | None = None,
    *,
    candidates: int = 500,
    seed: int = 0,
    where: str = "the table",
    tolerate: Tolerate | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Return the probabilities of a categorical column's values, given the other columns.

    Args:
        flow: flow of the table.
        schema: its columns.
        frame: table; it need not have the column itself.
        column: name of the column.
        condition: condition of each row, if the flow is conditional.
        candidates: number of candidates for the unknown values of a row.
        seed: seed of these.
        where, tolerate: as in :func:`known_rows`.
        progress: called with the number of passes done, and the total.

    Returns:
        a row for each of the table, with a column for each category, and one called None for a gap
        if the training rows had any.

    Raises:
        ValueError: if there is no such categorical column.
    """
    x = known_rows(
        flow, schema, _with_some(flow, schema, frame, column), where=where, tolerate=tolerate
    )
    unknown = x[:, schema.always_present].isnan().any(1)
    given = condition
    if unknown.any():
        part = x[unknown]
        part[:, schema.places[column]] = math.nan
        own = None if condition is None else condition[unknown]
        generator = torch.Generator().manual_seed(seed)
        drawn, _ = _fillings(
            flow, schema, part, own, FILLINGS, candidates, generator, may_miss=[column]
        )
        x = torch.cat((x[~unknown], *drawn))
        if condition is not None and own is not None:
            given = torch.cat((condition[~unknown], *[own] * FILLINGS))
    each = category_log_probs(flow, schema, x, column, given, progress=progress).exp()
    p = each.new_empty(len(frame), each.shape[1])
    known = int((~unknown).sum())
    p[~unknown] = each[:known]
    p[unknown] = each[known:].view(FILLINGS, len(frame) - known, each.shape[1]).mean(0)
    own, implied = _implied(schema, frame, column)
    p[implied] = one_hot(own[implied, 0].long(), p.shape[1]).to(p)
    category = schema.column(column)
    assert isinstance(category, Category)  # its values have probabilities
    names = [*category.categories, *([None] if category.missing else [])]
    return pd.DataFrame(p.numpy(), columns=pd.Index(names, dtype=object), index=frame.index)


def _check_own(schema: TableSchema, column: str) -> None:
    """Raise ValueError if a column has no distribution of its own, and say why."""
    for each in schema.columns:
        if each.name == column and not each.size:
            raise ValueError(f"{column!r} cannot be predicted: it {schema.rule(each)}")


def _implied(schema: TableSchema, frame: pd.DataFrame, column: str) -> tuple[Tensor, Tensor]:
    """Return the coordinates of a column that follow from its copies, and in which rows they do."""
    place = schema.places[column]
    if not any(isinstance(each, Implied) for each in schema.columns):
        found = torch.full((len(frame), place.stop - place.start), math.nan, dtype=torch.float64)
    else:
        x = schema.encode(frame.assign(**{column: None}), unknown=True)[0]
        found = torch.as_tensor(x[:, place])
    return found, found.isfinite().all(1)


def known_rows(
    flow: Flow,
    schema: TableSchema,
    frame: pd.DataFrame,
    *,
    where: str = "the table",
    unknown: bool = False,
    tolerate: Tolerate | None = None,
) -> Tensor:
    """Return coordinates of a table's rows ``(N, D')``, NaN where they are unknown.

    Args:
        flow: flow of the table.
        schema: its columns.
        frame: the table.
        where: name of the table, for messages.
        unknown: as in :meth:`TableSchema.encode`.
        tolerate: called with impossible values, if there are any, which are then unknown. None
            raises.

    Raises:
        ValueError: as :meth:`TableSchema.encode` does.
    """
    layer = flow.dequantization
    assert isinstance(layer, TableColumns | DomainMap)  # the first layer of every flow of rows
    found = schema.inspect(frame, where=where, unknown=unknown)
    x = torch.as_tensor(found[0]).to(flow.device)
    names = [coordinate.name for coordinate in schema.features]
    impossible = [*found[1], *impossible_values(layer, x, names, where)]
    if impossible and tolerate is None:
        raise ValueError(impossible_text(impossible))
    if impossible and tolerate is not None:
        tolerate(impossible)
    return layer.mark(x).cpu()


def _columns_of(flow: Flow) -> TableColumns:
    """Return the layer of a table's columns."""
    if flow.columns is None:
        raise ValueError("columns given others need a table, and this density is on a domain")
    return flow.columns


def _with_some(flow: Flow, schema: TableSchema, frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a table whose column holds an arbitrary possible value."""
    if column not in schema.names:
        raise ValueError(f"the model has no column {column!r}: there are {some_of(schema.names)}")
    _check_own(schema, column)
    layer = _columns_of(flow)
    some = schema.decode(layer.some_values().view(1, -1).numpy())[column]
    # What follows from the column contradicts an arbitrary value; see _implied for what it says.
    names = [schema.columns[i].name for i in schema.following(column)]
    frame = frame.drop(columns=names, errors="ignore")
    return frame.assign(**{column: some.iloc[[0] * len(frame)].set_axis(frame.index)})


# ---------------------------------------------------------------------- unknown values


@dataclass
class _Candidates:
    """Weighted draws of the unknown values of some rows.

    Args:
        rows: indices ``(R,)`` of the rows.
        unknown: ``(D',)``, coordinates that are unknown in them.
        values: ``(R, K, D')`` coordinates of the candidates.
        weight: ``(R, K)``, largest 1; 0 for an impossible candidate. All are 1 if all candidates
            are impossible.
        effective: ``(R,)``, effective number of candidates; 0 if all are impossible.
    """

    rows: Tensor
    unknown: Tensor
    values: Tensor
    weight: Tensor
    effective: Tensor


def _unknown(schema: TableSchema, x: Tensor) -> Tensor:
    """Return which features are unknown: a number is not where its indicator marks it missing."""
    unknown = torch.isnan(x)
    for i, feature in enumerate(schema.features):
        if feature.indicator is not None:
            unknown[:, i] = torch.isnan(x[:, feature.indicator])
    return unknown


@torch.no_grad()
def _candidates(
    flow: Flow,
    schema: TableSchema,
    x: Tensor,
    condition: Tensor | None,
    count: int,
    generator: torch.Generator,
    may_miss: Collection[str] = (),
) -> Iterator[_Candidates]:
    """Yield candidates for the rows with unknown values (NaN), part by part.

    They are values, except in the columns ``may_miss``.
    """
    layer = _columns_of(flow)
    unknown = _unknown(schema, x)
    rows = unknown.any(1).nonzero()[:, 0]
    if not len(rows):
        return
    forbidden = _forbidden(schema, layer, may_miss)
    patterns, group = unknown[rows].unique(dim=0, return_inverse=True)
    at_once = max(1, AT_ONCE // count)
    with flow.evaluating():
        given = flow.as_condition(condition, len(x))
        z = torch.randn(PILOT, flow.dim, generator=generator, dtype=flow.dtype).to(flow.device)
        start = None  # rows may be sorted by their condition
        if given is not None:
            start = given[torch.randint(len(given), (PILOT,), generator=generator)]
        pilot = flow.body.inverse(z, start)[0].double().cpu()
        mean, covariance = pilot.mean(0), pilot.T.cov() + 1e-6 * torch.eye(flow.dim).double()
        for p, pattern in enumerate(patterns):
            avoided = {i: each for i, each in forbidden.items() if pattern[i]}
            rare = all(high - low < 0.5 for _, low, high in avoided.values())
            for part in rows[group == p].split(at_once):
                own = None if given is None else given[part].repeat_interleave(count, 0)
                if pattern.all() and rare:
                    size = (len(part) * count, flow.dim)
                    z = torch.randn(size, generator=generator, dtype=flow.dtype)
                    v = flow.body.inverse(z.to(flow.device), own)[0]
                    log_w = torch.zeros(len(v), dtype=torch.float64)
                else:
                    known = x[part].repeat_interleave(count, 0).to(flow.device)
                    u = torch.rand(known.shape, generator=generator, dtype=torch.float64)
                    v, slopes = layer.scores(known, u.to(flow.device), pattern.to(flow.device))
                    v = v.cpu().double()
                    v[:, pattern], log_q = _proposed(
                        v[:, ~pattern], pattern, mean, covariance, generator
                    )
                    for i, (_, low, high) in avoided.items():
                        v[:, i], change = _without(v[:, i], low, high)
                        log_q = log_q + change
                    v = v.to(flow.device, flow.dtype)
                    latents, log_det = flow.body(v, own)
                    log_w = (log_det - 0.5 * latents.square().sum(1)).double().cpu() - log_q
                    log_w += slopes[:, ~pattern].sum(1).double().cpu()
                values = layer.inverse(v)[0].cpu()
                for i, (code, _, _) in avoided.items():
                    log_w[values[:, i] == code] = -math.inf
                log_w = log_w.view(len(part), count).nan_to_num(-math.inf, neginf=-math.inf)
                weight = (log_w - log_w.amax(1, keepdim=True)).nan_to_num(0.0).exp()
                effective = weight.sum(1).square() / weight.square().sum(1)
                effective[log_w.isneginf().all(1)] = 0.0
                yield _Candidates(
                    part, pattern, values.view(len(part), count, -1), weight, effective
                )


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
    """Fill in unknown values of rows by a draw from their distribution given the rest.

    Args:
        flow: flow of the table.
        schema: its columns.
        x: ``(N, D')`` coordinates, NaN where they are unknown, as ``encode(unknown=True)`` has
            them.
        condition: condition of each row, if the flow is conditional.
        candidates: number of candidates for each row.
        seed: seed of all draws.
        progress: called with the number of rows done, and the total.

    Returns:
        the filled rows, and the effective number of candidates ``(N,)``: infinite for rows without
        gaps, and 0 for those whose candidates are all impossible, which stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    filled, effective = _fillings(
        flow, schema, x, condition, 1, candidates, generator, progress=progress
    )
    failed = (effective == 0)[:, None]
    return torch.where(failed, x, filled[0]), effective


def _fillings(
    flow: Flow,
    schema: TableSchema,
    x: Tensor,
    condition: Tensor | None,
    count: int,
    candidates: int,
    generator: torch.Generator,
    *,
    may_miss: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return rows with draws of their unknown values, ``(count, N, D')``, as :func:`impute` does.

    The columns ``may_miss`` may be filled with a missing value.
    """
    filled = x.repeat(count, 1, 1)
    effective, done = torch.full((len(x),), math.inf, dtype=torch.float64), 0
    for found in _candidates(flow, schema, x, condition, candidates, generator, may_miss):
        pick = torch.multinomial(found.weight, count, replacement=count > 1, generator=generator)
        chosen = found.values[torch.arange(len(pick)), pick.T]
        filled[:, found.rows] = torch.where(found.unknown, chosen, x[found.rows])
        effective[found.rows] = found.effective
        done += len(pick)
        if progress is not None:
            progress(done, len(x))
    return filled, effective


def drawn_given(
    flow: Flow,
    schema: TableSchema,
    x: Tensor,
    condition: Tensor | None,
    generator: torch.Generator,
    *,
    candidates: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return rows drawn given a part of their features, which :func:`impute` would call known.

    Unlike there, what is drawn may be missing, as in samples.

    Args:
        flow: flow of the table.
        schema: its columns.
        x: ``(N, D')`` features, NaN where they are to be drawn.
        condition: condition of each row, if the flow is conditional.
        generator: source of all draws.
        candidates: number of candidates for each row.
        progress: called with the number of rows done, and the total.

    Returns:
        the rows, and the effective number of candidates of each.
    """
    rows, effective = _fillings(
        flow, schema, x, condition, 1, candidates, generator, may_miss=schema.names,
        progress=progress,
    )  # fmt: skip
    return rows[0], effective


def filled_table(schema: TableSchema, frame: pd.DataFrame, filled: Tensor) -> pd.DataFrame:
    """Return a table with the values of filled rows in its gaps, and all else as it is.

    Args:
        schema: its columns.
        frame: table with gaps.
        filled: ``(N, D')``, the result of :func:`impute`.
    """
    drawn, found = schema.decode(filled.numpy()), frame.copy()
    for name in frame.columns:
        gap = frame[name].isna().to_numpy()
        if str(name) in drawn and gap.any():
            whole = frame[name].astype(object).mask(gap, drawn[str(name)].set_axis(frame.index))
            found[name] = _typed(whole, frame[name].dtype, drawn[str(name)].dtype)
    return found


def _typed(values: pd.Series, *dtypes: Any) -> pd.Series:
    """Return values as the first of some types that can hold all of them."""
    for dtype in dtypes:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            typed = values.astype(dtype)
            if typed.isna().equals(values.isna()):
                return typed
    return values


def quantiles(
    flow: Flow,
    schema: TableSchema,
    frame: pd.DataFrame,
    column: str,
    q: Sequence[float],
    condition: Tensor | None = None,
    *,
    candidates: int = 500,
    seed: int = 0,
    where: str = "the table",
    tolerate: Tolerate | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Quantiles:
    """Return quantiles of a column of numbers or dates given the others, assuming it has a value.

    Args:
        flow: flow of the table.
        schema: its columns.
        frame: table; it need not have the column itself.
        column: name of the column.
        q: probabilities, in (0, 1).
        condition: condition of each row, if the flow is conditional.
        candidates: number of candidates for each row.
        seed: seed of all draws.
        where, tolerate: as in :func:`known_rows`.
        progress: called with the number of rows done, and the total.

    Raises:
        ValueError: if there is no such column of numbers, or a probability is out of range.
    """
    known = {c.name: c for c in schema.columns if c.is_number}
    if column not in known:
        _check_own(schema, column)
        raise ValueError(
            f"{column!r} is not a column of numbers or dates of the model, which has "
            f"{some_of(list(known)) or 'none'}"
        )
    if not len(q) or not all(0 < p < 1 for p in q):
        raise ValueError(f"the probabilities of quantiles are between 0 and 1, got {list(q)}")
    x = known_rows(
        flow, schema, _with_some(flow, schema, frame, column), where=where, tolerate=tolerate
    )
    place = schema.places[column]
    x[:, place] = math.nan
    own = known[column]
    probabilities = torch.tensor(list(q), dtype=torch.float64)
    chosen = x.repeat(len(probabilities), 1, 1)
    means, effective = x.new_full((2, len(x)), math.inf)
    unknown = _unknown(schema, x)
    unknown[:, place] = False
    on_grid = ~unknown.any(1) & (_number_of(flow, schema, column) is not None)
    places = on_grid.nonzero()[:, 0]
    for part in places.split(GRIDS_AT_ONCE) if len(places) else ():
        given = None if condition is None else condition[part]
        chosen[:, part, place], means[part] = _on_grid(
            flow, schema, own, x[part], probabilities, given
        )
        if progress is not None:
            progress(int(part[-1]) + 1, len(x))
    rest = (~on_grid).nonzero()[:, 0]
    given = None if condition is None else condition[rest]
    generator = torch.Generator().manual_seed(seed)
    done = len(x) - len(rest)
    for found in _candidates(flow, schema, x[rest], given, candidates, generator):
        rows, count, _ = found.values.shape
        keys = torch.as_tensor(own.sort_keys(found.values[:, :, place].flatten(0, 1).numpy()))
        keys = keys.view(rows, count)
        order = keys.argsort(1)
        share = found.weight.gather(1, order).cumsum(1)
        share = share / share[:, -1:]
        pick = torch.searchsorted(share, probabilities.expand(rows, -1).contiguous())
        pick = order.gather(1, pick.clamp(max=count - 1))
        part = rest[found.rows]
        chosen[:, part] = found.values[torch.arange(rows)[:, None], pick].transpose(0, 1)
        means[part] = (found.weight * keys).sum(1) / found.weight.sum(1)
        chosen[:, part[found.effective == 0]] = math.nan
        means[part[found.effective == 0]] = math.nan
        effective[part] = found.effective
        done += rows
        if progress is not None:
            progress(done, len(x))
    follow, implied = _implied(schema, frame, column)
    chosen[:, implied, place] = follow[implied]
    means[implied] = torch.as_tensor(own.sort_keys(follow[implied].numpy()))
    effective[implied] = math.inf
    parts = [schema.decode(part.numpy())[column] for part in chosen]
    table = pd.concat(parts, axis=1).set_axis(list(q), axis=1).set_axis(frame.index)
    mean = own.mean_series(means.numpy()).set_axis(frame.index)
    return Quantiles(table, mean, effective.numpy())


@dataclass
class Quantiles:
    """Quantiles of a column given the others.

    Args:
        table: a row for each of the table and a column for each probability, in the unit and the
            type of the column.
        mean: the mean of each row.
        effective: effective number of candidates ``(N,)``, if they were drawn, and else infinite;
            0 where all candidates are impossible, so that the quantiles are missing.
    """

    table: pd.DataFrame
    mean: pd.Series
    effective: NDArray


def _number_of(flow: Flow, schema: TableSchema, column: str) -> int | None:
    """Return the feature of a column's number if its density is computed on a grid."""
    place = schema.places[column]
    last = place.stop - 1
    plain = all(schema.features[i].kind == "category" for i in range(place.start, last))
    return last if plain and (flow.dim == 1 or has_grid(flow, last)) else None


@torch.no_grad()
def _on_grid(
    flow: Flow,
    schema: TableSchema,
    column: Column,
    x: Tensor,
    q: Tensor,
    condition: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the features ``(Q, N, size)`` of a column's quantiles, and its means ``(N,)``.

    All other features of the rows ``x`` are known.
    """
    layer, place = _columns_of(flow), schema.places[column.name]
    last, indicator = place.stop - 1, place.start if place.stop - place.start > 1 else None
    x = x.to(flow.device)
    x[:, last] = layer.some_values()[last]
    if indicator is not None:
        x[:, indicator] = 0.0
    grid = torch.linspace(-9, 9, 4 * 1024 + 1, dtype=torch.float64, device=x.device)

    def values_of(scores: Tensor) -> Tensor:
        v = layer.scores(x[:1], torch.full_like(x[:1], 0.5))[0].double()
        v = v.repeat(scores.numel(), 1)
        v[:, last] = scores.flatten()
        return layer.inverse(v)[0][:, last].reshape(scores.shape).contiguous()

    with flow.evaluating():
        given = flow.as_condition(condition, len(x))
        if flow.dim == 1:
            steps = (torch.arange(MEAN_POINTS, dtype=torch.float64) + 0.5) / MEAN_POINTS
            scores = normal_quantiles(flow, torch.cat((q, steps)), len(x), given).double()
            values = values_of(scores).cpu()
            return values[: len(q), :, None], values[len(q) :].mean(0)
        density = ScoreDensity.of(flow, x, given, last)
        repeated = _repeated(flow, schema, column, x, given, density)
    shares = q.to(x.device).expand(len(x), -1)
    codes = torch.zeros(shares.shape, dtype=torch.float64, device=x.device)
    on_grid = values_of(grid)
    means = density.mean(grid, on_grid)
    if repeated is not None:
        values, weight = repeated
        means = weight[:, 0] * means + weight[:, 1:] @ values
        inside = values.clamp(on_grid[0], on_grid[-1])
        # A value's score is where those of smaller numbers end.
        scores = grid[torch.searchsorted(on_grid, inside).clamp(max=len(grid) - 1)]
        before = weight[:, :1] * density.probabilities(scores.expand(len(x), -1))
        before = before + weight[:, 1:].cumsum(1) - weight[:, 1:]
        left = shares.clone()
        for k in range(len(values)):
            start, mass = before[:, k : k + 1], weight[:, 1 + k : 2 + k]
            codes[(shares > start) & (shares <= start + mass)] = 1.0 + k
            left -= (shares - start).clamp(min=torch.zeros_like(mass), max=mass)
        shares = (left / weight[:, :1]).clamp(0, 1)
    numbers = values_of(density.quantiles(shares))
    if indicator is None:
        return numbers.T[..., None].cpu(), means.cpu()
    if repeated is not None:
        order = torch.tensor([0, *(1 + column.missing + i for i in _ascending(column))])
        numbers = numbers.masked_fill(codes > 0, math.nan)
        codes = order.to(codes)[codes.long()]
    return torch.stack((codes.T, numbers.T), dim=-1).cpu(), means.cpu()


def _ascending(column: Column) -> list[int]:
    """Return the order of a number's repeated values."""
    repeated = getattr(column, "repeated", ())
    return sorted(range(len(repeated)), key=lambda i: float(repeated[i]))


def _repeated(
    flow: Flow,
    schema: TableSchema,
    column: Column,
    x: Tensor,
    condition: Tensor | None,
    density: ScoreDensity,
) -> tuple[Tensor, Tensor] | None:
    """Return the repeated values of a column ascending, and probabilities ``(N, 1 + K)``.

    The first is that of all other numbers. None if there are no such values.
    """
    order = _ascending(column)
    if not order:
        return None
    layer, place = _columns_of(flow), schema.places[column.name]
    noise = even_noise(flow.dim, DRAWS)
    states = [0.0, *(1.0 + column.missing + i for i in order)]
    center = density.quantiles(torch.tensor([0.5], dtype=torch.float64, device=x.device))
    logs = []
    for state in states:
        rows = x.clone()
        rows[:, place.start] = state
        if state:
            rows[:, place.stop - 1] = math.nan
        each = []
        for u in noise.to(x.device):
            v, slopes = layer.scores(rows, u.expand_as(rows))
            if not state:  # the density at the median
                v[:, place.stop - 1] = center[:, 0].to(v)
                slopes[:, place.stop - 1] = 0.0
            z, log_det = flow.body(v, condition)
            each.append((log_det - 0.5 * z.square().sum(1)).double() + slopes.sum(1))
        logs.append(torch.stack(each).logsumexp(0))
    # The integral of the density, from its value at one point.
    logs[0] = logs[0] - density.log_height(center)[:, 0]
    values = [getattr(column, "repeated", ())[i] for i in order]
    return torch.tensor(values).to(x), torch.stack(logs, 1).softmax(1)


def _forbidden(
    schema: TableSchema, layer: TableColumns, but: Collection[str]
) -> dict[int, tuple[int, float, float]]:
    """Return the code of a missing value for each feature that has one, and its probabilities.

    These are the normal CDF of the scores where it begins and ends. The features of the columns
    ``but`` are left out.
    """
    found = {}
    for column in schema.columns:
        if column.missing and column.name not in but:
            i = schema.places[column.name].start
            x = layer.some_values().repeat(2, 1)
            x[:, i] = column.code_of_missing
            ends = torch.tensor([0.0, 1.0], device=x.device)[:, None].expand_as(x)
            scores = layer.scores(x, ends)[0][:, i].double()
            low, high = torch.special.ndtr(scores).tolist()
            found[i] = column.code_of_missing, low, high
    return found


def _without(v: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return scores moved out of an interval of probabilities, and the change of the log-density.

    Their probabilities are compressed to what is outside, so that no candidate is wasted, however
    probable the interval is.
    """
    left = 1 - (high - low)
    share = torch.special.ndtr(v) * left
    moved = score_of(torch.where(share < low, share, share + (high - low)))
    return moved, log_normal(moved) - log_normal(v) - math.log(left)


def _proposed(
    known: Tensor, pattern: Tensor, mean: Tensor, covariance: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return candidates for the unknown scores, and their log-density.

    Three quarters come from a Gaussian given the known scores, the rest from one that ignores them.
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
