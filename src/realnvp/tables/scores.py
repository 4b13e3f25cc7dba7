r"""Scores of a table's rows: log-likelihoods, outlier scores, p-values and explanations.

They are computed in blocks of a fixed size, with noise that follows from the row, so a row has the
same scores, to the last bit, in whatever part of a table, and on whatever engine, it is scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.columns.impossible import Impossible
from realnvp.columns.schema import TableSchema
from realnvp.data.dataset import Split
from realnvp.flow import Flow
from realnvp.outliers.calibration import OutlierScorer, statistics_by_block
from realnvp.outliers.explain import surprises

__all__ = ["explained", "marked", "scores"]


def scores(
    scorer: OutlierScorer,
    x: Tensor,
    condition: Tensor | None = None,
    *,
    samples: int = 1,
    seed: int = 0,
) -> dict[str, NDArray]:
    """Return the scores of rows by name, each ``(N,)``; see :meth:`OutlierScorer.columns`.

    Args:
        scorer: scorer of a model of a table.
        x: ``(N, D)`` features; impossible rows have a mark (``TableColumns.mark``).
        condition: condition of each row, if the flow is conditional.
        samples: number of noise draws of the log-likelihood, for discrete columns.
        seed: seed of the noise.
    """
    blocks = [
        scorer.columns(statistics)
        for _, statistics in statistics_by_block(
            scorer.flow, Split(x, condition), scorer.near, samples=samples, seed=seed
        )
    ]
    return {n: np.concatenate([np.empty(0), *(b[n] for b in blocks)]) for n in scorer.names}


def marked(x: Tensor, impossible: Sequence[Impossible]) -> Tensor:
    """Return features with a mark in all rows that are impossible."""
    rows = torch.zeros(len(x), dtype=torch.bool)
    for each in impossible:
        rows[list(each.rows)] = True
    return x.masked_fill(rows[:, None], torch.nan)


def explained(
    flow: Flow,
    schema: TableSchema,
    x: Tensor,
    condition: Tensor | None = None,
    impossible: Sequence[Impossible] = (),
) -> pd.DataFrame:
    r"""Return the contribution of each column to how unusual rows are, in nats.

    It is the expected increase of the log-density if the column is drawn again, given the row's
    other columns,

    .. math:: E_{x_j' \sim p(x_j | x_{-j})}[\log p(x_j', x_{-j})] - \log p(x),

    which is about 0 for an ordinary value and does not depend on the unit.

    Args:
        flow: flow of the table.
        schema: its columns.
        x: ``(N, D)`` features; impossible rows have a mark.
        condition: condition of each row, if the flow is conditional.
        impossible: values that the schema shows to be impossible.

    Returns:
        a row for each of ``x`` and a column for each of the table: infinite for an impossible
        value, and NaN in the other columns of such a row, unless the column has no features. A
        column that is constant or follows from others is NaN elsewhere, too.
    """
    values = surprises(flow, x.to(flow.device), condition).cpu().numpy()
    table = schema.sums(values).reindex(columns=[column.name for column in schema.columns])
    marked = np.isnan(values).all(1) | np.isinf(values).any(1)
    table[marked] = table[marked].where(np.isinf(table[marked]))
    for each in impossible:
        if each.column in table:  # not one of the features
            table.iloc[list(each.rows), table.columns.get_loc(each.column)] = np.inf
    return table
