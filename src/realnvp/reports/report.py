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
import torch
from matplotlib.figure import Figure
from PIL import Image

from realnvp import plots
from realnvp.config import given_text
from realnvp.data import Split
from realnvp.reports.compare import Comparison, compare, setting_text, with_error
from realnvp.reports.findings import Findings, measure
from realnvp.reports.headline import command, data_text, headline
from realnvp.reports.run import Run
from realnvp.utils.errors import describe
from realnvp.utils.files import write_atomically
from realnvp.utils.html import details, picture, table
from realnvp.utils.progress import Bar, duration

__all__ = ["report_html", "write_report"]

THROUGH_TIME = 5
"""Number of pictures of samples during training."""

EXTREMES = 10
"""Number of examples that are shown as hardest and as easiest."""

STYLE = """
:root { color-scheme: light dark; --line: #d5d9de; --soft: #f5f6f8; --ink: #1c2733; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a4450; --soft: #202830; --ink: #e4e9ee; }
  body { background: #161c22; } img { background: white; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1180px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: .6rem 0; }
.runs { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
.runs > div { min-width: 0; overflow-x: auto; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; }
figcaption { font-size: .85rem; opacity: .8; max-width: 40rem; }
img { max-width: 100%; height: auto; }
img.pixels { image-rendering: pixelated; width: 330px; }
table { border-collapse: collapse; font-size: .88rem; }
caption { text-align: left; font-weight: 600; }
td, th { padding: .18rem .6rem; border-bottom: 1px solid var(--line); text-align: left; }
td:last-child { overflow-wrap: anywhere; }
th { background: var(--soft); }
details { margin: .5rem 0; }
summary { cursor: pointer; }
.headline { font-size: 1.25rem; font-weight: 600; line-height: 1.35; margin: .3rem 0; }
code { background: var(--soft); padding: .1rem .3rem; overflow-wrap: anywhere; }
.note { opacity: .8; font-size: .9rem; }
nav { font-size: .9rem; display: flex; flex-wrap: wrap; gap: 0 .8rem; }
"""


@dataclass(frozen=True, eq=False)
class Subject:
    """A run with its measurements, or the reason why there are none."""

    run: Run
    findings: Findings | None
    missing: str = ""


# ---------------------------------------------------------------------- pieces


def _figure(source: str, caption: str, *, pixels: bool = False) -> str:
    shown = picture(source, caption, pixels=pixels)
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def _tiles(images: torch.Tensor, levels: int, columns: int, caption: str) -> str:
    """Return images at their original size, which the page magnifies."""
    small = plots.tiles(images, levels=levels, columns=columns, width=1)
    return _figure(plots.data_uri(small), caption, pixels=True)


def _plot(figure: Figure, caption: str) -> str:
    # 64 colors are enough for a plot, and a third of the size.
    with Image.open(io.BytesIO(plots.as_png(figure, dpi=96))) as image:
        small = image.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    return _figure(plots.data_uri(small), caption)


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
        given = given_text(run.settings.get("data.condition"))
        rows.append((run.unit + given, with_error(value, record.get("standard_error"))))
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
    known = ("kind", "step", "seconds")
    rows += [(str(k).replace("_", " "), str(v)) for k, v in made.items() if k not in known]
    return table(("", "value"), rows, head=False)


def _settings(subject: Subject) -> str:
    rows = [(name, setting_text(value)) for name, value in subject.run.settings.items()]
    return details(f"all {len(rows)} settings", table(("setting", "value"), rows))


def _samples(subject: Subject) -> str | None:
    found = subject.findings
    if found is None:
        return None
    if found.flow.levels is not None:
        assert found.cool is not None  # it is drawn of images
        return _tiles(
            found.samples, found.flow.levels, 8, "temperature 1: draws from the model"
        ) + _tiles(found.cool, found.flow.levels, 8, "temperature 0.7: likelier, less varied")
    if found.flow.dim != 2 or found.flow.condition_dim:  # a plane is of one condition
        return None
    if found.schema is not None and any(c.kind == "category" for c in found.schema.features):
        return None
    plane = plots.Plane.of(
        found.flow,
        found.split.x,
        columns=(found.flow.column_names[0], found.flow.column_names[1]),
    )
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
        shown.append(_figure(plots.data_uri(small), f"step {step:,}", pixels=pixels))
    return "".join(shown)


def _latents(subject: Subject) -> str | None:
    found = subject.findings
    if found is None:
        return None
    groups = found.by_scale()
    figure = plots.Picture(figsize=(11.0, 3.0 * len(groups)), layout="constrained")
    rows = figure.subplots(len(groups), 2, squeeze=False)
    for (name, z), (left, right) in zip(groups.items(), rows, strict=True):
        plots.latents(z, title=name, ax=left)
        plots.quantiles(z, ax=right)
    caption = f"latents of {len(found.split):,} held-out examples against the standard normal"
    return _plot(figure, caption)


