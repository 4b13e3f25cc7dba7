"""One self-contained HTML file about one run, or several side by side.

A section is a function from the measurements of one run to HTML, or None where it does not apply.
The file contains its pictures and styles, and loads nothing from elsewhere.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from realnvp import plots
from realnvp.config import given_text
from realnvp.data import Split
from realnvp.reports.compare import compare, setting_text, with_error
from realnvp.reports.findings import Findings, measure
from realnvp.reports.headline import command, data_text, headline
from realnvp.reports.run import Run
from realnvp.reports.templates import render
from realnvp.utils.errors import describe
from realnvp.utils.files import write_atomically
from realnvp.utils.html import details, picture, table
from realnvp.utils.progress import Bar, duration

__all__ = ["report_html", "write_report"]

THROUGH_TIME = 5
"""Number of pictures of samples during training."""

EXTREMES = 10
"""Number of examples that are shown as hardest and as easiest."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A run with its measurements, or the reason why there are none."""

    run: Run
    findings: Findings | None
    missing: str = ""


Section = Callable[[Subject], str | None]


# ---------------------------------------------------------------------- pieces


def _figure(image: Image.Image, caption: str, *, pixels: bool = False) -> str:
    shown = picture(plots.data_uri(image), caption, pixels=pixels)
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def _tiles(findings: Findings, images: Tensor, columns: int, caption: str) -> str:
    """Return images at their original size, which the page magnifies."""
    assert findings.flow.levels is not None  # they are images
    small = plots.tiles(images, levels=findings.flow.levels, columns=columns, width=1)
    return _figure(small, caption, pixels=True)


def _plot(figure: Figure, caption: str) -> str:
    # 64 colors are enough for a plot, and a third of the size.
    with Image.open(io.BytesIO(plots.as_png(figure, dpi=96))) as image:
        return _figure(image.convert("RGB").quantize(64, dither=Image.Dither.NONE), caption)


# ---------------------------------------------------------------------- sections


def _summary(subject: Subject) -> str:
    """Return the headline, what the data are, and the command that repeats the run."""
    run, findings = subject.run, subject.findings
    text = headline(run, findings)
    parts = [f'<p class="headline">{escape(text[0].upper() + text[1:])}.</p>'] if text else []
    parts.append(f"<p>{escape(data_text(run, findings))}</p>")
    if again := command(run):
        parts.append(f"<p>The same again: <code>{escape(again)}</code></p>")
    return f"<div>{''.join(parts)}</div>"


def _numbers(subject: Subject) -> str:
    run = subject.run
    record = run.final or run.best
    rows: list[tuple[str, str]] = []
    if record is not None:
        value = run.sign * record["loss"]
        context = given_text(run.settings.get("data.condition"))
        rows.append((run.unit + context, with_error(value, record.get("standard_error"))))
        if "kl" in record:
            rows.append(
                ("KL(true || model), nats", with_error(record["kl"], record["kl_standard_error"]))
            )
        part = record["part"] if run.final else "validation so far"
        rows.append(("of", f"{record['examples']:,} examples ({part})"))
    for name in ("levels", "noise_draws"):
        if record is not None and record.get(name):
            rows.append((name.replace("_", " "), str(record[name])))
    rows.append(("training", f"{run.steps:,} steps, {duration(run.seconds)}"))
    if run.flow is not None:
        rows.append(("parameters", f"{sum(p.numel() for p in run.flow.parameters()):,}"))
    skipped = sum(r["kind"] == "skipped" for r in run.records)
    if skipped:
        rows.append(("skipped batches", str(skipped)))
    made = next((r for r in run.records if r["kind"] == "run"), {})
    shown = ("kind", "step", "seconds")
    rows += [(str(k).replace("_", " "), str(v)) for k, v in made.items() if k not in shown]
    return table(("", "value"), rows, head=False)


def _settings(subject: Subject) -> str:
    rows = [(name, setting_text(value)) for name, value in subject.run.settings.items()]
    return details(f"all {len(rows)} settings", table(("setting", "value"), rows))


def _measured(section: Callable[[Findings], str | None]) -> Section:
    """Return a section about the measurements of a run, for runs that have them."""
    return lambda subject: None if subject.findings is None else section(subject.findings)


