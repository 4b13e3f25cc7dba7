r"""Scores of a table's rows: log-likelihoods, outlier scores, p-values and explanations.

They are computed in blocks of a fixed size, with noise that follows from the row, so a row has the
same scores, to the last bit, in whatever part of a table, and on whatever engine, it is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.columns.impossible import Impossible, possible_rows
from realnvp.data.dataset import Split
from realnvp.flow import Flow
from realnvp.outliers.calibration import OutlierScorer, statistics_by_block
from realnvp.outliers.explain import surprises
from realnvp.pretrained import table_of

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
    possible = torch.as_tensor(possible_rows(impossible, len(x)))
    return x.masked_fill(~possible[:, None], torch.nan)


def explained(
    flow: Flow,
    x: Tensor,
    condition: Tensor | None = None,
    impossible: Sequence[Impossible] = (),
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    r"""Return the contribution of each column to how unusual rows are, in nats.

    It is the expected increase of the log-density if the column is drawn again, given the row's
    other columns,

    .. math:: E_{x_j' \sim p(x_j | x_{-j})}[\log p(x_j', x_{-j})] - \log p(x),

    which is about 0 for an ordinary value and does not depend on the unit.

    Args:
        flow: flow of vectors, such as the rows of a table.
        x: ``(N, D)`` features; impossible values are marked.
        condition: condition of each row, if the flow is conditional.
        impossible: the impossible values; without them, columns are named by the marks.
        progress: called with the number of features done, and the total.

    Returns:
        a row for each of ``x`` and a column for each of the table: infinite for an impossible
        value, and NaN in the other columns of such a row. What contradicts another column is
        blamed alone: the copy, and not its source. A column that is constant or follows from
        others is NaN elsewhere, too.
    """
    if condition is not None:
        condition = condition.to(flow.device)
    values = surprises(flow, x.to(flow.device), condition, progress=progress).cpu().numpy()
    schema = table_of(flow)
    if schema is None:
        return pd.DataFrame(values, columns=flow.column_names)
    table = schema.sums(values).reindex(columns=[column.name for column in schema.columns])
    columns = {feature.name: c.name for c in schema.columns for feature in c.features()}
    marked = np.isinf(values).any(1)
    table[marked] = table[marked].where(np.isinf(table[marked]))
    table[~possible_rows(impossible, len(x))] = np.nan
    for each in impossible:
        name = columns.get(each.column, each.column)
        table.iloc[list(each.rows), table.columns.get_loc(name)] = np.inf
    return table
