"""What a report says first, in words: how good, of what data, and how to repeat it."""

from __future__ import annotations

import io
import math
import shlex

import numpy as np
from PIL import Image
from torch import Tensor

from realnvp.reports.findings import Findings
from realnvp.reports.run import Run
from realnvp.utils.errors import some_of

__all__ = ["command", "data_text", "gaussian_nats", "headline", "webp_bits_per_dim"]


def headline(run: Run, findings: Findings | None) -> str:
    """Return the result of a run beside baselines, in one sentence; "" without a result.

    Images are compared with a uniform model, and with lossless WebP on the images that the report
    measures; points of a known density with that; numbers, with the best Gaussian of the very rows
    that are measured, which favors the Gaussian.
    """
    record = run.final or run.best
    if record is None:
        return ""
    part = record["part"] if run.final else "validation"
    of = f"on {record['examples']:,} {part} {'images' if run.is_of_images else 'rows'}"
    if run.is_of_images:
        text = f"{record['loss']:.2f} bits/dim {of}"
        if findings is None or findings.flow.levels is None:
            return text
        uniform = math.log2(findings.flow.levels)
        text += f": {_beside(record['loss'], uniform)} a uniform model ({uniform:.3g})"
        webp = webp_bits_per_dim(findings.split.x, findings.flow.levels)
        if webp is not None:
            ours = _beside(float(findings.scores.mean()), webp)
            text += f", {ours} lossless WebP on {len(findings.split)} of them ({webp:.2f})"
        return text
    if "kl" in record:
        return f"{record['kl']:.4f} nats from the true density, by KL(true || model) {of}"
    text = f"a mean log-density of {-record['loss']:.2f} nats {of}"
    gaussian = None if findings is None else gaussian_nats(findings)
    if findings is not None and gaussian is not None:
        gain = float(findings.log_p.mean()) - gaussian
        place = "above" if gain >= 0 else "below"
        count = len(findings.split)
        text += f": {abs(gain):.2f} nats {place} the best Gaussian of {count:,} of them"
    return text


def _beside(value: float, baseline: float) -> str:
    """Return how far a value is from a baseline.

    >>> _beside(3.0, 4.0), _beside(5.0, 4.0)
    ('25 % below', '25 % above')
    """
    return f"{abs(value / baseline - 1):.0%}".replace("%", " % ") + (
        "below" if value < baseline else "above"
    )


def webp_bits_per_dim(x: Tensor, levels: int) -> float | None:
    """Return the size of images in one lossless WebP, in bits/dim; None if it has no such images.

    Args:
        x: ``(N, C, H, W)`` integers.
        levels: number of grey levels.
    """
    n, channels, height, width = x.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    largest = 16_383  # pixels of a side, in WebP
    if levels > 256 or channels not in (1, 3) or max(columns * width, rows * height) > largest:
        return None
    tiles = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    tiles[:n] = x.cpu().permute(0, 2, 3, 1).numpy()
    grid = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    sheet = grid.reshape(rows * height, columns * width, channels)
    buffer = io.BytesIO()
    image = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    image.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return 8 * buffer.tell() / x.numel()


def gaussian_nats(findings: Findings) -> float | None:
    """Return the mean log-density of the measured rows under their own best Gaussian.

    It is None where that says nothing: of columns that are no plain numbers, or linear functions of
    others, of a conditional density, and of few rows.
    """
    flow, x = findings.flow, findings.split.x.double().numpy()
    plain = findings.schema is None or all(
        feature.kind == "number" and feature.indicator is None
        for feature in findings.schema.features
    )
    if not plain or flow.condition_dim or len(x) < 10 * flow.dim or flow.dim == 0:
        return None
    sign, log_det = np.linalg.slogdet(np.atleast_2d(np.cov(x.T, bias=True)))
    if sign <= 0 or not math.isfinite(log_det) or not math.isfinite(findings.log_p.mean()):
        return None
    return float(-0.5 * (flow.dim * (1 + math.log(2 * math.pi)) + log_det))


def data_text(run: Run, findings: Findings | None) -> str:
    """Return what the data are, as a sentence."""
    source = _source(run)
    text = f"The data are {source}" if source else "The data were in memory"
    if findings is None:
        return f"{text}."
    flow = findings.flow
    if flow.levels is not None:
        channels, height, width = flow.shape
        text += f": images of {height}x{width} pixels, {channels} channel"
        text += f"{'s' if channels > 1 else ''}, {flow.levels} levels"
    else:
        names = [str(name) for name in findings.table(findings.split.x[:1]).columns]
        text += f": {len(names)} column{'s' if len(names) > 1 else ''}, {some_of(names, 8)}"
    condition = run.settings.get("data.condition")
    if condition:
        text += f", given {condition}"
    return f"{text}. What is shown below is of {len(findings.split):,} {findings.part} examples."


def command(run: Run) -> str:
    """Return the command that trains the same again; "" if its data were in memory."""
    if not _source(run):
        return ""
    config, again = run.folder / "config.yaml", f"{run.folder}-again"
    return shlex.join(["realnvp", "train", str(config), "--out", again])


def _source(run: Run) -> str:
    """Return the name or path of a run's data; "" if they were in memory, which is in brackets."""
    source = str(run.settings.get("data.source") or "")
    return "" if source.startswith("(") else source
