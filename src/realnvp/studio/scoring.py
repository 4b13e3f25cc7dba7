"""Tab that scores uploads: where they fall among held-out data, and which terms say so."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
import torch
from matplotlib.figure import Figure

from realnvp import plots
from realnvp.evaluation import log_likelihoods, p_values
from realnvp.studio.jobs import Desk, guarded
from realnvp.studio.models import Library, scale_of
from realnvp.studio.uploads import read_uploads

__all__ = ["score_tab"]

SHOWN = 200
"""Rows of the table that are shown; the histogram marks as many."""


def score_tab(library: Library, desk: Desk, model: gr.Dropdown) -> None:
    """Make the tab."""
    with gr.Row():
        files = gr.File(
            file_count="multiple",
            label="Images, or one table or array (.csv, .parquet, .npz, .npy)",
            elem_id="score-files",
            height=110,
        )
        invert = gr.Checkbox(False, label="Exchange dark and light", elem_id="score-invert")
    with gr.Row():
        go = gr.Button("Score", variant="primary", elem_id="score-go")
        stop = gr.Button("Cancel", elem_id="score-stop")
    note = gr.Markdown(elem_id="score-note")
    seen = gr.Image(label="As the model sees them", elem_id="score-seen", height=160, buttons=[])
    table = gr.Dataframe(elem_id="score-table", interactive=False, label="Scores")
    histogram = gr.Image(label="Among the others", elem_id="score-histogram", buttons=[])
    heat = gr.Image(label="Terms of the log-density", elem_id="score-heat", buttons=[])

    @guarded
    def score(
        name: str,
        files: list[str] | None,
        invert: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        tell = desk.begin(request, progress, "scoring")
        flow = library.get(name)
        split, names, done = read_uploads(files or [], flow, invert)
        others, what = library.reference(name)
        log_p = log_likelihoods(flow, split, batch_size=64, progress=tell)
        scores = log_p * scale_of(flow)
        unit = "bits/dim" if flow.levels is not None else "nats"
        share = p_values(log_p, others / scale_of(flow))
        columns = ["example", unit, "p-value"]
        rows = [
            [names[i], f"{scores[i]:.4f}", f"{share[i]:.4f}"]
            for i in range(min(len(scores), SHOWN))
        ]
        figure = plots.scores(others, f"{unit} of {what}", marks=scores[:SHOWN])
        note = (
            f"{done}. Compared with {len(others):,} {what}: the p-value is the share of them that "
            f"is as improbable."
        )
        value = {"headers": columns, "data": rows}
        if flow.levels is None:
            return note, None, value, as_image(figure), None
        few = split.select(torch.arange(min(len(split), 6)))
        noise = flow.example_noise((0, 0), 0, len(few))
        condition = few.condition
        if flow.classes is not None and condition is None:  # the terms are those of one class
            condition = flow.class_log_probs(few.x, noise).argmax(1)
        z, terms = flow.log_prob_terms(few.x, condition, noise)
        maps = plots.term_maps(few.x, z, terms, levels=flow.levels)
        seen = plots.tiles(split.x[:16], levels=flow.levels, columns=16, width=500)
        return note, seen, value, as_image(figure), as_image(maps)

    go.click(score, [model, files, invert], [note, seen, table, histogram, heat])
    stop.click(desk.cancel, None, None, queue=False)


def as_image(figure: Figure) -> np.ndarray:
    """Return a figure as the pixels of an image."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(plots.as_png(figure, dpi=100))) as image:
        return np.asarray(image.convert("RGB"))
