"""Tabs of image models: samples, a walk between images, and what each scale holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from realnvp import latents, plots
from realnvp.flow import Flow
from realnvp.pretrained import table_of
from realnvp.reports.samples import write_samples
from realnvp.studio.jobs import Jobs, Notify, Results, guarded, integer, seed_box, upload_boxes
from realnvp.studio.models import EVERY, SOURCES, Library, condition_of_label
from realnvp.studio.tables import draw_table
from realnvp.studio.uploads import read_uploads

__all__ = ["sample_tab", "scales_tab", "walk_tab"]

SCALES = 6
"""Number of sliders; a model shows as many as it has scales."""

FROM = (*SOURCES, "uploads")


def sample_tab(
    library: Library, jobs: Jobs, model: gr.Dropdown
) -> tuple[gr.Dropdown, Results, dict[str, Any]]:
    """Make the tab of samples.

    Returns:
        its choice of a class, its results, and the event that draws, for others to follow.
    """
    gr.Markdown(
        "New examples from the model: random latents, mapped through its inverse. The same "
        "seed gives the same samples, here and on the command line."
    )
    with gr.Row():
        seed = seed_box("sample", "Another one, other samples.")
        label = gr.Dropdown(
            [], label="Label", info="The class, or numbers with commas.",
            allow_custom_value=True, visible=False, elem_id="label",
        )  # fmt: skip
    with gr.Row():
        count = gr.Slider(
            1, 1024, 50, step=1, label="Number", info="How many to draw.", elem_id="sample-n"
        )
        temperature = gr.Slider(
            0, 1.5, 1.0, step=0.05, label="Temperature", elem_id="sample-t",
            info="Below 1: likelier, less varied.",
        )  # fmt: skip
    go = jobs.buttons("sample", "Sample")
    results = Results("sample", "Press **Sample**: a picture of the samples appears here.")
    with results:
        grid = gr.Image(
            label="Samples", type="filepath", format="png", elem_id="sample-grid",
            buttons=["fullscreen"],
        )  # fmt: skip
        rows = gr.Dataframe(
            label="The first rows", interactive=False, elem_id="sample-rows", buttons=[]
        )
        with gr.Row():
            png = gr.DownloadButton("Picture (PNG)", elem_id="sample-png")
            array = gr.DownloadButton("Array (NPZ)", elem_id="sample-npz")

    @jobs.task("sampling")
    def draw(
        notify: Notify, name: str, seed: float | None, n: float, temperature: float, label: str
    ) -> list[Any]:
        flow = library.get(name)
        count, seed = int(n), integer(seed, "seed")
        generator = torch.Generator(flow.device).manual_seed(seed)
        condition = condition_of_label(flow, label, count)
        file = jobs.path("samples.npz" if flow.levels is not None else "samples.csv")
        options = ["--n", count, "--seed", seed]
        options += [] if temperature == 1 else ["--temperature", f"{temperature:g}"]
        options += [] if condition is None or label == EVERY else ["--label", label]
        options += [] if flow.levels is not None else ["--out", file.name]
        shown = results.shown(f"On the command line: {library.command('sample', name, *options)}")
        if table_of(flow) is not None:
            table = draw_table(flow, label, count, generator, temperature, notify)
            table.to_csv(file, index=False)
            first = table.head(20).astype(str)
            value = {"headers": list(first.columns), "data": first.values.tolist()}
            return [
                *shown, gr.Image(visible=False), gr.Dataframe(value=value, visible=True),
                gr.DownloadButton(visible=False), gr.DownloadButton("Table (CSV)", value=str(file)),
            ]  # fmt: skip
        samples = flow.sample(count, temperature, condition, generator, progress=notify).cpu()
        if not torch.isfinite(samples).all():
            raise ValueError(f"samples at temperature {temperature:g} are not finite: lower it")
        picture = jobs.path("samples.png")
        for path in (picture, file):
            write_samples(flow, samples, condition, path)
        kind = "Array (NPZ)" if flow.levels is not None else "Table (CSV)"
        return [
            *shown, gr.Image(value=str(picture), visible=True), gr.Dataframe(visible=False),
            gr.DownloadButton(value=str(picture), visible=True),
            gr.DownloadButton(kind, value=str(file)),
        ]  # fmt: skip

    event: dict[str, Any] = {
        "fn": draw,
        "inputs": [model, seed, count, temperature, label],
        "outputs": [*results.outputs, grid, rows, png, array],
        "show_progress_on": results.note,
    }
    go.click(**event, api_name="sample")
    for slider in (temperature, count):
        slider.release(**event)
    label.input(**event)
    return label, results, event


def _source(name: str) -> list[Any]:
    """Make the choice of images, and return its fields, the arguments of :func:`_stops`."""
    with gr.Row():
        source = gr.Radio(
            list(FROM), value="examples", label="From", elem_id=f"{name}-source",
            info="Examples of the data, samples of the model, or files of your own.",
        )  # fmt: skip
        seed = seed_box(name, "Another seed takes other images.")
    with gr.Row(visible=False) as uploads:
        files, invert = upload_boxes(name, "Your images")
    source.change(
        lambda chosen: gr.Row(visible=chosen == "uploads"), source, uploads, show_progress="hidden"
    )
    return [source, seed, invert, files]


def _stops(
    library: Library, name: str, count: int, source: str, seed: float | None, invert: bool,
    files: list[str] | None,
) -> tuple[Flow, Tensor, Tensor | None, torch.Generator, str]:  # fmt: skip
    """Return the model, the initial images, their conditions, a generator, and a description."""
    flow, whole_seed = library.get(name), integer(seed, "seed")
    generator = torch.Generator().manual_seed(whole_seed)
    if flow.levels is None:
        raise ValueError("this tab is for models of images")
    if source != "uploads":
        split, what = library.some(name, source, count, whole_seed)
        return flow, split.x, split.condition, generator, f"{what[:1].upper()}{what[1:]}."
    split, _, note = read_uploads(files or [], flow, invert)
    if len(split) < count:
        raise ValueError(f"upload {count} images, or choose another number: got {len(split)}")
    x = split.x[:count]
    if flow.classes is None:
        return flow, x, condition_of_label(flow, None, count), generator, f"{note}."
    labels = flow.classify(x)
    seen = [flow.class_names[i] if flow.class_names else str(i) for i in labels.tolist()]
    return flow, x, labels, generator, f"{note}; taken for {', '.join(seen)}."


def walk_tab(library: Library, jobs: Jobs, model: gr.Dropdown) -> Results:
    """Make the tab that interpolates between two or four images."""
    gr.Markdown(
        "From one image to the next through the latents: every step is decoded from a "
        "latent, unlike a mixture of the pixels. It need not look plausible."
    )
    number = gr.Radio(
        [2, 4], value=2, label="Images", info="How many the path leads through.",
        elem_id="walk-number",
    )  # fmt: skip
    fields = _source("walk")
    go = jobs.buttons("walk", "Walk")
    results = Results("walk", "Press **Walk**: the path and its animation appear here.")
    with results:
        ends = gr.Image(label="As the model sees them", elem_id="walk-ends", height=180, buttons=[])
        at = gr.Slider(
            0, 1, 0, step=1, label="Along the path", elem_id="walk-at", interactive=True,
            info="Drag, or use the arrow keys.",
        )  # fmt: skip
        with gr.Row():
            frame = gr.Image(label="On the path", elem_id="walk-frame", height=320, buttons=[])
            film = gr.Image(
                label="Animation", type="filepath", format="gif", elem_id="walk-film",
                height=320, buttons=[],
            )  # fmt: skip
        with gr.Row():
            kinds = [
                gr.DownloadButton(f"Animation ({kind.upper()})", elem_id=f"walk-{kind}")
                for kind in ("gif", "webp")
            ]
    frames = gr.State([])

    @jobs.task("walking")
    def walk(notify: Notify, name: str, number: int, *fields: Any) -> list[Any]:
        flow, x, condition, generator, what = _stops(library, name, int(number), *fields)
        levels = flow.levels or 256
        steps = 24 if len(x) == 2 else 10
        images = latents.walk(flow, x, steps, condition, generator, progress=notify)
        shown = [plots.tiles(one[None], levels=levels, border=0, width=300) for one in images]
        films = [jobs.path(f"walk.{kind}") for kind in ("gif", "webp")]
        for film_path in films:
            plots.save_animation(shown, film_path)
        ends = plots.tiles(x, levels=levels, columns=len(x), width=400)
        slider = gr.Slider(maximum=len(shown) - 1, value=0)
        gif, webp = map(str, films)
        return [*results.shown(what), ends, slider, shown[0], gif, shown, gif, webp]

    @guarded
    def look(at: float, frames: list[Image.Image]) -> Image.Image | None:
        return frames[min(int(at), len(frames) - 1)] if frames else None

    outputs = [ends, at, frame, film, frames, *kinds]
    results.on(go.click, walk, [model, number, *fields], outputs)
    at.change(look, [at, frames], frame, show_progress="hidden", trigger_mode="always_last")
    return results


def scales_tab(
    library: Library, jobs: Jobs, model: gr.Dropdown
) -> tuple[list[gr.Slider], Results, Callable[[int], list[gr.Slider]]]:
    """Make the tab that resamples latents by scale.

    Returns:
        its sliders, its results, and a function that returns the sliders of so many scales.
    """
    gr.Markdown(
        "What does each scale hold? Keep the latents of some scales, and draw others again "
        "(the paper, appendix D): the coarse ones decide what is in the image, the fine ones "
        "its details."
    )
    fields = _source("scales")
    amounts = [
        gr.Slider(0, 1, 0, step=0.05, label=f"Scale {i + 1}", visible=i < 2, elem_id=f"scale-{i}")
        for i in range(SCALES)
    ]
    go = jobs.buttons("scales", "Draw again")
    results = Results(
        "scales",
        "A slider at 0 keeps what that scale holds, at 1 all of it is drawn again. "
        "Press **Draw again**: the image and eight draws appear here.",
    )
    with results:
        grid = gr.Image(label="The image, then eight draws", elem_id="scales-grid", buttons=[])

    @jobs.task("drawing")
    def again(notify: Notify, name: str, *values: Any) -> list[Any]:
        flow, x, condition, generator, what = _stops(library, name, 1, *values[: len(fields)])
        amounts = values[len(fields) :]
        count = int(flow.latent_scales().max()) + 1
        draws = x.expand(8, *x.shape[1:])
        if condition is not None:
            condition = condition.expand(8, *condition.shape[1:])
        new = latents.resample(flow, draws, amounts[:count], condition, generator, notify)
        both = torch.cat([x, new.to(x)])
        picture = plots.tiles(both, levels=flow.levels or 256, columns=9)
        return [*results.shown(what), picture]

    for event in (go.click, *(slider.release for slider in amounts)):
        results.on(event, again, [model, *fields, *amounts], [grid])

    def offered(count: int) -> list[gr.Slider]:
        """Return the sliders; initially, only the finest scale is drawn again."""
        ends = {0: ", the finest", count - 1: ", the coarsest"} if count > 1 else {}
        return [
            gr.Slider(
                visible=i < count, value=float(i == 0), label=f"Scale {i + 1}{ends.get(i, '')}"
            )
            for i in range(SCALES)
        ]

    return amounts, results, offered
