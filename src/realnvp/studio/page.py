"""The page: a gallery of models, and a tab for each thing to do with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from realnvp.studio.history import runs_tab
from realnvp.studio.jobs import Desk, guarded
from realnvp.studio.models import Library, labels_of
from realnvp.studio.pictures import SCALES, sample_tab, scales_tab, walk_tab
from realnvp.studio.plane import plane_tab
from realnvp.studio.scoring import score_tab
from realnvp.studio.tables import columns_of, table_tab

__all__ = ["CSS", "build"]

CSS = """
.gradio-container { max-width: 1100px !important; }
#sample-grid img, #walk-frame img, #walk-ends img, #scales-grid img, #score-seen img {
  image-rendering: pixelated; }
label[data-testid="block-label"] ~ .image-container, #models-pictures .grid-wrap {
  box-sizing: border-box; padding-top: 2rem; }
@media (max-width: 640px) { .gradio-container { padding: 4px !important; } }
"""


def build(library: Library, folder: Path) -> gr.Blocks:
    """Return the page.

    Args:
        library: models to offer.
        folder: temporary folder, the only one that is written into.
    """
    desk = Desk(folder)
    with gr.Blocks(title="realnvp studio", analytics_enabled=False) as page:
        gr.Markdown("# realnvp studio")
        model = gr.Dropdown(library.names(), value=library.first, label="Model", elem_id="model")
        facts = gr.Markdown(elem_id="facts")
        with gr.Tabs():
            with gr.Tab("Sample", elem_id="tab-sample"):
                label = sample_tab(library, desk, model)
            with gr.Tab("Walk", elem_id="tab-walk") as walk:
                walk_tab(library, desk, model)
            with gr.Tab("Scales", elem_id="tab-scales") as scales:
                amounts = scales_tab(library, desk, model)
            with gr.Tab("Score", elem_id="tab-score"):
                score_tab(library, desk, model)
            with gr.Tab("Plane", elem_id="tab-plane", interactive=False) as plane:
                plane_tab(library, desk, model, label)
            with gr.Tab("Tables", elem_id="tab-tables", interactive=False) as tables:
                column = table_tab(library, desk, model, label)
            with gr.Tab("Runs", elem_id="tab-runs"):
                runs_tab(library)
            with gr.Tab("Models", elem_id="tab-models") as models:
                portraits = gr.Gallery(
                    label="Choose a model by its picture", elem_id="models-pictures", columns=5,
                    allow_preview=False, object_fit="contain", buttons=[], height="auto",
                )  # fmt: skip
                gallery = gr.Dataframe(
                    library.rows(),
                    headers=["model", "data", "quality", "parameters", "trained by"],
                    interactive=False,
                    elem_id="models-table",
                    label="Choose a model by its row",
                    wrap=True,
                )

        @guarded
        def choose(name: str) -> list[Any]:
            """Offer the tabs that are for a model, with its classes, scales and columns."""
            flow = library.get(name)
            images = flow.levels is not None
            labels = labels_of(flow)
            count = int(flow.latent_scales().max()) + 1 if images else 0
            parameters = sum(p.numel() for p in flow.parameters())
            kind = "x".join(map(str, flow.shape)) if images else f"{flow.dim} columns"
            grey = f", {flow.levels} grey levels" if images else ""
            text = f"{name}: {kind}{grey}, {parameters:,} parameters"
            columns = columns_of(flow)
            return [
                text,
                gr.Dropdown(
                    choices=labels,
                    value=labels[0] if labels else "",
                    visible=flow.condition_dim > 0,
                    allow_custom_value=not labels,
                ),
                gr.Tab(interactive=images),
                gr.Tab(interactive=images),
                gr.Tab(interactive=flow.shape == (2,)),
                gr.Tab(interactive=not images),
                *(
                    gr.Slider(visible=i < count, label=f"Scale {i + 1}" + _name_of(i, count))
                    for i in range(SCALES)
                ),
                gr.Dropdown(choices=columns, value=columns[0] if columns else None),
            ]

        outputs = [facts, label, walk, scales, plane, tables, *amounts, column]
        model.change(choose, model, outputs, show_progress="hidden")
        page.load(choose, model, outputs, show_progress="hidden")

        def pick(event: gr.SelectData) -> str:
            return library.rows()[event.index[0]][0]

        gallery.select(pick, None, model)

        @guarded
        def paint() -> list[tuple[Any, str]]:
            return [(library.portrait(name), name) for name in library.names()]

        models.select(paint, None, portraits)

        def pick_portrait(event: gr.SelectData) -> str:
            return library.names()[event.index]

        portraits.select(pick_portrait, None, model)
    return page


def _name_of(scale: int, count: int) -> str:
    """Return what is said of the finest and the coarsest scale."""
    if count < 2:
        return ""
    return {0: ", the finest", count - 1: ", the coarsest"}.get(scale, "")
