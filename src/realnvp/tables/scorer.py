r"""A scorer of batches of rows, for whatever engine distributes them.

>>> import numpy as np, pandas as pd, tempfile
>>> from realnvp import RealNVPDensity, Scorer
>>> table = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 2)), columns=["a", "b"])
>>> density = RealNVPDensity(max_steps=50, random_state=0).fit(table[:200]).calibrate(table[200:])
>>> with tempfile.TemporaryDirectory() as folder:
...     density.save(folder)
...     scored = Scorer(folder)(table[:2])
>>> list(scored)
['a', 'b', 'log_likelihood', 'outlier_score', 'p_value']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from realnvp.columns.schema import TableSchema
from realnvp.flow import Flow
from realnvp.outliers.calibration import OutlierScorer
from realnvp.pretrained import load, table_of
from realnvp.tables.condition import Condition
from realnvp.tables.frames import as_pandas, as_table
from realnvp.tables.inference import known_rows, quantiles
from realnvp.tables.scores import explained, marked, scores
from realnvp.utils.threads import single_thread

__all__ = ["Scorer"]


class Scorer:
    """Add scores to batches of rows: ``batch -> batch``, on Ray, Spark, Dask or one machine.

    The scores are those of ``realnvp score``: ``log_likelihood`` in nats, ``outlier_score``, and
    for a model with a calibration ``p_value``. An impossible row, such as one with an unknown
    category, has a log-likelihood of minus infinity; it raises no error. A row has the same scores,
    to the last bit, in whatever batch it is, on machines of the same kind.

    It is small, can be pickled, loads its model once in each process that uses it, and takes one
    thread. If the table has a column of the same name, the name of the score ends with
    " (realnvp)".

    Args:
        model: what :func:`realnvp.load` takes, a model of a table; workers must reach it there.
        explain: add a column ``surprise: NAME`` for each column of the table, its contribution to
            how unusual the row is (:meth:`realnvp.RealNVPDensity.explain`).
        quantiles: probabilities of quantiles by the name of a column of numbers, which are added as
            ``NAME (Q)``, given the rest of the row.
        samples: number of noise draws of the log-likelihood of discrete columns.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if it is not a model of a table; when called, if a column is missing, or does
            not hold what the model's does.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        explain: bool = False,
        quantiles: Mapping[str, Sequence[float]] | None = None,
        samples: int = 1,
    ) -> None:
        address = str(model)
        self.model = str(Path(address).absolute()) if Path(address).exists() else address
        self.explain, self.quantiles = explain, dict(quantiles or {})
        self.samples = samples
        _loaded(self.model)

    def __call__(self, batch: Any) -> Any:
        """Return a batch with the columns of scores.

        Args:
            batch: a table of pandas, polars or Arrow, or a mapping of names to arrays, as Ray has.

        Returns:
            a table of the same kind.
        """
        frame = pd.DataFrame(dict(batch)) if isinstance(batch, Mapping) else as_pandas(batch)
        if not isinstance(frame, pd.DataFrame):
            raise ValueError(f"a batch is a table with named columns, got {type(batch).__name__}")
        with single_thread():
            added = self._scored(as_table(frame))
        taken = set(map(str, frame.columns))
        added = {f"{k} (realnvp)" if k in taken else k: v for k, v in added.items()}
        return _with_columns(batch, frame, added)

    def _scored(self, frame: pd.DataFrame) -> dict[str, Any]:
        flow, scorer, schema, kind = _loaded(self.model)
        noted: list[Any] = []
        x = known_rows(flow, schema, frame, where="the batch", tolerate=noted.extend)
        codes = kind.codes(kind.of_table(frame, "the batch"), len(frame))
        added: dict[str, Any] = scores(scorer, marked(x, noted), codes, samples=self.samples)
        if self.explain:
            table = explained(flow, x, codes, noted)
            added |= {f"surprise: {name}": table[name].to_numpy() for name in table}
        for column, q in self.quantiles.items():
            predicted = quantiles(
                flow, schema, frame, column, q, codes, where="the batch", tolerate=noted.extend
            )
            added |= {f"{column} ({p:g})": predicted.table[p].to_numpy() for p in q}
        return added


@cache
def _loaded(model: str) -> tuple[Flow, OutlierScorer, TableSchema, Condition]:
    """Return a model, its scorer, its columns and its condition, once in each process."""
    flow = load(model)
    schema = table_of(flow)
    if schema is None or flow.columns is None:
        raise ValueError(f"{model} is not a model of a table: train one with train table")
    return flow, OutlierScorer(flow), schema, Condition.of_flow(flow)


def _with_columns(batch: Any, frame: pd.DataFrame, added: dict[str, Any]) -> Any:
    """Return a batch with more columns, in its own kind."""
    if isinstance(batch, pd.DataFrame):
        return frame.assign(**added)
    if isinstance(batch, Mapping):
        return {**batch, **added}
    package = type(batch).__module__.partition(".")[0]
    if package == "polars":
        return batch.with_columns(**added)
    import pyarrow as pa

    table = pa.table(batch) if isinstance(batch, pa.RecordBatch) else batch
    for name, values in added.items():
        table = table.append_column(name, pa.array(values))
    return table
