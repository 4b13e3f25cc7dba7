"""Tabs of vector models: the plane, and tables."""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr
import torch
from numpy.typing import NDArray

from realnvp import plots
from realnvp.data.toy import TOY
from realnvp.evaluation import column_density
from realnvp.studio.jobs import Desk, guarded
from realnvp.studio.models import Library, condition_of
from realnvp.studio.scoring import as_image

__all__ = ["plane_tab", "table_tab"]


def plane_tab(library: Library, desk: Desk, model: gr.Dropdown, label: gr.Dropdown) -> list[Any]:
    """Make the tab of 2D models; return the sliders of its point."""
    go = gr.Button("Draw", variant="primary", elem_id="plane-go")
    whole = gr.Image(label="Data, samples, density, bent grid", elem_id="plane-whole", buttons=[])
    gr.Markdown("Move a point through the data, and watch its latent.")
    with gr.Row():
        x1 = gr.Slider(-3, 3, 0, step=0.01, label="x1", elem_id="plane-x1")
        x2 = gr.Slider(-3, 3, 0, step=0.01, label="x2", elem_id="plane-x2")
    where = gr.Markdown(elem_id="plane-where")
    point = gr.Image(label="The point and its latent", elem_id="plane-point", buttons=[])

    @functools.lru_cache(maxsize=32)
    def plane_of(name: str, label: str | None) -> tuple[plots.Plane, NDArray]:
        flow = library.get(name)
        if flow.shape != (2,):
            raise ValueError("this picture is of two columns, and the model has another shape")
        split, _ = library.examples(name)
        source = ((flow.trained_on or {}).get("data") or {}).get("source")
        known = TOY.get(str(source))
        condition = condition_of(flow, label, 1)
        first, second = flow.column_names
        plane = plots.Plane.of(
            flow,
            split.x[:3000],
            name=name,
            condition=condition,
            bounds=known.bounds if known else None,
            true_log_density=known.log_density if known else None,
            columns=None if known else (first, second),
        )
        return plane, plots.heat_map(plane)

    @guarded
    def draw(name: str, label: str | None) -> NDArray:
        plane, _ = plane_of(name, label)
        return as_image(plots.planes([plane]))

    @guarded
    def move(name: str, label: str | None, x1: float, x2: float) -> tuple[str, NDArray]:
        plane, heat = plane_of(name, label)
        flow = library.get(name)
        x = torch.tensor([[x1, x2]], dtype=flow.dtype)
        condition = condition_of(flow, label, 1)
        noise = torch.full_like(x, 0.5) if flow.noisy else None
        z, terms = flow.log_prob_terms(x, condition, noise)
        a, b = z[0].tolist()
        log_p = sum(term.item() for term in terms.values())
        text = f"latent ({a:.3f}, {b:.3f}), log-density {log_p:.4f} nats: " + ", ".join(
            f"{key} {term.item():.3f}" for key, term in terms.items()
        )
        return text, as_image(plots.place(plane, (x1, x2), (a, b), heat=heat))

    go.click(draw, [model, label], whole)
    for slider in (x1, x2):
        slider.change(
            move, [model, label, x1, x2], [where, point], show_progress="hidden",
            trigger_mode="always_last",
        )  # fmt: skip
    return [x1, x2]


def table_tab(library: Library, desk: Desk, model: gr.Dropdown, label: gr.Dropdown) -> gr.Dropdown:
    """Make the tab of tables; return its choice of a column."""
    with gr.Row():
        n = gr.Number(1000, label="Synthetic rows", precision=0, minimum=1, maximum=1_000_000,
                      elem_id="table-n")  # fmt: skip
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="table-seed")
        go = gr.Button("Draw rows", variant="primary", elem_id="table-go")
    file = gr.DownloadButton("CSV of the synthetic rows", interactive=False, elem_id="table-csv")
    columns = gr.Dataframe(label="Columns", interactive=False, elem_id="table-columns")
    pictures = gr.Image(label="Real and synthetic", elem_id="table-marginals", buttons=[])
    gr.Markdown("One column given the others: take a row, and ask what the column might have been.")
    with gr.Row():
        column = gr.Dropdown([], label="Column", elem_id="table-column")
        row = gr.Number(0, label="Row of the examples", precision=0, minimum=0, elem_id="table-row")
        ask = gr.Button("p(column | the others)", elem_id="table-ask")
    answer = gr.Image(label="Density of the column", elem_id="table-answer", buttons=[])

    @guarded
    def draw(
        name: str,
        label: str | None,
        n: float,
        seed: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        import pandas as pd

        tell = desk.begin(request, progress, "sampling")
        flow = library.get(name)
        if flow.levels is not None:
            raise ValueError("the model is one of images: this is of tables")
        count = int(n)
        generator = torch.Generator().manual_seed(int(seed))
        condition = condition_of(flow, label, count)
        samples = flow.sample(count, condition=condition, generator=generator, progress=tell)
        synthetic = pd.DataFrame(samples.numpy(), columns=flow.column_names)
        path = desk.path("synthetic.csv")
        synthetic.to_csv(path, index=False, float_format="%.9g")
        split, _ = library.examples(name)
        real = pd.DataFrame(split.x.numpy(), columns=flow.column_names)
        both = {"real": real, "synthetic": synthetic}
        headers = ["column", *(f"{stat}, {kind}" for stat in ("mean", "std") for kind in both)]
        facts = [
            [c, *(f"{getattr(frame[c], stat)():.4g}" for stat in ("mean", "std")
                  for frame in both.values())]
            for c in flow.column_names
        ]  # fmt: skip
        figure = plots.marginals(split.x.numpy(), samples.numpy(), flow.column_names)
        button = gr.DownloadButton(value=str(path), interactive=True)
        return button, {"headers": headers, "data": facts}, as_image(figure)

    @guarded
    def given(name: str, label: str | None, column: str, row: float) -> NDArray:
        flow = library.get(name)
        split, _ = library.examples(name)
        names = flow.column_names
        if flow.levels is not None or column not in names:
            raise ValueError(f"there is no column {column!r}")
        if not 0 <= int(row) < len(split):
            raise ValueError(f"there are {len(split):,} rows, 0 to {len(split) - 1}")
        j, values = names.index(column), split.x[int(row)]
        own = split.condition
        condition = condition_of(flow, label, 1) if own is None else own[int(row) : int(row) + 1]
        low, high = plots.range_of(split.x[:, j].numpy())
        at = torch.linspace(low, high, 400)
        density = column_density(flow, values, j, at, condition)
        figure = plots.conditional(at.numpy(), density.numpy(), float(values[j]), column)
        return as_image(figure)

    go.click(draw, [model, label, n, seed], [file, columns, pictures])
    ask.click(given, [model, label, column, row], answer)
    return column