@_measured
def _samples(findings: Findings) -> str | None:
    flow = findings.flow
    if findings.cool is not None:
        cool = _tiles(findings, findings.cool, 8, "temperature 0.7: likelier, less varied")
        return _tiles(findings, findings.samples, 8, "temperature 1: draws from the model") + cool
    if flow.dim != 2 or flow.condition_dim:  # a plane is of one condition
        return None
    if findings.schema is not None and any(c.kind == "category" for c in findings.schema.features):
        return None
    first, second = flow.column_names
    plane = plots.Plane.of(flow, findings.split.x, columns=(first, second))
    return _plot(plots.planes([plane]), "data, samples, density and the bent grid of the latents")


def _through_time(subject: Subject) -> str | None:
    pictures = subject.run.pictures
    if len(pictures) < 2:
        return None
    chosen = np.unique(np.linspace(0, len(pictures) - 1, THROUGH_TIME).round().astype(int))
    shown = []
    for i in chosen:
        step, path = pictures[i]
        with Image.open(path) as image:
            small = image.convert("RGB")
        pixels = subject.run.is_of_images
        if not pixels:
            small.thumbnail((640, 640))
            small = small.quantize(64, dither=Image.Dither.NONE)
        shown.append(_figure(small, f"step {step:,}", pixels=pixels))
    return "".join(shown)


@_measured
def _latents(findings: Findings) -> str:
    groups = findings.by_scale()
    figure = plots.Picture(figsize=(11.0, 3.0 * len(groups)), layout="constrained")
    rows = figure.subplots(len(groups), 2, squeeze=False)
    for (name, z), (left, right) in zip(groups.items(), rows, strict=True):
        plots.latents(z, title=name, ax=left)
        plots.quantiles(z, ax=right)
    caption = f"latents of {len(findings.split):,} held-out examples against the standard normal"
    return _plot(figure, caption)


