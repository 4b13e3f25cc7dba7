"""Tab that scores uploads: their place among held-out data, and the terms of their scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from realnvp import plots
from realnvp.bijections.base import Terms
from realnvp.data import Split
from realnvp.flow import Flow
from realnvp.outliers.calibration import joined, statistics_by_block
from realnvp.outliers.significance import p_values
from realnvp.outliers.statistics import noise_of
from realnvp.studio.jobs import Jobs, Notify, Results, upload_boxes
from realnvp.studio.models import Library
from realnvp.studio.uploads import read_uploads
from realnvp.tables.scores import explained

__all__ = ["score_tab"]

TRIES = {"examples": "the data", "samples": "samples", "strange": "something strange"}
"""Examples that can be scored without a file, and the labels of their buttons."""

TRIED = 12
"""Number of such examples."""

EXPLAINED = 10
"""Number of rows for which the contribution of each column is shown."""

WHY = (
    "Why: the contribution of each column to how unusual the row is, in nats; about 0 is ordinary. "
    "The most unusual rows come first."
)

SHOWN = 200
"""Number of rows of the table that are shown, and of marks in the histogram."""


def score_tab(library: Library, jobs: Jobs, model: gr.Dropdown) -> tuple[Results, gr.Checkbox]:
    """Make the tab; return its results, and a choice that only images have."""
    gr.Markdown(
        "How likely are your files under the model, and how unusual compared with its training "
        "data? Nothing leaves this machine."
    )
    with gr.Row():
        files, invert = upload_boxes(
            "score", "Images, or one table or array (.csv, .parquet, .npz, .npy)"
        )
    go = jobs.buttons("score", "Score")
    with gr.Row():
        tries = {
            source: gr.Button(f"Try {what}", size="sm", elem_id=f"score-{source}")
            for source, what in TRIES.items()
        }
    results = Results(
        "score",
        "Upload something and press **Score**, or **Try** what is here: scores, p-values and what "
        "they consist of appear here.",
    )
    with results:
        seen = gr.Image(
            label="As the model sees them", elem_id="score-seen", height=160, buttons=[]
        )
        table = gr.Dataframe(
            elem_id="score-table", interactive=False, label="Scores", buttons=[], max_height=300
        )
        histogram = gr.Image(label="Among the others", elem_id="score-histogram", buttons=[])
        heat = gr.Image(label="Terms of the log-density", elem_id="score-heat", buttons=[])
        why = gr.Dataframe(elem_id="score-why", interactive=False, label=WHY, buttons=[])

    def score(name: str, split: Split, names: list[str], done: str, notify: Notify) -> list[Any]:
        note, values = _scored(library, name, split, names, notify)
        return [*results.shown(f"{done}. {note}"), *values]

    @jobs.task("scoring")
    def uploaded(notify: Notify, name: str, files: list[str] | None, invert: bool) -> list[Any]:
        return score(name, *read_uploads(files or [], library.get(name), invert), notify)

    def tried(source: str) -> Callable[..., list[Any]]:
        @jobs.task("scoring")
        def run(notify: Notify, name: str) -> list[Any]:
            split, what = (
                _strange(library, name)
                if source == "strange"
                else library.some(name, source, TRIED)
            )
            names = [f"{i}" for i in range(len(split))]
            return score(name, split, names, f"{len(split)} {what}", notify)

        return run

    outputs = [table, histogram, seen, heat, why]
    results.on(go.click, uploaded, [model, files, invert], outputs)
    for source, button in tries.items():
        results.on(button.click, tried(source), [model], outputs)
    return results, invert


def _scored(
    library: Library,
    name: str,
    split: Split,
    names: list[str],
    progress: Notify,
) -> tuple[str, list[Any]]:
    """Return what examples are compared with, and the values of the results."""
    flow, scorer = library.get(name), library.scorer(name)
    others, what = library.reference(name)
    statistics = joined(statistics_by_block(flow, split, scorer.near, progress=progress))
    log_p = torch.from_numpy(statistics["bound"])
    calibrated = scorer.calibration is not None
    p = scorer.p_values(statistics) if calibrated else p_values(-log_p, -others)
    unit = "bits/dim" if flow.levels is not None else "nats"
    scale = -flow.unit[0]
    scores = scorer.score(statistics)
    rows = [
        [names[i], _number(scale * float(log_p[i])), f"{scores[i]:.4g}", f"{p[i]:.4f}"]
        for i in range(min(len(split), SHOWN))
    ]
    value = {"headers": ["example", unit, "outlier score", "p-value"], "data": rows}
    figure = plots.scores(scale * others, f"{unit} of {what}", marks=scale * log_p[:SHOWN])
    command = library.command("score", name, "--data", "FILE")
    note = f"Compared with {len(others):,} {what}: the p-value is the fraction of them " + (
        f"with as high an outlier score, as {command} says."
        if calibrated
        else "that is as improbable. For the outlier scores of the command line, "
        f"{library.command('calibrate', name)} comes first."
    )
    if len(split) > SHOWN:
        note += f" The first {SHOWN} are shown."
    more = _terms(flow, split) if flow.levels is not None else _reasons(flow, split, names, scores)
    return note, [value, as_image(figure), *more]


def _terms(flow: Flow, split: Split) -> list[Any]:
    """Return the values for images: these, the terms of their log-density, and no table."""
    assert flow.levels is not None  # the caller has images
    few = split.select(torch.arange(min(len(split), 6)))
    z, terms = _log_prob_terms(flow, few)
    maps = as_image(plots.term_maps(few.x, z, terms, levels=flow.levels))
    picture = plots.tiles(split.x[:16], levels=flow.levels, columns=16, width=900)
    return [
        gr.Image(value=picture, visible=True),
        gr.Image(value=maps, visible=True),
        gr.Dataframe(visible=False),
    ]


def _log_prob_terms(flow: Flow, split: Split) -> tuple[Tensor, Terms]:
    """Return latents, and the terms of the log-densities of the table of scores."""
    noise = noise_of(flow, split.x, 0)  # as for the scores
    condition = split.condition
    if flow.classes is not None and condition is None:  # the terms of one class
        condition = flow.class_log_probs(split.x, noise).argmax(1)
    return flow.log_prob_terms(split.x, condition, noise)


def _strange(library: Library, name: str) -> tuple[Split, str]:
    """Return unnatural examples: grey noise, or rows whose columns come from different rows."""
    flow = library.get(name)
    split, _ = library.some(name, "examples", TRIED)
    generator = torch.Generator().manual_seed(0)
    if flow.levels is not None:
        x = torch.randint(flow.levels, split.x.shape, generator=generator, dtype=split.x.dtype)
        return Split(x), "images of noise"
    columns = [column[torch.randperm(len(split), generator=generator)] for column in split.x.T]
    return Split(torch.stack(columns, 1), split.condition), "examples with shuffled columns"


def _number(value: float) -> str:
    """Return a score as text; very large ones, as of noise, have an exponent."""
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3e}"


def _reasons(flow: Flow, split: Split, names: list[str], scores: NDArray) -> list[Any]:
    """Return the values for a table: no images, and the contribution of each column."""
    strangest = torch.from_numpy(np.argsort(-scores, kind="stable")[:EXPLAINED].copy())
    strange = split.select(strangest)
    table = explained(flow, strange.x, strange.condition)
    data = [
        [names[i], *("" if v != v else f"{v:.2f}" for v in row)]
        for i, row in zip(strangest.tolist(), table.to_numpy().tolist(), strict=True)
    ]
    value = {"headers": ["example", *table.columns], "data": data}
    hidden = gr.Image(value=None, visible=False)
    return [hidden, hidden, gr.Dataframe(value=value, visible=True)]


def as_image(figure: Figure) -> np.ndarray:
    """Return a figure as the pixels of an image."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(plots.as_png(figure, dpi=100))) as image:
        return np.asarray(image.convert("RGB"))
