"""What several commands share: the model argument, its data, and results as text or JSON.

PyTorch takes a second to import, and is not needed for help and most errors: so whatever needs it
is imported where it is used.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realnvp.cli.options import DATA_OPTIONS
from realnvp.config import DataConfig
from realnvp.recipes import made
from realnvp.utils.errors import some_of

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from realnvp.columns.impossible import Impossible, Tolerate
    from realnvp.columns.schema import TableSchema
    from realnvp.data import Split
    from realnvp.flow import Flow
    from realnvp.training.launch import Processes


def start(args: Any) -> Processes:
    """Return the processes that the arguments, or ``torchrun``, ask for."""
    from realnvp.training.launch import Processes, launch

    if args.devices * args.nodes == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return Processes(_device(args), local=True)  # and Fabric need not be imported
    return launch(args.device, args.devices, args.nodes)


def _device(args: Any) -> torch.device:
    import torch

    name = args.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error


def read_model(args: Any, device: torch.device | None = None) -> Flow:
    """Return the model of the arguments, on its device, or on another one."""
    from realnvp.pretrained import load

    device = _device(args) if device is None else device
    try:
        return load(args.model).to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {str(device)!r} cannot be used: {reason}") from error


def examples(
    flow: Flow, args: Any, tolerate: Tolerate | None = None, **changes: Any
) -> tuple[Split, str]:
    """Return the data of the arguments, some of them changed, checked against the model.

    Their name is returned, too.

    Impossible rows of a table raise, unless there is a function to be called with them: then they
    are marked (``TableColumns.mark``).

    A model names the data that it was trained with. That is only followed for a run directory,
    and for data that need neither files nor a network: what an untrusted model names, such as a
    folder to download into, is shown instead.

    Raises:
        ValueError: if there are no data, or they do not fit the model.
    """
    from realnvp.pretrained import part_of_data

    args = type(args)(**{**vars(args), **changes})
    recorded = flow.trained_on
    config = DataConfig() if recorded is None else recorded.data
    is_run = flow.origin == "run"
    if not is_run:
        config = replace(config, root=DataConfig().root, cache=None)
    if args.data == "":
        raise ValueError("--data is empty: name a data set, or give a path")
    if args.data is not None and args.split is None:
        return _other_examples(flow, args, config, tolerate), args.data
    if recorded is None:
        raise ValueError(
            "--split selects a part of the data that a model was trained with, which this model "
            "does not record: leave it out"
            if args.split is not None
            else "the model does not record what it was trained on: give --data"
        )
    if args.data is None:
        if not is_run and not _is_embedded(config.source):
            raise ValueError(
                f"{args.model} was trained with {config.source}, which is not read unless you ask "
                f"for it: give --data {config.source}, or other data"
            )
    elif args.data != config.source and recorded.fingerprint is None:
        raise ValueError(
            f"--split is a part of the data that the model was trained with, {config.source}: "
            f"leave --data or --split out"
        )
    config = _with_options(replace(config, source=args.data or config.source), args)
    part, split = part_of_data(flow, args.split, config)
    return split, f"{config.source} ({part})"


def streamed(flow: Flow, args: Any, rows: int) -> tuple[int, Iterator[Split]] | None:
    """Return the number of rows of a Parquet ``--data`` and its parts; None for other data.

    Impossible rows are marked (``TableColumns.mark``), with a warning about the first.

    Args:
        flow: a model of vectors.
        args: the arguments.
        rows: number of rows of a part.
    """
    from realnvp.data.parquet import parquet_files
    from realnvp.data.sources import config_for_source, source_names, stream_examples
    from realnvp.pretrained import data_settings, known_columns, with_marks

    if flow.levels is not None or not args.data or args.data in source_names() or args.split:
        return None
    if not parquet_files(Path(args.data).expanduser()):
        return None
    config = config_for_source(data_settings(flow) or DataConfig(), args.data)
    config = _with_options(config, args)
    tolerate = warning_once()
    count, parts = stream_examples(
        config, rows, known_columns(flow, tolerate), shape=flow.shape, classes=flow.classes
    )
    marked = (
        with_marks(flow, split, args.data, tolerate, i * rows) for i, split in enumerate(parts)
    )
    return count, marked


def row_names(source: str, split: Split) -> dict[str, Any]:
    """Return the column that names each example: its file in a folder of images, or its row."""
    from realnvp.data.sources import is_image_folder
    from realnvp.utils.image_files import image_files

    rows = range(len(split)) if split.rows is None else split.rows.tolist()
    folder = Path(source).expanduser()
    if not is_image_folder(source):
        return {"row": list(rows)}
    files = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    return {"image": [files[row] for row in rows]}


def _is_embedded(source: str) -> bool:
    """Return whether the data need neither files nor a download."""
    from realnvp.data.toy import TOY

    return source == "digits" or source in TOY


def _with_options(config: DataConfig, args: Any) -> DataConfig:
    """Return the settings of the data with those that the command line gives."""
    options = {name: getattr(args, f"data_{name}") for name in DATA_OPTIONS}
    options = {name: value for name, value in options.items() if value is not None}
    return made("data", partial(replace, config), options)


def warning_once(noted: list[Impossible] | None = None) -> Tolerate:
    """Return a function that warns about the first impossible values, and may note all of them."""
    from realnvp.columns.impossible import impossible_text
    from realnvp.utils.progress import warn

    warned = False

    def tolerate(impossible: list[Impossible]) -> None:
        nonlocal warned
        if not warned:
            warn(f"some rows have a likelihood of 0: {impossible_text(impossible)}")
        warned = True
        if noted is not None:
            noted.extend(impossible)

    return tolerate


def _other_examples(flow: Flow, args: Any, config: DataConfig, tolerate: Tolerate | None) -> Split:
    """Return the examples of ``--data``."""
    from realnvp.data import load_examples
    from realnvp.data.sources import config_for_source
    from realnvp.pretrained import known_columns, with_marks

    split = load_examples(
        _with_options(config_for_source(config, args.data), args),
        known_columns(flow, tolerate),
        shape=flow.shape,
        levels=flow.levels,
        classes=flow.classes,
    )
    return with_marks(flow, split, args.data, tolerate)


def table_rows(flow: Flow, args: Any) -> tuple[TableSchema, pd.DataFrame, torch.Tensor | None]:
    """Return the columns of a model of a table, the table of ``--data``, and its condition.

    Raises:
        ValueError: if the model is not one of a table, or the condition is not in the file.
    """
    from realnvp.data.tables import read_condition
    from realnvp.pretrained import condition_names, table_of

    schema = table_of(flow)
    if schema is None:
        raise ValueError(f"{args.model} is not a model of a table: train one with train table")
    frame = read_file(args.data)
    names = condition_names(flow)
    if not names:
        return schema, frame, None
    condition, _ = read_condition(
        frame, names, args.data, flow.class_names, table_of(flow, "condition_table")
    )
    return schema, frame, condition.to(flow.device)


def read_file(name: str) -> pd.DataFrame:
    """Return the table in a file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a table.
    """
    from realnvp.data.tables import read_frame

    return read_frame(existing_file(name))


def existing_file(name: str) -> Path:
    """Return the path of a file.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.absolute()}")
    return path


