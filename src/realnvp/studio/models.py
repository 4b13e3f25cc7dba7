"""The models of a studio: those of the package and of a folder of runs, loaded when asked for."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from realnvp import plots
from realnvp.conditions import condition_of_text
from realnvp.config import DataConfig
from realnvp.data import Split, load_part
from realnvp.data.toy import TOY
from realnvp.evaluation import log_likelihoods
from realnvp.flow import Flow
from realnvp.pretrained import cards, known_columns, load, shipped_names
from realnvp.recipes import with_new_command
from realnvp.reports.run import Run, find_runs

__all__ = ["Library", "condition_of", "labels_of"]

REFERENCE = 128
"""Images whose scores make the histogram; ten times as many rows."""

EVERY = "all in turn"
"""Choice of all classes, one after the other."""


@dataclass(eq=False)
class Library:
    """Models by name, each loaded once; several threads may ask.

    Args:
        runs: folder of runs.
        first: model that is chosen at the beginning: a name, or any path.
    """

    runs: Path = Path("runs")
    first: str = "mnist"
    _flows: dict[str, Flow] = field(default_factory=dict, repr=False)
    _reference: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _portraits: dict[str, Image.Image] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def found_runs(self) -> dict[str, Run]:
        """Return the runs in the folder, newest first, by name."""
        return {run.name: run for run in find_runs(self.runs)}

    def names(self) -> list[str]:
        """Return what can be chosen: the first model, those of the package, runs with a model."""
        runs = [n for n, run in self.found_runs().items() if (run.folder / "model").is_dir()]
        offered = [self.first, *shipped_names(), *(f"runs/{n}" for n in runs)]
        return _most_exact_first(list(dict.fromkeys(offered)))

    def rows(self) -> list[list[str]]:
        """Return the gallery: name, data, quality, number of parameters, command."""
        found = []
        for name, card in cards().items():
            kl = "kl" in card
            value, error = (
                (card["kl"], card["kl_standard_error"])
                if kl
                else (card["value"], card["standard_error"])
            )
            quality = f"{'KL ' if kl else ''}{value:.4f} ± {error:.4f} {card['unit']}"
            parameters = f"{card['parameters']:,}"
            command = with_new_command(card["command"])
            found.append([name, str(card["data"]), quality, parameters, command])
        for name, run in self.found_runs().items():
            record = run.final or run.best
            quality = "" if record is None else f"{run.sign * record['loss']:.4f} {run.unit}"
            data = str(run.settings.get("data.source", ""))
            found.append([f"runs/{name}", data, quality, "", f"{run.steps:,} steps"])
        return found

    def portrait(self, name: str) -> Image.Image:
        """Return a small picture of a model: the last samples of a run, or some of its own."""
        own = name.removeprefix("runs/") if name.startswith("runs/") else ""
        run = self.found_runs().get(own)
        if run is not None and run.pictures:
            with Image.open(run.pictures[-1][1]) as image:
                return image.convert("RGB")
        with self._lock:
            if name not in self._portraits:
                self._portraits[name] = self._draw(name)
            return self._portraits[name]

    def _draw(self, name: str) -> Image.Image:
        flow = self.get(name)
        if flow.levels is not None:
            condition = condition_of(flow, EVERY, 16) if flow.classes is not None else None
            generator = torch.Generator().manual_seed(0)
            x = flow.sample(16, condition=condition, generator=generator)
            return plots.tiles(x, levels=flow.levels, columns=4, width=240)
        x = self.examples(name)[0].x
        with Image.open(io.BytesIO(plots.as_png(plots.points(x[:1000, :2]), dpi=60))) as image:
            return image.convert("RGB")

    def get(self, name: str) -> Flow:
        """Return a model.

        Raises:
            ValueError: if there is no model of that name. A page sends any text: only what was
                offered is opened.
        """
        with self._lock:
            if name in self._flows:
                return self._flows[name]
            if name not in self.names():
                raise ValueError(f"unknown model {name!r}: choose one of the list")
            path = self.runs / name.removeprefix("runs/") if name.startswith("runs/") else name
            given = name if name == self.first else str(path)
            self._flows[name] = load(given)
            return self._flows[name]

    def examples(self, name: str) -> tuple[Split, str]:
        """Return examples to begin with, and what they are.

        They are held-out data where these are in the package or belong to a run of one's own, and
        else the model's own samples.
        """
        flow = self.get(name)
        data = ((flow.trained_on or {}).get("data")) or None
        embedded = data is not None and (data["source"] in TOY or data["source"] == "digits")
        if data is not None and (embedded or flow.origin == "run"):
            try:
                config = DataConfig(**{"test": 0.0, **data})
                fingerprint = (flow.trained_on or {}).get("fingerprint")
                part, split = load_part(config, None, fingerprint, **known_columns(flow))
                return split, f"held-out examples of {data['source']} ({part})"
            except (ValueError, OSError):
                pass  # the data have moved, and samples do as well
        n = 64 if flow.levels is not None else 2000
        condition = condition_of(flow, EVERY, n)
        generator = torch.Generator().manual_seed(1)
        samples = flow.sample(n, condition=condition, generator=generator)
        return Split(samples, condition), "samples of the model itself (its data are not here)"

    def reference(self, name: str) -> tuple[Tensor, str]:
        """Return the scores of :meth:`examples`, with which others are compared, and their name."""
        flow = self.get(name)
        split, what = self.examples(name)
        with self._lock:
            if name not in self._reference:
                most = REFERENCE if flow.levels is not None else 10 * REFERENCE
                order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
                some = split.select(order[:most])
                self._reference[name] = log_likelihoods(flow, some, batch_size=64) * scale_of(flow)
            return self._reference[name], what


def _most_exact_first(names: list[str]) -> list[str]:
    """Order names so that one comes before others that hold it.

    A list that is searched by typing then begins with the name that was typed in full.

    >>> _most_exact_first(["digits", "fashion-mnist", "mnist"])
    ['digits', 'mnist', 'fashion-mnist']
    """

    def place(name: str) -> tuple[int, int]:
        return min(i for i, other in enumerate(names) if name in other), len(name)

    return sorted(names, key=place)


def scale_of(flow: Flow) -> float:
    """Return what one nat is in the unit of scores: bits/dim of images, nats of vectors."""
    return -flow.unit[0] if flow.levels is not None else 1.0


def labels_of(flow: Flow) -> list[str]:
    """Return the choices of a class; [] if the model is not conditioned on classes."""
    if flow.classes is None:
        return []
    return [EVERY, *(flow.class_names or map(str, range(flow.classes)))]


def condition_of(flow: Flow, label: Any, n: int) -> Tensor | None:
    """Return the condition of ``n`` samples, given what a page sends for a label."""
    if not flow.condition_dim:  # an unused box may hold anything
        return None
    chosen = None if label in (None, "", EVERY) else str(label)
    return condition_of_text(flow, chosen, n)
