"""Tab of tables: synthetic rows, what the columns hold, and one column given the others."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from realnvp import plots
from realnvp.columns.schema import TableSchema
from realnvp.evaluation import Progress, column_density
from realnvp.flow import Flow
from realnvp.pretrained import table_of
from realnvp.reports.samples import write_samples
from realnvp.studio.jobs import Jobs, Notify, Results, integer, seed_box
from realnvp.studio.models import OWN_SAMPLES, Library, condition_of_label
from realnvp.studio.scoring import as_image

__all__ = ["columns_of", "draw_table", "table_tab"]

DRAWS = 300
"""Number of values that are drawn of a column given the others."""


def table_tab(
    library: Library, jobs: Jobs, model: gr.Dropdown, label: gr.Dropdown
) -> tuple[gr.Dropdown, list[Results]]:
    """Make the tab; return its choice of a column, and its results."""
    gr.Markdown("## Synthetic rows\nA table as the data might have been, with the same columns.")
    with gr.Row():
        n = gr.Number(
            1000, label="Number", info="How many rows to draw.", precision=0, minimum=1,
            maximum=1_000_000, elem_id="table-n",
        )  # fmt: skip
        seed = seed_box("table", "The same seed gives the same rows.")
    go = jobs.buttons("table", "Draw rows")
    drawn = Results(
        "table",
        "Press **Draw rows**: a file to download, and each column next to the real one, "
        "appear here.",
    )
    with drawn:
        file = gr.DownloadButton("Synthetic rows (CSV)", elem_id="table-csv")
        columns = gr.Dataframe(
            label="Columns: mean ± standard deviation, or the commonest value; missing values",
            interactive=False, elem_id="table-columns", buttons=[],
        )  # fmt: skip
        pictures = gr.Image(label="Real and synthetic", elem_id="table-marginals", buttons=[])
    gr.Markdown(
        "## One column given the others\nTake a row, hide one column, and ask what it might "
        "have been."
    )
    with gr.Row():
        column = gr.Dropdown(
            [], label="Column", info="The one that is hidden.", elem_id="table-column"
        )
        row = gr.Number(
            0, label="Row", info="Number of the row among the examples, from 0.", precision=0,
            minimum=0, elem_id="table-row",
        )  # fmt: skip
    ask = jobs.buttons("table-ask", "p(column | the others)")
    asked = Results("table-ask", "Press **p(column | the others)**: its density appears here.")
    with asked:
        values = gr.Dataframe(label="The row", interactive=False, elem_id="table-held", buttons=[])
        answer = gr.Image(label="What the column might be", elem_id="table-answer", buttons=[])

    @jobs.task("sampling")
    def draw(
        notify: Notify, name: str, label: str | None, n: float | None, seed: float | None
    ) -> list[Any]:
        flow = library.get(name)
        if flow.levels is not None:
            raise ValueError("this tab is for models of tables")
        count, seed = integer(n, "number"), integer(seed, "seed")
        generator, schema = torch.Generator().manual_seed(seed), table_of(flow)
        path = jobs.path("synthetic.csv")
        if schema is None:
            condition = condition_of_label(flow, label, count)
            samples = flow.sample(count, condition=condition, generator=generator, progress=notify)
            write_samples(flow, samples, condition, path)
            synthetic = pd.DataFrame(samples.numpy(), columns=flow.column_names)
        else:
            synthetic = draw_table(flow, label, count, generator, progress=notify)
            synthetic.to_csv(path, index=False)
        split, what = library.examples(name)
        real = _frame(flow, schema, split.x)
        if schema is not None:  # so that dates and numbers that are text can be plotted
            real, synthetic = schema.parsed(real), schema.parsed(synthetic)
        synthetic = synthetic[list(real.columns)]
        if what == OWN_SAMPLES:  # which are no real rows to compare with
            real, what = real.iloc[:0], "its data are not here"
        figure = plots.table_marginals(real, synthetic)
        options = ["--n", count, "--seed", seed, "--out", "synthetic.csv"]
        note = f"Real: {what}. On the command line: {library.command('sample', name, *options)}"
        facts = _facts(real, synthetic, schema)
        return [*drawn.shown(note), str(path), facts, as_image(figure)]

    @jobs.task("asking")
    def ask_for(
        notify: Notify, name: str, label: str | None, column: str, row: float | None
    ) -> list[Any]:
        flow = library.get(name)
        split, what = library.examples(name)
        if flow.levels is not None or column not in columns_of(flow):
            raise ValueError(f"there is no column {column!r}")
        i = integer(row, "row")
        if not 0 <= i < len(split):
            raise ValueError(f"there are {len(split):,} rows, 0 to {len(split) - 1}")
        schema, x = table_of(flow), split.x[i : i + 1]
        conditions = split.condition
        condition = (
            condition_of_label(flow, label, 1) if conditions is None else conditions[i : i + 1]
        )
        shown = _frame(flow, schema, x)
        if schema is None:
            j = flow.column_names.index(column)
            low, high = plots.range_of(split.x[:, j].numpy())
            at = torch.linspace(low, high, 400)
            density = column_density(flow, x[0], j, at, condition)
            figure = plots.conditional(at.numpy(), density.numpy(), float(x[0, j]), column)
        else:
            figure = _given_the_others(flow, schema, x, column, condition, notify)
        table = {"headers": list(shown.columns), "data": shown.astype(str).values.tolist()}
        note = f"Row {i} of {len(split):,} {what}."
        return [*asked.shown(note), table, as_image(figure)]

    drawn.on(go.click, draw, [model, label, n, seed], [file, columns, pictures])
    asked.on(ask.click, ask_for, [model, label, column, row], [values, answer])
    return column, [drawn, asked]


def _given_the_others(
    flow: Flow,
    schema: TableSchema,
    x: Tensor,
    column: str,
    condition: Tensor | None,
    progress: Progress,
) -> Figure:
    """Draw what a column of a row ``(1, D')`` of a table might be, given its other columns."""
    from realnvp.tables.inference import category_proba, impute

    shown = schema.decode(x.numpy())
    kind = schema.column(column).kind
    if kind == "categorical":
        p = category_proba(flow, schema, shown, column, condition).iloc[0]
        return plots.probabilities(p, shown[column].iloc[0], column)
    if kind in ("constant", "copy", "linear"):
        raise ValueError(f"column {column!r} follows from the others: it has one value only")
    unknown = x.expand(DRAWS, -1).clone()
    unknown[:, schema.places[column]] = float("nan")
    repeated = None if condition is None else condition.expand(DRAWS, *condition.shape[1:])
    filled, _ = impute(flow, schema, unknown, repeated, progress=progress)
    draws = schema.parsed(schema.decode(filled.numpy()))[column]
    return plots.draws(draws, schema.parsed(shown)[column].iloc[0], column)


def draw_table(
    flow: Flow,
    label: str | None,
    n: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return synthetic rows with the columns of the table, as ``realnvp sample`` writes them."""
    from realnvp.tables.sampling import sample_table  # takes a second; no other tab needs it

    schema = table_of(flow)
    assert schema is not None  # checked by the caller
    return sample_table(
        flow, schema, n, condition=lambda m: condition_of_label(flow, label, m),
        temperature=temperature, generator=generator, progress=progress,
    )  # fmt: skip


def columns_of(flow: Flow) -> list[str]:
    """Return the names of a table's columns; [] for images."""
    if flow.levels is not None:
        return []
    schema = table_of(flow)
    return list(flow.column_names if schema is None else schema.names)


def _frame(flow: Flow, schema: TableSchema | None, x: Tensor) -> pd.DataFrame:
    """Return rows as a table with their own columns."""
    if schema is None:
        return pd.DataFrame(x.numpy(), columns=flow.column_names)
    return schema.decode(x.numpy())


def _facts(real: pd.DataFrame, synthetic: pd.DataFrame, schema: TableSchema | None) -> dict:
    """Return a summary of each column, real and synthetic; without real rows, only synthetic."""
    frames = {"real": real, "synthetic": synthetic}
    frames = {what: frame for what, frame in frames.items() if len(frame)}
    kinds = {} if schema is None else {c.name: c.kind for c in schema.columns}
    data = [
        [name, kinds.get(name, "continuous"), *(_summary(f[name]) for f in frames.values())]
        for name in real.columns
    ]
    return {"headers": ["column", "kind", *frames], "data": data}


def _summary(values: pd.Series) -> str:
    """Return what is typical of a column, and the fraction of missing values, if any."""
    missing = float(values.isna().mean())
    parts = [_typical(values.dropna())] if missing < 1 else []
    return ", ".join([*parts, *([f"{missing:.1%} missing"] if missing else [])])


def _typical(values: pd.Series) -> str:
    """Return mean and deviation, the median of dates and durations, or the commonest category."""
    if values.dtype.kind in "mM":
        middle = str(values.quantile(0.5, interpolation="lower"))
        return f"median {middle.removesuffix(' 00:00:00')}"
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        mean = _readable(values.mean(), 4)
        return f"{mean} ± {_readable(values.std(), 3)}" if len(values) > 1 else mean
    counts = values.astype(str).value_counts(normalize=True)
    return f"{counts.index[0]} {counts.iloc[0]:.0%}" + (
        f", {len(counts) - 1} more" if len(counts) > 1 else ""
    )


def _readable(value: float, digits: int) -> str:
    """Return a number in so many digits, without an exponent unless it is very large or small.

    >>> _readable(40860.3, 4), _readable(0.0123456, 3), _readable(3.2e12, 3)
    ('40,860', '0.0123', '3.2e+12')
    """
    if 10 ** (digits - 1) <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"