@_measured
def _calibration(findings: Findings) -> str:
    groups = findings.by_scale()
    figure = plots.Picture(figsize=(11.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(groups) if len(groups) > 1 else []
    plots.coverage(list(groups.values()), names, ax=left)
    plots.norms(findings.z, ax=right)
    return _plot(
        figure, "fraction of the latents in central intervals; how far out whole examples lie"
    )


@_measured
def _extremes(findings: Findings) -> str | None:
    order, scores, x = findings.ranking, findings.scores, findings.split.x
    if len(order) < 2:  # one alone is neither
        return None
    count = min(EXTREMES, len(order) // 2)
    groups = {"hardest": order[:count], "easiest": order.flip(0)[:count]}
    parts = []
    for name, index in groups.items():
        if findings.flow.levels is not None:
            values = ", ".join(f"{scores[i]:.2f}" for i in index)
            parts.append(_tiles(findings, x[index], 5, f"{name}, bits/dim: {values}"))
            continue
        frame = findings.table(x[index]).iloc[:, :8]
        texts = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
        rows = [[f"{scores[i]:.3f}", *text] for i, text in zip(index, texts, strict=True)]
        alike = ", among rows with the same missing values" if frame.isna().any(axis=None) else ""
        caption = f"{name} rows{alike}"
        parts.append(table(["nats", *map(str, frame)], rows, caption=caption))
    return '<div class="row">' + "".join(parts) + "</div>"


def _cell(value: Any) -> str:
    """Return a value of a table as text; "" for a missing one, and days without an hour.

    >>> _cell(123456.7), _cell(0.123456), _cell(float("nan")), _cell("2020-01-31 00:00:00")
    ('123457', '0.12346', '', '2020-01-31')
    """
    from pandas import isna  # which reports of images do not need

    if isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.5g}"
    return str(value).removesuffix(" 00:00:00")


@_measured
def _scales(findings: Findings) -> str | None:
    if findings.scales is None:
        return None
    caption = "data; below, more and more of the finer latents are drawn again"
    return _tiles(findings, findings.scales.flatten(0, 1), findings.scales.shape[1], caption)


@_measured
def _square(findings: Findings) -> str | None:
    if findings.square is None:
        return None
    return _tiles(findings, findings.square, 6, "between four held-out images in the corners")


@_measured
def _tables(findings: Findings) -> str | None:
    if findings.flow.levels is not None:
        return None
    real, synthetic = findings.table(findings.split.x), findings.table(findings.samples)
    html = _plot(plots.table_marginals(real, synthetic), "each column, real and synthetic")
    names = [name for name in real.select_dtypes("number") if real[name].nunique() > 2]
    if len(names) > 1 and findings.flow.dim > 2:
        one, other = (f[names].to_numpy(np.float64, na_value=np.nan) for f in (real, synthetic))
        caption = "pairs of columns: real below the diagonal, synthetic above"
        html += _plot(plots.pairs(one, other, names), caption)
    return html


def _layers(subject: Subject) -> str | None:
    flow = subject.run.flow
    return (
        None if flow is None else details("layers of the model", f"<pre>{escape(repr(flow))}</pre>")
    )


SECTIONS: dict[str, Section] = {
    "Summary": _summary,
    "Numbers": _numbers,
    "Samples": _samples,
    "Samples through time": _through_time,
    "Real and synthetic": _tables,
    "Latents": _latents,
    "Calibration": _calibration,
    "Hardest and easiest held-out examples": _extremes,
    "Scales": _scales,
    "Interpolation": _square,
    "Settings": _settings,
    "Layers": _layers,
}


# ---------------------------------------------------------------------- the page


def _curves(run: Run) -> str:
    if not any(r["kind"] in ("train", "validation") for r in run.records):
        return '<p class="note">There are no training records.</p>'
    curves = []  # two pictures, which a narrow window shows one below the other
    for by in ("minutes", "steps"):
        figure = plots.Picture(figsize=(5.6, 3.9), layout="constrained")
        axes = figure.subplots()
        plots.learning_curves(run.records, run.unit, sign=run.sign, by=by, ax=axes)
        curves.append(_plot(figure, f"learning curves by {by}"))
    return "".join(curves)


def _comparison(runs: Sequence[Run]) -> str:
    comparison = compare(runs)
    figure = _plot(comparison.figure(), "validations of all runs, and their last samples")
    return f"<div>{comparison._repr_html_()}</div>{figure}"


def report_html(subjects: Sequence[Subject]) -> str:
    """Return the page about some runs."""
    runs = [subject.run for subject in subjects]
    sections = {
        title: parts
        for title, section in SECTIONS.items()
        if any(parts := [section(subject) for subject in subjects])
    }
    curves = {"Curves": [_curves(runs[0])]}
    if len(runs) > 1:
        curves = {"Comparison": [_comparison(runs)]}
    # The most important sections come first: the result in words, the numbers, then the curves.
    first = {title: sections.pop(title) for title in ("Summary", "Numbers")}
    return render(
        "report.html",
        title=", ".join(run.name for run in runs),
        subjects=subjects,
        sections=first | curves | sections,
    )


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    held_out: tuple[str, Split] | None = None,
    bar: Bar | None = None,
) -> Path:
    """Write a self-contained HTML file about some runs.

    Args:
        runs: one run, or several that are shown side by side.
        out: file to write.
        held_out: name and examples of the part that is reported, for a run whose data are in
            memory; read again if left out.
        bar: where progress is shown.

    Raises:
        ValueError: if the runs cannot be compared.
        OSError: if the file cannot be written.
    """
    subjects = []
    for i, run in enumerate(runs):

        def progress(fraction: float, done: int = i) -> None:
            if bar is not None:
                bar.update((done + 0.9 * fraction) / len(runs))

        subjects.append(_subject(run, held_out, progress))
    write_atomically(out, report_html(subjects).encode())
    return out


def _subject(
    run: Run, held_out: tuple[str, Split] | None, progress: Callable[[float], None]
) -> Subject:
    """Measure a run; if its model or data are missing, note that instead."""
    try:
        flow = run.flow
        if flow is None:
            return Subject(run, None, "it has no saved model")
        part, split = held_out or run.held_out()
        return Subject(run, measure(flow, part, split, progress))
    except (ValueError, OSError) as error:
        return Subject(run, None, describe(error))
