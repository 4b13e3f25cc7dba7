"""A model for a hub: its files, and a card with results, recipe, curve and samples.

The card is ``README.md`` of the repository: YAML that the hub reads, then Markdown. Its results are
those that the run directory, or the package, records for exactly these weights; for other weights
it gives no numbers. Paths of the machine that trained are left out.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from realnvp import plots
from realnvp.config import DataConfig
from realnvp.data import source_names
from realnvp.flow import Flow
from realnvp.interop.hub import PREFIX, parse_address, upload
from realnvp.pretrained import cards, load_shipped, table_of
from realnvp.reports.compare import with_error
from realnvp.reports.run import Run
from realnvp.reports.samples import picture_of_rows
from realnvp.reports.templates import render
from realnvp.utils.model_folder import write_model
from realnvp.utils.progress import duration
from realnvp.utils.settings import to_dict

__all__ = ["Facts", "facts_of", "push_to_hub", "write_repository"]


@dataclass(frozen=True)
class Facts:
    """Facts about a model: its training and its results.

    Args:
        data: name of the data.
        part: the examples that were measured.
        unit: unit of the result, such as "bits/dim".
        value: the result.
        error: its standard error.
        training: steps and time.
        more: other results by name, as text.
        recipe: YAML from which it can be trained again, or a command; None if unknown.
        run: its run directory, if there is one.
    """

    data: str
    part: str
    unit: str
    value: float
    error: float | None
    training: str
    more: dict[str, str]
    recipe: str | None = None
    run: Run | None = None


def facts_of(flow: Flow) -> Facts | None:
    """Return the facts about a flow that has not been changed since it was loaded."""
    if flow.source is None:
        return None
    if flow.origin == "run":
        run = Run.open(Path(flow.source).absolute().parent)
        same = run.flow is not None and _equal(flow, run.flow)
        return _of_run(run) if same and (run.final or run.best) else None
    if flow.origin == "shipped" and _equal(flow, load_shipped(flow.source)):
        return _of_card(cards()[flow.source])
    return None


def _equal(flow: Flow, other: Flow) -> bool:
    tensors, others = flow.state_dict(), other.state_dict()
    return tensors.keys() == others.keys() and all(
        torch.equal(tensors[name].cpu(), others[name]) for name in tensors
    )


def _of_run(run: Run) -> Facts:
    record = run.final or run.best
    assert record is not None
    part = record["part"] if run.final else "validation, before the end"
    more = _kl(record)
    if record.get("levels"):
        more["grey levels"] = str(record["levels"])
    return Facts(
        data=_public(DataConfig(source=str(run.settings.get("data.source")))).source,
        part=f"{record['examples']:,} examples ({part})",
        unit=run.unit,
        value=run.sign * record["loss"],
        error=record.get("standard_error"),
        training=f"{run.steps:,} steps, {duration(run.seconds)}",
        more=more,
        recipe=_recipe(run),
        run=run,
    )


def _recipe(run: Run) -> str:
    """Return the settings of a run, without the paths of its machine."""
    settings = yaml.safe_load((run.folder / "config.yaml").read_text("utf-8"))
    if isinstance(settings.get("data"), dict):
        settings["data"] = to_dict(_public(DataConfig(**settings["data"])))
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _of_card(card: dict[str, Any]) -> Facts:
    is_of_images = card["unit"] == "bits/dim"
    return Facts(
        data=card["data"],
        part=f"{card['examples']:,} held-out examples",
        unit="bits/dim" if is_of_images else "nats (log-density)",
        value=card["value"],
        error=card["standard_error"],
        training=card["training"],
        more=_kl(card),
        recipe=card["command"],
    )


def _kl(record: dict[str, Any]) -> dict[str, str]:
    """Return the divergence from the true density as text, by its name; {} if it is unknown."""
    if "kl" not in record:
        return {}
    return {"KL(true || model), nats": with_error(record["kl"], record["kl_standard_error"])}


def _public(data: DataConfig) -> DataConfig:
    """Return settings of the data without paths: of a file, only its name is kept."""
    source = data.source if data.source in source_names() else Path(data.source).name
    return replace(data, source=source or "data", root=DataConfig().root, cache=None)


# ---------------------------------------------------------------------- the repository


def write_repository(
    flow: Flow,
    folder: Path,
    repo: str,
    *,
    license: str | None = None,
    training_rows: bool = False,
) -> None:
    """Write the files of a repository of the hub: the model, its card and pictures.

    Args:
        flow: the flow.
        folder: where to write, made if needed; files of the same names are replaced.
        repo: ``owner/name`` of the repository.
        license: the hub's name of a license, such as "apache-2.0".
        training_rows: include a calibration that holds rows of the training data, as they are.

    Raises:
        ValueError: if the flow was not made by a builder, or ``repo`` is not the name of a
            repository.
        OSError: if a file cannot be written.
    """
    parse_address(f"{PREFIX}{repo}")
    settings = flow.settings()
    if flow.trained_on is not None:
        public = replace(flow.trained_on, data=_public(flow.trained_on.data))
        settings["trained_on"] = public.as_dict()
    calibration = flow.calibration
    if calibration is not None and "rows" in calibration and not training_rows:
        calibration = None
    facts = facts_of(flow)
    write_model(folder, settings, flow.state_dict(), calibration)
    pictures = _write_pictures(flow, facts, folder)
    (folder / "README.md").write_text(_card(flow, repo, facts, license, pictures), "utf-8")


def push_to_hub(
    flow: Flow,
    repo: str,
    *,
    license: str | None = None,
    training_rows: bool = False,
    **options: Any,
) -> str:
    """Upload a model to the Hugging Face Hub, from which :func:`realnvp.load` reads it.

    The repository gets what :meth:`realnvp.Flow.save_pretrained` writes, and a card, ``README.md``,
    with samples. For a model that was loaded from a run directory, the card also has its numbers,
    curve and recipe. Paths of this machine are left out. The names of columns and classes are part
    of the model.

    Args:
        flow: the flow.
        repo: ``owner/name``; made if there is no such repository.
        license: the hub's name of a license, for the card, such as "apache-2.0".
        training_rows: include the calibration of a table, which holds some of its training rows
            as they are.
        options: ``commit_message``, ``private``, ``token`` and ``branch`` of
            :func:`realnvp.interop.hub.upload`.

    Returns:
        the address of the commit, ``hf://owner/name@...``.

    Raises:
        ValueError: if the flow was not made by a builder, or ``repo`` is not such a name.
        OSError: if the hub refuses, or cannot be reached.
        ModuleNotFoundError: without ``pip install '.[hub]'``.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_repository(flow, folder, repo, license=license, training_rows=training_rows)
        return upload(folder, repo, **options)


