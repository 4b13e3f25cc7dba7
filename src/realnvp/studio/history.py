"""Tab of runs: curves over each other, the settings that differ, samples through time."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from realnvp import plots
from realnvp.reports.compare import compare
from realnvp.reports.run import Run
from realnvp.studio.jobs import guarded
from realnvp.studio.models import Library
from realnvp.studio.scoring import as_image

__all__ = ["runs_tab"]


def runs_tab(library: Library) -> None:
    """Make the tab."""
    names = list(library.found_runs())
    with gr.Row():
        chosen = gr.CheckboxGroup(names, value=names[:2], label="Runs", elem_id="runs-chosen")
        by = gr.Radio(["minutes", "steps"], value="minutes", label="By", elem_id="runs-by")
    with gr.Row():
        go = gr.Button("Compare", variant="primary", elem_id="runs-go")
        again = gr.Button("Look for new runs", elem_id="runs-again")
    curves = gr.Image(label="Learning curves", elem_id="runs-curves", buttons=[])
    table = gr.Dataframe(label="Results, and settings that differ", elem_id="runs-table",
                         interactive=False)  # fmt: skip
    at = gr.Slider(0, 1, 1, step=0.01, label="Samples through time", elem_id="runs-at")
    pictures = gr.Gallery(label="Samples", elem_id="runs-samples", columns=2, buttons=[])

    def open_runs(chosen: list[str]) -> list[Run]:
        found = library.found_runs()
        if not chosen:
            raise ValueError(f"choose a run; those in {library.runs} are listed")
        return [found[name] for name in chosen if name in found]

    @guarded
    def draw(chosen: list[str], by: Any, at: float) -> tuple[Any, ...]:
        runs = open_runs(chosen)
        if len(runs) == 1:
            (run,) = runs
            figure = plots.learning_curves(run.records, run.unit, sign=run.sign, by=by)
            value = None
        else:
            comparison = compare(runs)
            records = {run.name: run.records for run in runs}
            figure = plots.run_curves(records, runs[0].unit, sign=runs[0].sign, by=by)
            header, rows = comparison.rows()
            value = {"headers": header, "data": rows}
        return as_image(figure), value, through(runs, at)

    def through(runs: list[Run], at: float) -> list[tuple[np.ndarray, str]]:
        shown = []
        for run in runs:
            if run.pictures:
                step, path = run.pictures[round(at * (len(run.pictures) - 1))]
                with Image.open(path) as image:
                    shown.append((np.asarray(image.convert("RGB")), f"{run.name}, step {step:,}"))
        return shown

    go.click(draw, [chosen, by, at], [curves, table, pictures])
    by.change(draw, [chosen, by, at], [curves, table, pictures])
    at.release(guarded(lambda c, a: through(open_runs(c), a)), [chosen, at], pictures)
    again.click(
        lambda: gr.CheckboxGroup(choices=list(library.found_runs())), None, chosen, queue=False
    )
