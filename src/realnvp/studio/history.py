"""Tab of runs: overlaid curves, the settings that differ, samples during training."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from realnvp import plots
from realnvp.reports.compare import Comparison, compare
from realnvp.reports.run import Run
from realnvp.studio.jobs import Jobs, Notify, Results, guarded
from realnvp.studio.models import Library, shell_command
from realnvp.studio.scoring import as_image

__all__ = ["runs_tab"]

FIRST = 3
"""Number of runs that are selected initially."""


def runs_tab(library: Library, jobs: Jobs, tab: gr.Tab) -> None:
    """Fill the tab."""
    gr.Markdown("Runs side by side: which one learned faster, and which settings differ.")
    chosen = gr.CheckboxGroup(
        label="Runs", elem_id="runs-chosen",
        info="The newest is first. Runs of images and of tables have different units, and cannot "
        "be in one figure.",
    )  # fmt: skip
    by = gr.Radio(
        ["minutes", "steps"], value="minutes", label="By", elem_id="runs-by",
        info="Minutes show the cost of a run, steps what it learns from as many examples.",
    )  # fmt: skip
    with gr.Row():
        go = jobs.buttons("runs", "Compare")
        again = gr.Button("Look for new runs", elem_id="runs-again")
    results = Results(
        "runs",
        f"Choose runs and press **Compare**. There are none in `{library.runs}` yet? "
        "`realnvp train digits` makes one in a minute.",
    )
    with results:
        curves = gr.Image(label="Learning curves", elem_id="runs-curves", buttons=[])
        table = gr.Dataframe(
            label="Results, the best first",
            elem_id="runs-table",
            interactive=False,
            buttons=[],
        )
        settings = gr.Dataframe(
            label="Settings that differ", elem_id="runs-settings", interactive=False, buttons=[],
            wrap=True,
        )  # fmt: skip
        at = gr.Slider(
            0, 1, 1, step=0.01, label="Samples through time", elem_id="runs-at",
            info="From 0, the beginning of training, to 1, its end so far.",
        )  # fmt: skip
        pictures = gr.Gallery(
            label="Samples", elem_id="runs-samples", columns=3, buttons=[], height="auto",
            object_fit="contain",
        )  # fmt: skip

    def open_runs(chosen: list[str]) -> list[Run]:
        if not chosen:
            raise ValueError(f"choose a run; those in {library.runs} are listed")
        runs = library.found_runs()
        return [runs[name] for name in chosen if name in runs]

    def draw(notify: Notify, chosen: list[str], by: Any, at: float) -> list[Any]:
        runs = open_runs(chosen)
        notify(1, 4)
        comparison = compare(runs) if len(runs) > 1 else Comparison(runs, {})
        figure = _curves(runs, comparison.unit, by)
        notify(2, 4)
        curves = as_image(figure)
        notify(3, 4)
        header, rows = comparison.rows()
        setting_header, settings = comparison.setting_rows()
        verb = "report" if len(runs) == 1 else "compare"
        command = shell_command(verb, *(run.folder for run in runs))
        return [
            *results.shown(f"On the command line: {command}"),
            curves,
            {"headers": header, "data": rows},
            gr.Dataframe(
                value={"headers": setting_header, "data": settings}, visible=bool(settings)
            ),
            _samples(runs, at),
        ]

    def look(chosen: list[str] | None) -> gr.CheckboxGroup:
        """Return the runs to choose from: initially, the newest run and others of its data."""
        runs = library.found_runs()
        kept = [name for name in chosen or () if name in runs]
        if not kept:
            data = {n: (run.unit, run.settings.get("data.source")) for n, run in runs.items()}
            kept = [name for name in runs if data[name] == data[next(iter(runs))]][:FIRST]
        return gr.CheckboxGroup(choices=list(runs), value=kept)

    @jobs.task("comparing")
    def opened(notify: Notify, chosen: list[str], by: Any, at: float) -> list[Any]:
        return draw(notify, chosen, by, at) if chosen else [*results.empty(), *4 * [None]]

    inputs = [chosen, by, at]
    outputs = [curves, table, settings, pictures]
    looked = tab.select(look, chosen, chosen, show_progress="hidden")
    results.on(looked.success, opened, inputs, outputs)
    for event in (go.click, by.input):
        results.on(event, jobs.task("comparing")(draw), inputs, outputs)
    at.change(  # by the arrow keys, too
        guarded(lambda c, a: _samples(open_runs(c), a)), [chosen, at], pictures,
        show_progress="hidden", trigger_mode="always_last",
    )  # fmt: skip
    again.click(look, chosen, chosen, queue=False)


def _curves(runs: list[Run], unit: str, by: Any) -> Figure:
    """Draw the learning curves of one run, or of several over each other."""
    sign = runs[0].sign
    if len(runs) == 1:
        return plots.learning_curves(runs[0].records, unit, sign=sign, by=by)
    return plots.run_curves({run.name: run.records for run in runs}, unit, sign=sign, by=by)


def _samples(runs: list[Run], at: float) -> list[tuple[np.ndarray, str]]:
    """Return the samples of each run at a fraction of its training, with captions."""
    shown = []
    for run in runs:
        if run.pictures:
            step, path = run.pictures[round(at * (len(run.pictures) - 1))]
            with Image.open(path) as image:
                shown.append((np.asarray(image.convert("RGB")), f"{run.name}, step {step:,}"))
    return shown
