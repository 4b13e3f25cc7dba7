"""Rows of a table that are drawn from a flow: within the reach of the data, and by rules.

They take a flow and the columns of its table, and are used by the command line and the estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.columns.kinds import Category
from realnvp.columns.schema import TableSchema
from realnvp.flow import Flow
from realnvp.reports.samples import with_condition
from realnvp.tables.inference import drawn_given, known_rows
from realnvp.utils.errors import some_of
from realnvp.utils.progress import warn

__all__ = ["draw", "sample_table"]

REDRAWS = 8
"""Number of times that rows beyond the reach of the data are drawn again."""

MOST_DRAWS = 1_000
"""Largest number of rows that are drawn for each row that the rules accept."""

AT_LEAST = 0.02
"""Fraction of drawn rows with the values asked for, below which rows are drawn given these."""

FEW = 10
"""Effective number of candidates below which a draw is unreliable."""


def draw(
    flow: Flow,
    schema: TableSchema,
    n: int,
    condition: Tensor | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray:
    """Draw coordinates of rows ``(n, D')`` within the reach of the table's columns.

    The few that are beyond it are drawn again.

    Args:
        flow: flow of the table.
        schema: its columns.
        n: number of rows.
        condition: condition of each row, if the flow is conditional.
        temperature: standard deviation of the latents.
        generator: source of the latents.
        progress: called with the number of rows drawn so far, and the total.

    Raises:
        ValueError: if samples are not finite.
    """
    x = flow.sample(n, temperature, condition, generator, progress=progress).cpu().numpy()
    if not np.isfinite(x[:, schema.always_present]).all():
        raise ValueError(
            f"samples at temperature {temperature:g} are not finite: lower --temperature"
        )
    for _ in range(REDRAWS):
        near = schema.within_range(x)
        (far,) = ((near != x) & ~np.isnan(x)).any(1).nonzero()
        if not len(far):
            break
        own = None if condition is None else condition[torch.as_tensor(far)]
        x[far] = flow.sample(len(far), temperature, own, generator).cpu().numpy()
    return schema.within_range(x)


def sample_table(
    flow: Flow,
    schema: TableSchema,
    n: int,
    *,
    condition: Callable[[int], Tensor | None] | None = None,
    given: Mapping[str, Any] | None = None,
    where: Sequence[str] = (),
    reject: Sequence[str] = (),
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Draw rows of a table that satisfy rules, with their condition in the last columns.

    Rows with the values ``given`` are drawn by rejection, which is exact, where enough rows have
    them, and else by sampling importance resampling (:mod:`realnvp.tables.inference`).

    Args:
        flow: flow of the table.
        schema: its columns.
        n: number of rows.
        condition: returns the condition of a number of rows, if the flow is conditional.
        given: values that columns of the table have.
        where: expressions of ``pandas.DataFrame.query`` that are true for all rows.
        reject: expressions that are true for no row. One that a missing value makes unknown is not
            true.
        temperature: standard deviation of the latents.
        generator: source of the latents.
        progress: called with the number of rows drawn so far, and the total.

    Raises:
        ValueError: if a rule is invalid, almost no row passes, or no row can have the values.
    """
    given = dict(given or {})
    for name, value in given.items():
        if name not in schema.names:
            raise ValueError(f"the model has no column {name!r}: there are {some_of(schema.names)}")
        _check_category(schema, name, value)
    rules = bool(given or where or reject)
    known = None  # other temperatures, and densities on a domain, draw by rejection alone
    if given and temperature == 1 and flow.columns is not None:
        known = _features_of(flow, schema, given)
    found: list[pd.DataFrame] = []
    have = drawn = 0
    by_values = False  # once too few rows have the values
    while have < n:
        ask = n if not rules else min(max(2 * (n - have), 1_000), 50_000)
        if by_values:
            ask = min(ask, n) if where or reject else n - have
        own = None if condition is None else condition(ask)
        if own is not None and rules:
            # Conditions may be sorted, and the first rows that pass would be of the first ones.
            order = torch.randperm(ask, generator=generator, device=own.device)
            own = own[order]
        if by_values and known is not None:
            x = _given_values(flow, schema, known.expand(ask, -1), own, generator, progress)
        else:
            bar = None if rules else progress
            x = draw(flow, schema, ask, own, temperature, generator, bar)
        frame = with_condition(flow, schema.decode(x), own)
        drawn += ask
        for name, value in given.items() if not by_values else ():
            frame = frame[_equals(frame[name], value)]
        by_values = by_values or (known is not None and len(frame) < AT_LEAST * ask)
        if where or reject:
            parsed = schema.parsed(frame)
            kept = np.ones(len(frame), dtype=bool)
            for rule in where:
                kept &= _query(parsed, rule)
            for rule in reject:
                kept &= ~_query(parsed, rule)
            frame = frame[kept]
        found.append(frame)
        have += len(frame)
        if progress is not None:
            progress(min(have, n), n)
        hopeless = have < n and drawn >= MOST_DRAWS * max(1, have) and drawn >= 20_000
        if hopeless:
            raise ValueError(
                f"only {have} of {drawn:,} drawn rows pass the rules: ask for fewer, or train with "
                "the column as a condition (--condition NAME)"
            )
    return pd.concat(found, ignore_index=True).iloc[:n]


def _features_of(flow: Flow, schema: TableSchema, given: Mapping[str, Any]) -> Tensor:
    """Return the features ``(1, D')`` of some columns' values, NaN in all other columns."""
    values = {column.name: given.get(column.name) for column in schema.columns}
    row = pd.DataFrame({name: pd.Series([value]) for name, value in values.items()})
    return known_rows(flow, schema, row, where="what is given", unknown=True)


def _given_values(
    flow: Flow,
    schema: TableSchema,
    x: Tensor,
    condition: Tensor | None,
    generator: torch.Generator | None,
    progress: Callable[[int, int], None] | None,
) -> NDArray:
    """Return rows with the known features of ``x``, of which the rest is drawn."""
    # Candidates are drawn on the CPU, wherever the flow is.
    seed = torch.randint(2**31 - 1, (), generator=generator, device=flow.device)
    draws = torch.Generator().manual_seed(int(seed))
    rows, effective = drawn_given(flow, schema, x, condition, draws, progress=progress)
    if not bool((effective > 0).all()):
        raise ValueError("no row has the values that are given: together, they are impossible")
    if float(effective.median()) < FEW:
        warn(
            f"the values that are given are so unusual that each row is drawn from fewer than {FEW}"
            " effective candidates: rows are less varied than they should be"
        )
    return schema.within_range(rows.numpy())


def _check_category(schema: TableSchema, name: str, value: Any) -> None:
    """Raise ValueError if a column of categories does not have the one that is asked for."""
    # Drawn rows cannot show this: those drawn first may lack a rare category.
    column = schema.column(name)
    known = pd.Series(column.categories if isinstance(column, Category) else (), name=name)
    if len(known) and not _equals(known, value).any():
        names = some_of(list(map(str, known)))
        raise ValueError(f"no row has {name} = {value!r}; there are {names}")


def _equals(column: pd.Series, value: Any) -> NDArray:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        try:
            result: NDArray = (column == float(value)).to_numpy(dtype=bool, na_value=False)
        except ValueError as error:
            raise ValueError(f"column {column.name!r} holds numbers, got {value!r}") from error
        return result
    text: NDArray = (column.astype(str) == str(value)).to_numpy(dtype=bool)
    return text


def _query(frame: pd.DataFrame, rule: str) -> NDArray:
    try:
        found = frame.eval(rule, engine="python")
    except Exception as error:  # any error that pandas raises for a rule
        raise ValueError(
            f"the rule {rule!r} cannot be applied: {' '.join(str(error).split())}; the columns are "
            f"{some_of(list(frame.columns))}, and a name with spaces or dots is in backticks"
        ) from error
    each = pd.Series(found).convert_dtypes()
    if len(each) != len(frame) or not pd.api.types.is_bool_dtype(each.dtype):
        raise ValueError(
            f"the rule {rule!r} is not true or false for each row: write one such as 'age > 120'"
        )
    result: NDArray = each.to_numpy(dtype=bool, na_value=False)  # a missing value satisfies no rule
    return result
