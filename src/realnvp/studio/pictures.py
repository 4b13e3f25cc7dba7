"""Tabs of image models: samples, a walk between images, and what each scale holds."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from realnvp import latents, plots
from realnvp.flow import Flow
from realnvp.studio.jobs import Desk, guarded
from realnvp.studio.models import Library, condition_of
from realnvp.studio.uploads import read_uploads

__all__ = ["sample_tab", "scales_tab", "walk_tab"]

SCALES = 6
"""Sliders that there are; a model shows as many as it has scales."""

SOURCES = ("examples", "samples", "uploads")


def sample_tab(library: Library, desk: Desk, model: gr.Dropdown) -> gr.Dropdown:
    """Make the tab of samples; return its choice of a class."""
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="sample-seed")
        count = gr.Slider(1, 1024, 64, step=1, label="Number", elem_id="sample-n")
        temperature = gr.Slider(0, 1.5, 1.0, step=0.05, label="Temperature", elem_id="sample-t")
        label = gr.Dropdown(
            [], label="Class, or numbers", allow_custom_value=True, visible=False, elem_id="label"
        )
    with gr.Row():
        go = gr.Button("Sample", variant="primary", elem_id="sample-go")
        stop = gr.Button("Cancel", elem_id="sample-stop")
    grid = gr.Image(
        label="Samples", type="filepath", format="png", elem_id="sample-grid",
        buttons=["fullscreen"],
    )  # fmt: skip
    with gr.Row():
        png = gr.DownloadButton("PNG", elem_id="sample-png", interactive=False)
        npz = gr.DownloadButton("NPZ, or CSV of a table", elem_id="sample-npz", interactive=False)

    @guarded
    def draw(
        name: str,
        seed: float,
        n: float,
        temperature: float,
        label: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 -- Gradio finds it by this default
    ) -> tuple[Any, Any, Any]:
        tell = desk.begin(request, progress, "sampling")
        flow = library.get(name)
        count = int(n)
        generator = torch.Generator(flow.device).manual_seed(int(seed))
        condition = condition_of(flow, label, count)
        samples = flow.sample(count, temperature, condition, generator, progress=tell).cpu()
        if not torch.isfinite(samples).all():
            raise ValueError(f"samples at temperature {temperature:g} are not finite: lower it")
        picture = desk.path("samples.png")
        if flow.levels is not None:
            plots.image_grid(samples, picture, levels=flow.levels)
            array = desk.path("samples.npz")
            arrays = {"images": samples.numpy()}
            if condition is not None:
                arrays["labels" if flow.classes is not None else "condition"] = condition.numpy()
            np.savez_compressed(array, **arrays)  # type: ignore[arg-type]
        else:
            import pandas as pd

            plots.save_figure(plots.scatter(samples, columns=flow.column_names[:2]), picture)
            array = desk.path("samples.csv")
            table = pd.DataFrame(samples.numpy(), columns=flow.column_names)
            table.to_csv(array, index=False, float_format="%.9g")
        return (
            str(picture),
            gr.DownloadButton(value=str(picture), interactive=True),
            gr.DownloadButton(value=str(array), interactive=True),
        )

    inputs = [model, seed, count, temperature, label]
    go.click(draw, inputs, [grid, png, npz])
    temperature.release(draw, inputs, [grid, png, npz])
    stop.click(desk.cancel, None, None, queue=False)
    return label


def _stops(
    library: Library, name: str, source: str, seed: int, files: list[str] | None, invert: bool,
    count: int,
) -> tuple[Flow, Tensor, Tensor | None, str]:  # fmt: skip
    """Return the model, so many images to begin with, their conditions, and what they are."""
    flow = library.get(name)
    if flow.levels is None:
        raise ValueError("the model is one of vectors: this is of images")
    if source == "uploads":
        split, _, note = read_uploads(files or [], flow, invert)
        if len(split) < count:
            raise ValueError(f"upload {count} images, or choose another number: got {len(split)}")
        x = split.x[:count]
        if flow.classes is None:
            return flow, x, condition_of(flow, None, count), note
        found = flow.classify(x)
        seen = [flow.class_names[i] if flow.class_names else str(i) for i in found.tolist()]
        return flow, x, found, f"{note}; taken for {', '.join(seen)}"
    generator = torch.Generator().manual_seed(seed)
    if source == "samples":
        condition = condition_of(flow, None, count)
        x = flow.sample(count, condition=condition, generator=generator)
        return flow, x, condition, f"samples of seed {seed}"
    split, what = library.examples(name)
    chosen = split.select(torch.randperm(len(split), generator=generator)[:count])
    return flow, chosen.x, chosen.condition, what


def walk_tab(library: Library, desk: Desk, model: gr.Dropdown) -> None:
    """Make the tab that interpolates between two or four images."""
    with gr.Row():
        number = gr.Radio([2, 4], value=2, label="Images", elem_id="walk-number")
        source = gr.Radio(list(SOURCES), value="examples", label="From", elem_id="walk-source")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="walk-seed")
        invert = gr.Checkbox(False, label="Exchange dark and light", elem_id="walk-invert")
    files = gr.File(file_count="multiple", label="Your images", elem_id="walk-files", height=110)
    with gr.Row():
        go = gr.Button("Walk", variant="primary", elem_id="walk-go")
        stop = gr.Button("Cancel", elem_id="walk-stop")
    note = gr.Markdown(elem_id="walk-note")
    ends = gr.Image(label="As the model sees them", elem_id="walk-ends", height=180, buttons=[])
    at = gr.Slider(0, 1, 0, step=1, label="Along the path", elem_id="walk-at", interactive=True)
    with gr.Row():
        frame = gr.Image(label="On the path", elem_id="walk-frame", height=320, buttons=[])
        film = gr.Image(
            label="Animation", type="filepath", format="gif", elem_id="walk-film", height=320,
            buttons=["download"],
        )  # fmt: skip
    frames = gr.State([])

    @guarded
    def walk(
        name: str,
        number: int,
        source: str,
        seed: float,
        invert: bool,
        files: list[str] | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        tell = desk.begin(request, progress, "walking")
        flow, x, condition, what = _stops(
            library, name, source, int(seed), files, invert, int(number)
        )
        levels = flow.levels or 256
        tell(1, 3)
        steps = 24 if len(x) == 2 else 10
        generator = torch.Generator().manual_seed(int(seed))
        path = latents.walk(flow, x, steps, condition, generator)
        tell(2, 3)
        shown = [plots.tiles(one[None], levels=levels, border=0, width=300) for one in path]
        file = desk.path("walk.gif")
        plots.save_animation(shown, file)
        ends = plots.tiles(x, levels=levels, columns=len(x), width=400)
        slider = gr.Slider(maximum=len(shown) - 1, value=0)
        return what, ends, slider, shown[0], str(file), shown

    @guarded
    def look(at: float, frames: list[Image.Image]) -> Image.Image | None:
        return frames[min(int(at), len(frames) - 1)] if frames else None

    go.click(
        walk, [model, number, source, seed, invert, files], [note, ends, at, frame, film, frames]
    )
    at.change(look, [at, frames], frame, show_progress="hidden")
    stop.click(desk.cancel, None, None, queue=False)


def scales_tab(library: Library, desk: Desk, model: gr.Dropdown) -> list[gr.Slider]:
    """Make the tab that draws latents again by scale; return its sliders."""
    with gr.Row():
        source = gr.Radio(list(SOURCES), value="examples", label="From", elem_id="scales-source")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="scales-seed")
        invert = gr.Checkbox(False, label="Exchange dark and light", elem_id="scales-invert")
    files = gr.File(file_count="multiple", label="Your image", elem_id="scales-files", height=110)
    gr.Markdown("How much of each scale's latents is drawn again: 0 keeps them, 1 all of them.")
    amounts = [
        gr.Slider(0, 1, 0, step=0.05, label=f"Scale {i + 1}", visible=i < 2, elem_id=f"scale-{i}")
        for i in range(SCALES)
    ]
    go = gr.Button("Draw again", variant="primary", elem_id="scales-go")
    note = gr.Markdown(elem_id="scales-note")
    grid = gr.Image(label="The image, then eight draws", elem_id="scales-grid", buttons=[])

    @guarded
    def again(
        name: str,
        source: str,
        seed: float,
        invert: bool,
        files: list[str] | None,
        *amounts: float,
    ) -> tuple[str, Image.Image]:
        flow, x, condition, what = _stops(library, name, source, int(seed), files, invert, 1)
        count = int(flow.latent_scales().max()) + 1
        draws = x.expand(8, *x.shape[1:])
        if condition is not None:
            condition = condition.expand(8, *condition.shape[1:])
        generator = torch.Generator().manual_seed(int(seed))
        new = latents.resample(flow, draws, amounts[:count], condition, generator)
        both = torch.cat([x, new.to(x)])
        return what, plots.tiles(both, levels=flow.levels or 256, columns=9)

    inputs = [model, source, seed, invert, files, *amounts]
    go.click(again, inputs, [note, grid])
    for slider in amounts:
        slider.release(again, inputs, [note, grid])
    return amounts