def identifiers(frame: pd.DataFrame, keep: str | None, where: str) -> pd.DataFrame:
    """Return the columns that identify the rows of a table: those of ``--keep``, or their numbers.

    Raises:
        ValueError: if the table does not have a column.
    """
    import pandas as pd

    from realnvp.data.tables import condition_names

    if keep is None:
        return pd.DataFrame({"row": range(len(frame))}, index=frame.index)
    names = list(frame.columns) if keep == "all" else condition_names(keep, list(frame.columns))
    for name in names:
        if name not in frame.columns:
            raise ValueError(
                f"--keep: {where} has no column {name!r}; its columns are "
                f"{some_of(list(frame.columns))}"
            )
    return frame[names]


def true_log_density(flow: Flow, args: Any) -> Any:
    """Return the log-density of the arguments' data, ``(N, 2) -> (N,)``, where it is known."""
    from realnvp.data.toy import TOY

    source = args.data
    if source is None and flow.trained_on is not None:
        source = flow.trained_on.data.source
    return TOY[source].log_density if source in TOY else None


def given_condition(
    flow: Flow, given: dict[str, str], label: str | None, n: int
) -> torch.Tensor | None:
    """Return the condition of ``n`` rows of a table: values by name, or the label asked for."""
    from realnvp.pretrained import table_of

    schema = table_of(flow, "condition_table")
    if schema is None:
        from realnvp.conditions import condition_of_text

        return condition_of_text(flow, next(iter(given.values()), label), n)
    missing = [name for name in schema.names if name not in given]
    if missing:
        raise ValueError(
            f"the model is conditioned on {', '.join(schema.names)}: give --given "
            f'"{",".join(f"{name}=VALUE" for name in schema.names)}"'
        )
    import pandas as pd
    import torch

    row = schema.as_condition(schema.rows(pd.DataFrame([given]), where="--given"))
    return torch.from_numpy(row).expand(n, -1)