def _write_pictures(flow: Flow, facts: Facts | None, folder: Path) -> list[tuple[str, str]]:
    """Write pictures of samples and of the curve; return their names and captions."""
    pictures = []
    if (picture := _samples(flow)) is not None:
        (folder / "samples.png").write_bytes(plots.as_png(picture))
        pictures.append(("samples.png", "samples"))
    curves = facts.run.folder / "curves.png" if facts is not None and facts.run else None
    if curves is not None and curves.is_file():
        shutil.copyfile(curves, folder / "curves.png")
        pictures.append(("curves.png", "training and validation"))
    return pictures


def _samples(flow: Flow) -> Any:
    """Return a picture of samples, for images and for points in the plane; else None."""
    images = flow.levels is not None
    if (not images and flow.shape != (2,)) or (flow.condition_dim and flow.classes is None):
        return None
    n = 30 if images else 2000
    condition = None if flow.classes is None else torch.arange(n) % flow.classes
    generator = torch.Generator(flow.device).manual_seed(0)
    samples = flow.sample(n, condition=condition, generator=generator).cpu()
    if not torch.isfinite(samples).all():
        return None
    columns = min(flow.classes or 10, 10)
    if images:
        return plots.tiles(samples, levels=flow.levels or 256, columns=columns)
    return picture_of_rows(samples, columns=flow.column_names, schema=table_of(flow))


def _card(
    flow: Flow,
    repo: str,
    facts: Facts | None,
    license: str | None,
    pictures: Sequence[tuple[str, str]],
) -> str:
    """Return the text of the card."""
    condition = ""
    if flow.classes is not None:
        condition = ", condition=torch.zeros(4, dtype=torch.long)"
    elif flow.condition_dim:
        condition = f", condition=torch.zeros(4, {flow.condition_dim})"
    return render(
        "card.md",
        metadata=yaml.safe_dump(_metadata(flow, repo, facts, license), sort_keys=False),
        name=repo.partition("/")[2],
        repo=repo,
        kind=_kind(flow),
        condition=condition,
        pictures=pictures,
        numbers=_numbers(flow, facts),
        recipe=facts and facts.recipe,
    )


def _metadata(flow: Flow, repo: str, facts: Facts | None, license: str | None) -> dict[str, Any]:
    """Return the metadata of the card, for the hub."""
    metadata: dict[str, Any] = {"library_name": "realnvp"}
    if license is not None:
        metadata["license"] = license
    metadata["tags"] = ["realnvp", "normalizing-flow", "density-estimation"]
    task, metric = "density-estimation", "log_likelihood"
    if flow.levels is not None:
        task, metric = "unconditional-image-generation", "bits_per_dim"
        metadata["pipeline_tag"] = task
    if facts is not None:
        name = f"{facts.unit}, {facts.part}"
        result = {
            "task": {"type": task},
            "dataset": {"name": facts.data, "type": facts.data},
            "metrics": [{"type": metric, "name": name, "value": round(facts.value, 6)}],
        }
        metadata["model-index"] = [{"name": repo.partition("/")[2], "results": [result]}]
    return metadata


def _kind(flow: Flow) -> str:
    if flow.levels is not None:
        channels, height, width = flow.shape
        text = f"{height}x{width} images, {channels} channels of {flow.levels} grey levels"
        text = text.replace("1 channels of", "one channel of")
    else:
        text = f"{flow.dim} numbers: {', '.join(flow.column_names[:20])}"
    if flow.classes is not None:
        names = flow.class_names or [str(i) for i in range(flow.classes)]
        text += f"; given a class, {', '.join(names[:20])}"
    elif flow.condition_dim:
        text += f"; given {flow.condition_dim} other numbers"
    return text


def _numbers(flow: Flow, facts: Facts | None) -> dict[str, str]:
    rows = {"parameters": f"{sum(p.numel() for p in flow.parameters()):,}"}
    if facts is not None:
        rows = {
            "data": facts.data,
            facts.unit: with_error(facts.value, facts.error),
            **facts.more,
            "measured on": facts.part,
            "training": facts.training,
            **rows,
        }
    notes = {name: str(value) for name, value in (flow.made_with or {}).items() if value}
    return rows | notes
