"""Tab of models of two columns: their picture, and a point dragged in the data or the latents."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from numpy.typing import NDArray

from realnvp import plots
from realnvp.data.toy import TOY
from realnvp.flow import Flow
from realnvp.pretrained import data_settings
from realnvp.studio.jobs import Jobs, Notify, Results, guarded
from realnvp.studio.models import Library, condition_of_label
from realnvp.studio.scoring import as_image

__all__ = ["plane_tab"]

LARGEST = 4.0
"""Largest latent value that can be dragged to."""


def plane_tab(
    library: Library, jobs: Jobs, model: gr.Dropdown, label: gr.Dropdown, tab: gr.Tab
) -> Results:
    """Fill the tab; return its results."""
    gr.Markdown(
        "Drag the point among the data, on the left, or among the latents, on the right: the other "
        "one follows. Arrow keys move it, too."
    )
    go = jobs.buttons("plane", "Draw")
    results = Results("plane", "Press **Draw**: the plane and its latents appear here.")
    html, css, script = (
        Path(__file__).with_name(f"pad.{end}").read_text("utf-8") for end in ("html", "css", "js")
    )
    with results:
        with gr.Row():
            data_pad, latent_pad = (
                gr.HTML(
                    _pad("", what, 50, 50), html_template=html, css_template=css,
                    js_on_load=script, elem_id=f"plane-{what}", min_width=160,
                )
                for what in ("data", "latent")
            )  # fmt: skip
        where = gr.Markdown(elem_id="plane-where")
        whole = gr.Image(
            label="Data, samples, density, bent grid", elem_id="plane-whole", buttons=[]
        )

    @functools.lru_cache(maxsize=32)
    def drawn(flow: Flow, name: str, label: str | None) -> tuple[plots.Plane, str, str]:
        if flow.shape != (2,):
            raise ValueError("this figure is for models of two columns")
        split, what = library.examples(name)
        config = data_settings(flow)
        toy = None if config is None else TOY.get(config.source)
        first, second = flow.column_names
        plane = plots.Plane.of(
            flow,
            split.x[:3000],
            name=name,
            condition=condition_of_label(flow, label, 1),
            bounds=toy.bounds if toy else None,
            true_log_density=toy.log_density if toy else None,
            columns=None if toy else (first, second),
        )
        return plane, plots.data_uri(plots.heat_image(plane.log_density, plane.bounds)), what

    def plane_of(name: str, label: str | None) -> tuple[plots.Plane, str, str]:
        return drawn(library.get(name), name, label)

    def draw(notify: Notify, name: str, label: str | None) -> list[Any]:
        plane, _, what = plane_of(name, label)
        note = f"Data: {what}. On the command line: {library.command('plot', name)}"
        point = move(name, label, np.zeros(2), False)
        notify(1, 2)
        return [*results.shown(note), *point, as_image(plots.planes([plane]))]

    def move(name: str, label: str | None, at: NDArray, in_data: bool) -> tuple[Any, Any, str]:
        """Return both pads and a text for a point of the data or of the latents."""
        plane, heat, _ = plane_of(name, label)
        flow = library.get(name)
        condition = condition_of_label(flow, label, 1)
        point = torch.as_tensor(at, dtype=flow.dtype, device=flow.device)[None]
        x = point if in_data else flow.decode(point, condition)
        snapped = x if flow.columns is None else flow.columns.snap(x)
        noise = torch.full_like(x, 0.5) if flow.noisy else None
        z, terms = flow.log_prob_terms(snapped, condition, noise)
        z = z if in_data else point
        left, right, bottom, top = plane.bounds
        (a, b), (c, d) = x[0].tolist(), z[0].tolist()
        log_p = sum(term.item() for term in terms.values())
        first, second = flow.column_names
        text = (
            f"{first} {a:.3f}, {second} {b:.3f}; latent ({c:.3f}, {d:.3f}); "
            f"log-density {log_p:.4f} nats: "
            + ", ".join(f"{key} {term.item():.3f}" for key, term in terms.items())
        )
        across, up = 100 * (a - left) / (right - left), 100 * (top - b) / (top - bottom)
        return (
            _pad(heat, "data", across, up),
            _pad(_rings(), "latent", *(50 + 50 * v / LARGEST for v in (c, -d))),
            text,
        )

    @guarded
    def in_data(name: str, label: str | None, event: gr.EventData) -> tuple[Any, str]:
        left, right, bottom, top = plane_of(name, label)[0].bounds
        across, up = _at(event)
        x = np.array([left + (right - left) * across, top - (top - bottom) * up])
        _, latent, text = move(name, label, x, True)
        return latent, text

    @guarded
    def in_latents(name: str, label: str | None, event: gr.EventData) -> tuple[Any, str]:
        across, up = _at(event)
        z = np.array([LARGEST * (2 * across - 1), LARGEST * (1 - 2 * up)])
        data, _, text = move(name, label, z, False)
        return data, text

    @jobs.task("drawing")
    def opened(notify: Notify, name: str, label: str | None, note: str) -> Any:
        """Draw, unless that was done before: the point stays where it is."""
        return draw(notify, name, label) if note == results.hint else gr.skip()

    outputs = [data_pad, latent_pad, where, whole]
    results.on(go.click, jobs.task("drawing")(draw), [model, label], outputs)
    results.on(tab.select, opened, [model, label, results.note], outputs)
    for pad, function, other in (
        (data_pad, in_data, latent_pad), (latent_pad, in_latents, data_pad),
    ):  # fmt: skip
        pad.input(
            function, [model, label], [other, where], show_progress="hidden",
            trigger_mode="always_last",
        )  # fmt: skip
    return results


def _pad(picture: str, what: str, x: float, y: float) -> dict[str, Any]:
    """Return what a pad shows: a picture, and a point in percent from its upper left corner."""
    x, y = (min(max(v, -5.0), 105.0) if v == v else 50.0 for v in (x, y))
    return {"picture": picture, "name": f"the point in the {what} space", "x": x, "y": y}


def _at(event: gr.EventData) -> tuple[float, float]:
    """Return the position of a pointer event on a pad, as fractions of its width and height."""
    try:
        x, y = (float(v) / 100 for v in event.at)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError("the point has no position") from error
    return min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)


@functools.cache
def _rings() -> str:
    return plots.data_uri(
        plots.heat_image(lambda z: -0.5 * (z**2).sum(1), (-LARGEST, LARGEST, -LARGEST, LARGEST))
    )
