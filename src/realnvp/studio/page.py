"""The page: a gallery of models, and a tab for each task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from realnvp.flow import Flow
from realnvp.studio.history import runs_tab
from realnvp.studio.jobs import Jobs, Notify, guarded
from realnvp.studio.models import Library, labels_of
from realnvp.studio.pictures import sample_tab, scales_tab, walk_tab
from realnvp.studio.plane import plane_tab
from realnvp.studio.scoring import score_tab
from realnvp.studio.tables import columns_of, table_tab
from realnvp.utils.errors import describe, is_expected

__all__ = ["build"]


def build(library: Library, folder: Path) -> gr.Blocks:
    """Return the page.

    Args:
        library: models to offer.
        folder: temporary folder, the only one that is written into.
    """
    jobs = Jobs(folder)
    with gr.Blocks(title="realnvp studio", analytics_enabled=False) as page:
        gr.Markdown("# realnvp studio")
        model = gr.Dropdown(
            library.names(), value=library.first, label="Model", elem_id="model",
            info="One that comes with the package, or a run of your own. The tab Models shows all.",
        )  # fmt: skip
        facts = gr.Markdown(elem_id="facts")
        with gr.Tabs(selected="sample", overflow_behavior="wrap") as tabs:
            with gr.Tab("Sample", id="sample"):
                label, samples, drawing = sample_tab(library, jobs, model)
            with gr.Tab("Walk", id="walk") as walk:
                walked = walk_tab(library, jobs, model)
            with gr.Tab("Scales", id="scales") as scales:
                amounts, scaled, offered = scales_tab(library, jobs, model)
            with gr.Tab("Score", id="score"):
                scored, invert = score_tab(library, jobs, model)
            with gr.Tab("Plane", id="plane", interactive=False) as plane:
                planes = plane_tab(library, jobs, model, label, plane)
            with gr.Tab("Tables", id="tables", interactive=False) as tables:
                column, tabled = table_tab(library, jobs, model, label)
            with gr.Tab("Runs", id="runs") as runs:
                runs_tab(library, jobs, runs)
            with gr.Tab("Models", id="models") as models:
                gr.Markdown(
                    "Click a picture, or a row of the table, to choose a model. `realnvp models "
                    "NAME` shows the whole command of one that comes with the package."
                )
                portraits = gr.Gallery(
                    label="Samples of each", elem_id="models-pictures", columns=5,
                    allow_preview=False, object_fit="contain", buttons=[], height="auto",
                )  # fmt: skip
                gallery = gr.Dataframe(
                    library.rows(),
                    headers=["model", "data", "quality", "parameters", "trained by"],
                    interactive=False,
                    elem_id="models-table",
                    label="All of them",
                    wrap=True,
                    buttons=[],
                )
        results = [samples, walked, scaled, scored, planes, *tabled]
        shape = gr.State("images")

        @guarded
        def choose(name: str, before: str, request: gr.Request) -> list[Any]:
            """Show the tabs for this kind of model, with its classes, scales and columns.

            Results of the model before are hidden, also if this one cannot be opened.
            """
            jobs.cancel(request)
            empty = [value for result in results for value in result.empty()]
            try:
                flow = library.get(name)
            except Exception as error:
                if not is_expected(error):
                    raise
                others = [gr.skip() for _ in outputs[2 : len(outputs) - len(empty)]]
                return [f"{name} cannot be opened: {describe(error)}.", before, *others, *empty]
            images = flow.levels is not None
            now = "images" if images else "plane" if flow.shape == (2,) else "table"
            labels = labels_of(flow)
            count = int(flow.latent_scales().max()) + 1 if images else 0
            columns = columns_of(flow)
            return [
                _facts(library, name, flow),
                now,
                gr.Tabs() if now == before else gr.Tabs(selected="sample"),
                gr.Dropdown(
                    choices=labels,
                    value=labels[0] if labels else _example_condition(library, name),
                    visible=flow.condition_dim > 0,
                    allow_custom_value=not labels,
                ),
                gr.Tab(interactive=images),
                gr.Tab(interactive=images),
                gr.Tab(interactive=now == "plane"),
                gr.Tab(interactive=not images),
                gr.Checkbox(visible=images),
                *offered(count),
                # A list that has been shown and becomes empty is an error in the browser.
                gr.Dropdown(choices=columns, value=columns[0]) if columns else gr.skip(),
                *empty,
            ]

        outputs = [
            facts, shape, tabs, label, walk, scales, plane, tables, invert, *amounts, column,
            *(output for result in results for output in result.outputs),
        ]  # fmt: skip

        def look() -> list[Any]:
            """Offer the models that exist now: runs may appear and disappear."""
            return [gr.Dropdown(choices=library.names()), library.rows()]

        for event in (model.change, page.load):
            chosen = event(choose, [model, shape], outputs, show_progress="hidden")
            chosen.success(**drawing)
        for event in (model.focus, page.load, models.select):
            event(look, None, [model, gallery], show_progress="hidden")
        page.unload(jobs.forget)

        @jobs.task("drawing")
        def paint(notify: Notify) -> list[tuple[Any, str]]:
            names, shown = library.names(), []
            for i, name in enumerate(names):
                notify(i, len(names))
                try:
                    shown.append((library.portrait(name), name))
                except (ValueError, OSError):
                    continue  # one that cannot be opened does not hide the others
            return shown

        models.select(paint, None, portraits)

        # By name: runs may have appeared since these were shown.
        def pick_row(event: gr.SelectData) -> list[Any]:
            return [event.row_value[0], gr.Tabs(selected="sample")]

        def pick_portrait(event: gr.SelectData) -> list[Any]:
            return [event.value["caption"], gr.Tabs(selected="sample")]

        gallery.select(pick_row, None, [model, tabs])
        portraits.select(pick_portrait, None, [model, tabs])
    return page


def _facts(library: Library, name: str, flow: Flow) -> str:
    """Return a description of a model, in a line or two."""
    images = flow.levels is not None
    kind = "x".join(map(str, flow.shape)) if images else f"{len(columns_of(flow))} columns"
    parts = [f"{kind}, {flow.levels} grey levels" if images else kind]
    parts += [f"{flow.classes} classes"] if flow.classes else []
    parts += [f"{sum(p.numel() for p in flow.parameters()):,} parameters"]
    quality = next((row[2] for row in library.rows() if row[0] == name), "")
    parts += [f"{quality} on held-out data"] if quality else []
    wrong = "Plane and Tables are for models of tables" if images else (
        "Walk and Scales are for models of images"
        if flow.shape == (2,)
        else "Walk and Scales are for models of images, Plane is for two columns"
    )  # fmt: skip
    return f"{name}: {', '.join(parts)}. *{wrong}.*"


def _example_condition(library: Library, name: str) -> str:
    """Return the condition of an example as the initial value; "" without one."""
    flow = library.get(name)
    if not flow.condition_dim:
        return ""
    try:
        condition = library.examples(name)[0].condition
    except ValueError:  # the data have moved, and samples need a condition
        condition = None
    return "" if condition is None else ",".join(f"{value:.4g}" for value in condition[0].tolist())