def _calibration(subject: Subject) -> str | None:
    found = subject.findings
    if found is None:
        return None
    groups = found.by_scale()
    figure = plots.Picture(figsize=(11.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(groups) if len(groups) > 1 else []
    plots.coverage(list(groups.values()), names, ax=left)
    plots.norms(found.z, ax=right)
    return _plot(
        figure, "share of the latents in central intervals; how far out whole examples lie"
    )


def _extremes(subject: Subject) -> str | None:
    found = subject.findings
    if found is None or len(found.ranking) < 2:  # one alone is neither
        return None
    order, scores = found.ranking, found.scores
    count = min(EXTREMES, len(order) // 2)
    groups = {"hardest": order[:count], "easiest": order.flip(0)[:count]}
    if found.flow.levels is not None:
        unit = "bits/dim"
        return "".join(
            _tiles(
                found.split.x[index],
                found.flow.levels,
                5,
                f"{name}, {unit}: " + ", ".join(f"{scores[i]:.2f}" for i in index),
            )
            for name, index in groups.items()
        )
    parts = []
    for name, index in groups.items():
        frame = found.table(found.split.x[index]).iloc[:, :8]
        texts = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
        rows = [[f"{scores[i]:.3f}", *text] for i, text in zip(index, texts, strict=True)]
        alike = ", among rows with the same missing values" if frame.isna().any(axis=None) else ""
        caption = f"{name} rows{alike}"
        parts.append(table(["nats", *map(str, frame)], rows, caption=caption))
    return '<div class="row">' + "".join(parts) + "</div>"


def _cell(value: Any) -> str:
    """Return a value of a table as text; "" for a gap, and days without an hour.

    >>> _cell(123456.7), _cell(0.123456), _cell(float("nan")), _cell("2020-01-31 00:00:00")
    ('123457', '0.12346', '', '2020-01-31')
    """
    from pandas import isna  # which reports of images do not need

    if isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.5g}"
    return str(value).removesuffix(" 00:00:00")


def _scales(subject: Subject) -> str | None:
    found = subject.findings
    if found is None or found.scales is None or found.flow.levels is None:
        return None
    count = found.scales.shape[1]
    return _tiles(
        found.scales.flatten(0, 1),
        found.flow.levels,
        count,
        "data; below, more and more of the finer latents are drawn again",
    )


def _square(subject: Subject) -> str | None:
    found = subject.findings
    if found is None or found.square is None or found.flow.levels is None:
        return None
    return _tiles(found.square, found.flow.levels, 6, "between four held-out images in the corners")


def _tables(subject: Subject) -> str | None:
    found = subject.findings
    if found is None or found.flow.levels is not None:
        return None
    real, synthetic = found.table(found.split.x), found.table(found.samples)
    parts = [_plot(plots.table_marginals(real, synthetic), "each column, real and synthetic")]
    names = [name for name in real.select_dtypes("number") if real[name].nunique() > 2]
    if len(names) > 1 and found.flow.dim > 2:
        one, other = (f[names].to_numpy(np.float64, na_value=np.nan) for f in (real, synthetic))
        parts.append(
            _plot(
                plots.pairs(one, other, names),
                "pairs of columns: real below the diagonal, synthetic above",
            )
        )
    return "".join(parts)


def _layers(subject: Subject) -> str | None:
    flow = subject.run.flow
    return (
        None if flow is None else details("layers of the model", f"<pre>{escape(repr(flow))}</pre>")
    )


SECTIONS: dict[str, Callable[[Subject], str | None]] = {
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


def _curves(runs: Sequence[Run], comparison: Comparison | None) -> str:
    """Return the curves; for several runs also their differences."""
    if comparison is not None:
        results = f'<div class="runs"><div>{comparison._repr_html_()}</div></div>'
        return results + _plot(
            comparison.figure(), "validations of all runs, and their last samples"
        )
    run = runs[0]
    if not any(r["kind"] in ("train", "validation") for r in run.records):
        return '<p class="note">There are no training records.</p>'
    curves = []  # two pictures, which a narrow window shows one below the other
    for by in ("minutes", "steps"):
        figure = plots.Picture(figsize=(5.6, 3.9), layout="constrained")
        axes = figure.subplots()
        plots.learning_curves(run.records, run.unit, sign=run.sign, by=by, ax=axes)
        curves.append(_plot(figure, f"learning curves by {by}"))
    return f'<div class="row">{"".join(curves)}</div>'


def report_html(subjects: Sequence[Subject]) -> str:
    """Return the page about some runs."""
    runs = [subject.run for subject in subjects]
    comparison = compare(runs) if len(runs) > 1 else None
    curves = _curves(runs, comparison)
    parts = {"Comparison" if comparison else "Curves": curves}
    for title, section in SECTIONS.items():
        cells = [section(subject) for subject in subjects]
        if not any(cells):
            continue
        several = len(subjects) > 1
        shown = [
            f"<div>{f'<h3>{escape(s.run.name)}</h3>' if several else ''}"
            f'<div class="row">{cell or ""}</div></div>'
            for s, cell in zip(subjects, cells, strict=True)
        ]
        parts[title] = f'<div class="runs">{"".join(shown)}</div>'
    # The most important sections come first: the result in words, the numbers, then the curves.
    order = sorted(parts, key=lambda title: title not in ("Summary", "Numbers"))
    anchors = {title: title.lower().replace(" ", "-") for title in order}
    links = "".join(f'<a href="#{anchors[t]}">{escape(t)}</a>' for t in order)
    notes = "".join(
        f'<p class="note">{escape(s.run.name)}: no examples are looked at, since '
        f"{escape(s.missing)}</p>"
        for s in subjects
        if s.missing
    )
    title = ", ".join(run.name for run in runs)
    body = "".join(f'<h2 id="{anchors[t]}">{escape(t)}</h2>{parts[t]}' for t in order)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>realnvp: {escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><nav>{links}</nav>{notes}{body}</body></html>\n"
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