def read_image_model(args: Any) -> Flow:
    """Return the model of the arguments, which must be one of images."""
    flow = read_model(args)
    if flow.levels is None:
        raise ValueError(
            f"{args.model} is a model of vectors, and this picture needs a model of images"
        )
    return flow


def read_picture(
    args: Any, count: int
) -> tuple[Flow, torch.Tensor, torch.Tensor | None, torch.Generator]:
    """Return the image model, ``count`` of the data's images, their condition, and the noise."""
    import torch

    flow = read_image_model(args)
    split, _ = examples(flow, args)
    if count > len(split):
        raise ValueError(f"the picture needs {count} images, but there are {len(split)}")
    chosen = split.select(
        torch.randperm(len(split), generator=torch.Generator().manual_seed(args.seed))[:count]
    )
    condition = None if chosen.condition is None else chosen.condition.to(flow.device)
    generator = torch.Generator(flow.device).manual_seed(args.seed)
    return flow, chosen.x.to(flow.device), condition, generator


def likelihood_rows(result: dict[str, Any], given: str = "") -> list[tuple[str, str]]:
    """Return the rows of the table of a likelihood.

    Args:
        result: ``Likelihood.as_dict()``.
        given: what its name is followed by, such as " given the label"; see ``given_text``.
    """
    rows = []
    if "bits_per_dim" in result:
        name = f"bits/dim{given} (lower is better)"
        rows.append(named_row(name, result["bits_per_dim"], result["standard_error"]))
        rows.append(("grey levels", str(result["levels"])))
    else:
        name = f"log-density in nats{given} (higher is better)"
        rows.append(named_row(name, result["nats"], result["standard_error"]))
    if result["noise_draws"]:
        rows.append(("noise draws", str(result["noise_draws"])))
    if "kl" in result:
        rows.append(named_row("true log-density", result["true_nats"]))
        rows.append(named_row("KL(true || model), nats", result["kl"], result["kl_standard_error"]))
    rows.append(("examples", f"{result['examples']:,}"))
    return rows


def named_row(name: str, value: float | None, error: float | None = None) -> tuple[str, str]:
    """Return a row of a table of numbers."""
    text = "" if value is None else f"{value:.4f}"
    return name, text if error is None or math.isnan(error) else f"{text} ± {error:.4f}"


@dataclass(frozen=True)
class Table:
    """A table that :func:`tell` prints: drawn in a terminal, tab-separated values elsewhere.

    Args:
        title: line above it, which is a comment among tab-separated values.
        columns: names of the columns.
        rows: the cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_tsv(self) -> str:
        """Return the table as tab-separated values."""
        lines = ["\t".join(" ".join(c.split()) for c in r) for r in (self.columns, *self.rows)]
        return "\n".join([f"# {self.title}", *lines])

    def __rich__(self) -> Any:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable

        shown = RichTable(
            title=self.title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False
        )
        for name, *cells in zip(self.columns, *self.rows, strict=True):
            numbers = not any(re.search("[A-Za-z]{4}", cell) for cell in cells)
            shown.add_column(name, justify="right" if numbers else "left", overflow="fold")
        for row in self.rows:
            shown.add_row(*row)
        return shown


def tell(args: Any, result: Any, *texts: str | Table, status: int = 0) -> int:
    """Print a result, as one JSON object or as text and tables, and return the exit status.

    Tables are drawn in a terminal, and tab-separated values where the output is piped.
    """
    if args.json:
        from realnvp.utils.files import standard_json

        print(standard_json(result))
        return status
    for text in texts:
        if isinstance(text, str):
            print(text)
        elif sys.stdout.isatty():
            from rich.console import Console

            Console(markup=False, emoji=False).print(text)  # names may have brackets
        else:
            print(text.as_tsv())
    return status
