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
from realnvp.utils.errors import some_of

__all__ = ["draw", "sample_table"]

REDRAWS = 8
"""Number of times that rows beyond the reach of the data are drawn again."""

MOST_DRAWS = 1_000
"""Largest number of rows that are drawn for each row that the rules accept."""


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
    reject: Sequence[str] = (),
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Draw rows of a table that satisfy rules, with their condition in the last columns.

    Args:
        flow: flow of the table.
        schema: its columns.
        n: number of rows.
        condition: returns the condition of a number of rows, if the flow is conditional.
        given: values that columns of the table must have. Other rows are rejected, which draws from
            the exact conditional distribution.
        reject: expressions of ``pandas.DataFrame.query``; rows for which any is true are rejected.
            One that a missing value makes unknown is not true.
        temperature: standard deviation of the latents.
        generator: source of the latents.
        progress: called with the number of rows drawn so far, and the total.

    Raises:
        ValueError: if a rule is invalid, or almost no row passes.
    """
    for name, value in (given or {}).items():
        _check_category(schema, name, value)
    found: list[pd.DataFrame] = []
    have = drawn = 0
    while have < n:
        ask = n if not (given or reject) else min(max(2 * (n - have), 1_000), 50_000)
        own = None if condition is None else condition(ask)
        if own is not None and (given or reject):
            # Conditions may be sorted, and the first rows that pass would be of the first ones.
            order = torch.randperm(ask, generator=generator, device=own.device)
            own = own[order]
        x = draw(flow, schema, ask, own, temperature, generator, progress)
        frame = with_condition(flow, schema.decode(x), own)
        drawn += ask
        for name, value in (given or {}).items():
            frame = frame[_equals(frame[name], value)]
        for rule in reject:
            frame = frame[~_query(schema.parsed(frame), rule)]
        found.append(frame)
        have += len(frame)
        if have < n and drawn >= MOST_DRAWS * max(1, have) and drawn >= 20_000:
            raise ValueError(
                f"only {have} of {drawn:,} drawn rows pass the rules: ask for fewer, or train with "
                "the column as a condition (--condition NAME)"
            )
    return pd.concat(found, ignore_index=True).iloc[:n]


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
