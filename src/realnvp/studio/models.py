"""The models of a studio: from the package and a folder of runs, loaded on demand."""

from __future__ import annotations

import io
import shlex
import textwrap
import threading
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor

from realnvp import plots
from realnvp.conditions import condition_of_text
from realnvp.data import Split
from realnvp.data.toy import TOY
from realnvp.evaluation import log_likelihoods
from realnvp.flow import Flow
from realnvp.outliers import OutlierScorer
from realnvp.pretrained import cards, data_settings, load, part_of_data, quality, shipped_names
from realnvp.reports.run import Run, find_runs
from realnvp.studio.stopping import stoppable

T = TypeVar("T")

__all__ = ["OWN_SAMPLES", "Library", "condition_of_label", "labels_of", "shell_command"]

REFERENCE = 128
"""Number of images whose scores make the histogram; ten times as many rows."""

EVERY = "all in turn"
"""Choice of all classes, one after the other."""

LONGEST = 30
"""Number of characters of a command in the gallery; ``realnvp models`` shows the whole."""

OWN_SAMPLES = "samples of the model itself (its data are not here)"
"""What takes the place of examples."""

SOURCES = ("examples", "samples")
"""What :meth:`Library.some` returns."""


@dataclass(eq=False)
class Library:
    """Models by name, each loaded once, and again when its files change; it is thread-safe.

    Args:
        runs: folder of runs.
        first: model that is chosen at the beginning: a name, or any path.
    """

    runs: Path = Path("runs")
    first: str = "mnist"
    _flows: dict[str, tuple[int, Flow]] = field(default_factory=dict, repr=False)
    _values: MutableMapping[Flow, dict[str, Any]] = field(
        default_factory=WeakKeyDictionary, repr=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def _once(self, flow: Flow, what: str, make: Callable[[], T]) -> T:
        """Return a value of a model, which is made when it is first needed.

        Concurrent requests make the same one; none waits for another.
        """
        values = self._values.setdefault(flow, {})
        if what not in values:
            values[what] = make()
        return values[what]

    def found_runs(self) -> dict[str, Run]:
        """Return the runs in the folder, newest first, by name."""
        return {run.name: run for run in find_runs(self.runs)}

    def _with_model(self) -> dict[str, Run]:
        return {n: run for n, run in self.found_runs().items() if (run.folder / "model").is_dir()}

    def names(self) -> list[str]:
        """Return the available names: the first model, the package's, runs with a model."""
        offered = [self.first, *shipped_names(), *(f"runs/{n}" for n in self._with_model())]
        return _most_exact_first(list(dict.fromkeys(offered)))

    def rows(self) -> list[list[str]]:
        """Return the gallery: name, data, quality, number of parameters, command."""
        rows = []
        for name, card in cards().items():
            parameters = f"{card['parameters']:,}"
            command = textwrap.shorten(card["command"], LONGEST, placeholder=" …")
            rows.append([name, str(card["data"]), quality(card), parameters, command])
        for name, run in self._with_model().items():
            record = run.final or run.best
            result = "" if record is None else f"{run.sign * record['loss']:.4f} {run.unit}"
            data = str(run.settings.get("data.source", ""))
            rows.append([f"runs/{name}", data, result, "", f"{run.steps:,} steps"])
        return rows

    def portrait(self, name: str) -> Image.Image:
        """Return a small picture of a model: the last samples of a run, or some of its own."""
        name_of_run = name.removeprefix("runs/") if name.startswith("runs/") else ""
        run = self.found_runs().get(name_of_run)
        if run is not None and run.pictures:
            with Image.open(run.pictures[-1][1]) as image:
                return image.convert("RGB")
        return self._once(self.get(name), "portrait", lambda: self._draw(name))

    def _draw(self, name: str) -> Image.Image:
        flow = self.get(name)
        if flow.levels is not None:
            condition = condition_of_label(flow, EVERY, 16) if flow.classes is not None else None
            generator = torch.Generator().manual_seed(0)
            x = flow.sample(16, condition=condition, generator=generator)
            return plots.tiles(x, levels=flow.levels, columns=4, width=240)
        conditions = self.examples(name)[0].condition
        condition = None if conditions is None else conditions[torch.arange(1000) % len(conditions)]
        x = flow.sample(1000, condition=condition, generator=torch.Generator().manual_seed(0))
        # Two columns that visibly vary, in their own order: not a few categories.
        distinct = torch.tensor([len(column.unique()) for column in x.T])
        two = distinct.argsort(descending=True, stable=True)[:2].sort().values
        with Image.open(io.BytesIO(plots.as_png(plots.points(x[:, two]), dpi=60))) as image:
            return image.convert("RGB")

    def get(self, name: str) -> Flow:
        """Return a model.

        Raises:
            ValueError: if there is no model of that name. A page may send any text: only models on
                offer are opened.
        """
        folder = Path(self.address(name))
        file = next((f for f in (folder / "model", folder) if f.is_dir()), None)
        written = 0 if file is None else file.stat().st_mtime_ns
        with self._lock:
            before, flow = self._flows.get(name, (None, None))
            if flow is None or before != written:
                if name not in self.names():
                    raise ValueError(f"unknown model {name!r}: choose one of the list")
                flow = stoppable(load(self.address(name)))
                self._flows[name] = written, flow
            return flow

    def address(self, name: str) -> str:
        """Return the name of a model on the command line."""
        is_run = name.startswith("runs/") and name != self.first
        return str(self.runs / name.removeprefix("runs/")) if is_run else name

    def command(self, verb: str, name: str, *options: object) -> str:
        """Return the command that does the same as the page, as Markdown.

        >>> Library().command("sample", "mnist", "--seed", 3)
        '`realnvp sample mnist --seed 3`'
        """
        return shell_command(verb, self.address(name), *options)

    def examples(self, name: str) -> tuple[Split, str]:
        """Return examples to begin with, and what they are.

        They are held-out data where these are in the package or belong to a run of the user, and
        otherwise the model's own samples.

        Raises:
            ValueError: if the data are not there, and samples need a numeric condition.
        """
        flow = self.get(name)
        config = data_settings(flow)
        embedded = config is not None and (config.source in TOY or config.source == "digits")
        if config is not None and (embedded or flow.origin == "run"):
            try:
                part, split = part_of_data(flow)
                return split, f"held-out examples of {Path(config.source).name} ({part})"
            except (ValueError, OSError):
                pass  # the data have moved: use samples instead
        if flow.condition_dim and flow.classes is None:
            raise ValueError(
                f"there are no examples: the data of {name} are not here, and its own samples "
                "need numbers that they are given"
            )
        n = 64 if flow.levels is not None else 2000
        condition = condition_of_label(flow, EVERY, n)
        generator = torch.Generator().manual_seed(1)
        samples = flow.sample(n, condition=condition, generator=generator)
        return Split(samples, condition), OWN_SAMPLES

    def some(self, name: str, source: str, n: int, seed: int = 0) -> tuple[Split, str]:
        """Return ``n`` examples or samples of a model, and what they are.

        Args:
            name: model.
            source: one of :data:`SOURCES`.
            n: number; there may be fewer examples.
            seed: seed of the samples, or of the choice among the examples.
        """
        generator = torch.Generator().manual_seed(seed)
        if source == "samples":
            flow = self.get(name)
            condition = condition_of_label(flow, None, n)
            x = flow.sample(n, condition=condition, generator=generator)
            return Split(x, condition), f"samples of seed {seed}"
        split, what = self.examples(name)
        return split.select(torch.randperm(len(split), generator=generator)[:n]), what

    def scorer(self, name: str) -> OutlierScorer:
        """Return the scorer of a model: outlier scores, and p-values if it is calibrated."""
        flow = self.get(name)
        return self._once(flow, "scorer", lambda: OutlierScorer(flow))

    def reference(self, name: str) -> tuple[Tensor, str]:
        """Return reference log-likelihoods in nats, and a description of their examples.

        The examples are the held-out ones that the model was calibrated with, or else some of
        :meth:`examples`.
        """
        flow = self.get(name)
        calibration = self.scorer(name).calibration
        if calibration is not None:
            config = data_settings(flow)
            source = "its data" if config is None else Path(config.source).name
            return calibration.statistics["log_likelihood"], f"held-out examples of {source}"

        def compute() -> tuple[Tensor, str]:
            split, what = self.examples(name)
            most = REFERENCE if flow.levels is not None else 10 * REFERENCE
            order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
            return log_likelihoods(flow, split.select(order[:most]), batch_size=64), what

        return self._once(flow, "reference", compute)


def shell_command(*words: object) -> str:
    """Return a command of ``realnvp``, as Markdown."""
    return f"`{shlex.join(['realnvp', *map(str, words)])}`"


def _most_exact_first(names: list[str]) -> list[str]:
    """Order names so that one comes before others that contain it.

    A list that is searched by typing then begins with the name that was typed in full.

    >>> _most_exact_first(["digits", "fashion-mnist", "mnist"])
    ['digits', 'mnist', 'fashion-mnist']
    """

    def place(name: str) -> tuple[int, int]:
        return min(i for i, other in enumerate(names) if name in other), len(name)

    return sorted(names, key=place)


def labels_of(flow: Flow) -> list[str]:
    """Return the choices of a class; [] if the model is not conditioned on classes."""
    if flow.classes is None:
        return []
    return [EVERY, *(flow.class_names or map(str, range(flow.classes)))]


def condition_of_label(flow: Flow, label: Any, n: int) -> Tensor | None:
    """Return the condition of ``n`` samples, given what a page sends for a label."""
    if not flow.condition_dim:  # an unused box may hold anything
        return None
    chosen = None if label in (None, "", EVERY) else str(label)
    return condition_of_text(flow, chosen, n)
