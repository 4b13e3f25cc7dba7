"""Train a recipe or any flow, from start to end, with or without a run directory."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike
from torch import Tensor

from realnvp import plots, pretrained
from realnvp.config import LOGGERS, DataConfig, Recipe, TrainingConfig, VectorRecipe
from realnvp.data import Dataset, Split, as_dataset, load_data
from realnvp.data.dataset import check_fingerprint
from realnvp.data.sources import check_source
from realnvp.data.tables import NEW_DATA
from realnvp.evaluation import Likelihood
from realnvp.flow import Flow
from realnvp.inputs import check_data
from realnvp.model_info import ModelInfo
from realnvp.recipes import load_recipe
from realnvp.reports.run import read_records
from realnvp.training.callbacks import Callback, History, RunLogger
from realnvp.training.initialization import build, standardize_condition
from realnvp.training.launch import launch
from realnvp.training.run_directory import RunDirectory
from realnvp.training.runtime import (
    limited_threads,
    provenance,
    stop_signals,
)
from realnvp.training.tracking import LightningLogger, lightning_logger
from realnvp.training.trainer import POINTS, Trainer, check_budget
from realnvp.training.warm_start import (
    copy_of_table,
    keeping_columns,
    model_of,
    recipe_of_table,
    warm_start,
)
from realnvp.utils import serialization as checkpoint
from realnvp.utils.allocation import keep_all_freed_memory
from realnvp.utils.errors import Interrupted
from realnvp.utils.html import picture, table
from realnvp.utils.model_folder import rebuild, write_calibration
from realnvp.utils.progress import Bar, duration, warn
from realnvp.utils.settings import to_dict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IN_MEMORY = "(in memory)"
"""Source of data that were passed as an array, in the settings of a run."""


KEPT = ("kind", "seed", "model.", "data.", "validation")
"""Settings that cannot change when a run is resumed."""


PLACES = ("data.root", "data.cache", "data.storage")
"""Settings of where the data are, which may change when a run is resumed."""


@dataclass
class TrainingResult:
    """Result of a training run.

    Attributes:
        flow: the model with the best validation, in evaluation mode.
        likelihood: its likelihood on held-out examples.
        records: the curve: losses of training and validation, each with its "kind", "step" and
            "seconds"; see :meth:`realnvp.training.callbacks.Callback.log`.
        folder: the run directory, None if there is none.
        steps: number of optimizer steps.
        seconds: duration of training.
        parameters: number of the model's parameters.
        skipped: number of batches that were skipped, because something was not finite, or the
            gradient was far longer than previous ones.
        dequantized: names of the columns of integers, decimals, dates and categories.
        part: part of the data on which the likelihood was measured: "test", on which nothing was
            chosen, or "validation" if there is none.
        stopped_early: True if validations stopped improving before the budget was used up.
        main: False in all but one of several processes, which prints and writes.
    """

    flow: Flow
    likelihood: Likelihood
    records: list[dict[str, Any]] = field(repr=False)
    folder: Path | None
    steps: int
    seconds: float
    parameters: int
    skipped: int
    dequantized: list[str]
    stopped_early: bool
    part: str
    main: bool = True

    @property
    def curve(self) -> pd.DataFrame:
        """The validations: columns "step", "minutes", the unit's name and "standard_error"."""
        import pandas as pd

        rows = [r for r in self.records if r["kind"] == "validation"]
        return pd.DataFrame(
            {
                "step": [r["step"] for r in rows],
                "minutes": [r["seconds"] / 60 for r in rows],
                self._unit: [self._sign * r["loss"] for r in rows],
                "standard_error": [r["standard_error"] for r in rows],
            }
        )

    @property
    def _unit(self) -> str:
        return self.flow.unit[1].partition(" (")[0]

    @property
    def _sign(self) -> float:
        return math.copysign(1.0, self.flow.unit[0])

    def plot(self, ax: Axes | None = None, by: Literal["minutes", "steps"] = "minutes") -> Figure:
        """Draw the learning curves.

        Args:
            ax: axes to draw into; new ones if left out.
            by: quantity of the horizontal axis.
        """
        return plots.learning_curves(self.records, self.flow.unit[1], sign=self._sign, by=by, ax=ax)

    def _repr_html_(self) -> str:
        error = self.likelihood.standard_error
        rows = [
            (self.flow.unit[1], f"{self._sign * self.likelihood.loss:.4f} ± {error:.4f}"),
            ("of", f"{self.likelihood.examples:,} examples ({self.part})"),
        ]
        if self.likelihood.kl is not None:
            kl, kl_error = self.likelihood.kl, self.likelihood.kl_standard_error
            rows.append(("KL(true || model), nats", f"{kl:.4f} ± {kl_error:.4f}"))
        rows += [
            ("training", f"{self.steps:,} steps, {duration(self.seconds)}"),
            ("parameters", f"{self.parameters:,}"),
            ("folder", "none" if self.folder is None else str(self.folder)),
        ]
        numbers = table(("", "value"), rows, head=False)
        if len(self.curve) < 2:
            return numbers
        curve = plots.data_uri(self.plot(by="steps"), dpi=72)
        return f"{numbers}{picture(curve, 'learning curves')}"


def train(
    recipe: Recipe | str,
    out: Path | str | None = None,
    *,
    data: DataConfig | Dataset | Split | ArrayLike | Tensor | None = None,
    init: Any = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
    logger: str | Any = "tensorboard",
) -> TrainingResult:
    """Train a recipe's model.

    Args:
        recipe: model, data and training settings, with at least one budget; or the name of a
            recipe, or the path of a YAML file.
        out: run directory to make or to resume; None writes nothing.
        data: data in place of the recipe's: settings, or examples in memory, of which the fraction
            ``data.validation`` of the recipe is held out.
        init: model whose weights to start from, in place of random ones: a flow, a fitted
            :class:`~realnvp.estimator.RealNVPDensity`, or what :func:`realnvp.load` takes, as
            :func:`~realnvp.training.warm_start.warm_start` says.
            A table's model keeps its layers and its columns, which the new rows must fit.
        resume: continue the run in ``out``.
        overwrite: replace the run in ``out``, if there is one.
        quiet: do not show progress.
        callbacks: objects that receive records, pictures and states.
        logger: "tensorboard", for events in the run directory; "wandb" or "mlflow", through
            Lightning's loggers; "none"; or a logger of Lightning.

    Raises:
        ValueError: if settings and data do not match, or the run to resume had different ones.
        FileExistsError: if ``out`` exists, without ``resume`` or ``overwrite``.
        BlockingIOError: if another process is training in ``out``.
        Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
        FloatingPointError: if the loss or a gradient is repeatedly not finite.
        OSError: if the last checkpoint cannot be written.
        RemoteRankError: in all processes but the one that reports the error.

    >>> from realnvp.recipes import load_recipe
    >>> result = train(load_recipe("moons", training={"steps": 20}), quiet=True)
    >>> result.flow.sample(3).shape, result.steps, result.folder
    (torch.Size([3, 2]), 20, None)
    """
    in_memory = data is not None and not isinstance(data, DataConfig)
    if isinstance(recipe, str):  # the recipe of tables has no data of its own
        chosen = load_recipe(recipe, data=None if data is None else {"source": IN_MEMORY})
    else:
        chosen = recipe
    if isinstance(data, DataConfig):
        chosen = dataclasses.replace(chosen, data=data)
    elif in_memory:
        memory = dataclasses.replace(chosen.data, source=IN_MEMORY)
        chosen = dataclasses.replace(chosen, data=memory)

    initial = model_of(init)
    table = None  # the model of a table to continue with
    if initial is not None and not in_memory and pretrained.table_of(initial) is not None:
        table = initial
    if table is not None and isinstance(chosen, VectorRecipe):
        chosen = recipe_of_table(chosen, table)

    def start(state: dict[str, Any] | None) -> Flow | None:
        if state is None:
            return initial
        return rebuild(json.loads(state["model"]), state["now"]["model"], "the checkpoint")

    def load(start: Flow | None) -> Dataset:
        if data is None or isinstance(data, DataConfig):
            known = NEW_DATA if start is None else pretrained.known_columns(start)
            with contextlib.nullcontext() if table is None else keeping_columns():
                return load_data(chosen.data, known)
        return as_dataset(data, chosen.data)

    def make(dataset: Dataset, start: Flow | None, resumed: bool) -> Flow:
        if resumed:
            assert start is not None
            return start
        if table is not None:
            splits = dataset.train, dataset.validation, dataset.test
            with keeping_columns():
                flow = copy_of_table(table, *filter(None, splits), where=chosen.data.source)
        else:
            flow = build(chosen, dataset)
            if start is not None:
                warm_start(flow, start)
        if not in_memory:  # data in memory could not be read again
            flow.trained_on = ModelInfo(
                chosen.data,
                columns=None if (c := dataset.columns) is None else list(c),
                categories=None if (c := dataset.categories) is None else list(c),
                table=None if dataset.schema is None else dataset.schema.as_dict(),
                condition_table=None if (s := dataset.condition_schema) is None else s.as_dict(),
                fingerprint={str(part): text for part, text in dataset.fingerprint.items()},
            )
        return flow

    options = _Options(
        None if out is None else Path(out), resume, overwrite, quiet, callbacks, logger
    )
    source = None if in_memory else chosen.data.source
    return _run(start, load, make, chosen.training, chosen.seed, to_dict(chosen), options, source)


def fit(
    flow: Flow,
    X: Dataset | Split | ArrayLike | Tensor,
    *,
    condition: ArrayLike | Tensor | None = None,
    validation: float = 0.1,
    minutes: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    training: TrainingConfig | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
    logger: str | Any = "tensorboard",
) -> TrainingResult:
    """Train any flow, such as a chain of layers, on examples in memory.

    The flow is trained in place, with the loop, checkpoints, curve and run directory of recipes.

    Args:
        flow: the model.
        X: examples: vectors ``(N, D)`` or integer images ``(N, C, H, W)``.
        condition: for a conditional flow, labels ``(N,)`` or vectors ``(N, K)``.
        validation: size of the held-out part: a fraction below 1, or a number of examples.
        minutes: budget of time; the first budget that is used up ends the training.
        epochs: budget of passes over the training examples.
        steps: budget of optimizer steps.
        training: all other settings; budgets that are given here replace all of its budgets.
        seed: seed of the order, of all noise, and of which examples are held out.
        out: run directory to make or to resume; None writes nothing.
        resume: continue the run in ``out``, with a flow of the same layers.
        overwrite: replace the run in ``out``, if there is one.
        quiet: do not show progress.
        callbacks: objects that receive records, pictures and states.
        logger: "tensorboard", for events in the run directory; "wandb" or "mlflow", through
            Lightning's loggers; "none"; or a logger of Lightning.

    Raises:
        ValueError: if the examples do not fit the flow, it has nothing to train, or no budget is
            given; and see :func:`train`.

    >>> import torch
    >>> from realnvp import MLP, Chain
    >>> from realnvp.bijections import AffineCoupling, ChannelMask
    >>> coupling = AffineCoupling(ChannelMask(), MLP(1, 2, hidden=8, blocks=1), channels=1)
    >>> flow = Flow(Chain(coupling), shape=(2,))
    >>> result = fit(flow, torch.randn(200, 2), steps=10, quiet=True)
    >>> result.likelihood.examples, result.steps
    (20, 10)
    """
    if not any(parameter.requires_grad for parameter in flow.parameters()):
        raise ValueError("the flow has no parameter that requires gradients: nothing to train")
    config = training or TrainingConfig()
    if any(value is not None for value in (minutes, epochs, steps)):
        config = dataclasses.replace(config, minutes=minutes, epochs=epochs, steps=steps)
    settings = {
        "kind": "flow",
        "training": to_dict(config),
        "validation": validation,
        "seed": seed,
    }

    def load(_: Flow | None) -> Dataset:
        held_out = DataConfig(IN_MEMORY, validation=validation, test=0, integers="none", seed=seed)
        return as_dataset(X, held_out, condition, flow.levels, least=1)

    def check(dataset: Dataset, *_: Any) -> Flow:
        for split in (dataset.train, dataset.validation):
            check_data(split.x, flow.shape, flow.levels)
            flow.as_condition(split.condition, len(split))
        if flow.condition_dim and flow.classes is None and flow.made_with is None:
            buffers = flow.condition_shift, flow.condition_scale
            if not buffers[0].any() and bool((buffers[1] == 1).all()):  # nobody has set them
                standardize_condition(flow, dataset)
        return flow

    options = _Options(
        None if out is None else Path(out), resume, overwrite, quiet, callbacks, logger
    )
    return _run(lambda _: None, load, check, config, seed, settings, options)


def _dequantized(dataset: Dataset) -> list[str]:
    """Return the names of a table's discrete columns."""
    if dataset.schema is None:
        return [str(index) for index in dataset.integers]
    discrete = ("integer", "decimal", "datetime", "categorical")
    return [column.name for column in dataset.schema.columns if column.kind in discrete]


@dataclass(frozen=True)
class _Options:
    """Arguments that :func:`train` and :func:`fit` share, and pass on as they are."""

    out: Path | None
    resume: bool
    overwrite: bool
    quiet: bool
    callbacks: Sequence[Callback]
    logger: str | Any

    def __post_init__(self) -> None:
        if self.out is None and (self.resume or self.overwrite):
            raise ValueError("nothing can be resumed or overwritten without out, the run directory")
        if isinstance(self.logger, str) and self.logger not in LOGGERS:
            raise ValueError(f"unknown logger {self.logger!r}: there are {', '.join(LOGGERS)}")


def _run(
    start: Callable[[dict[str, Any] | None], Flow | None],
    load: Callable[[Flow | None], Dataset],
    make: Callable[[Dataset, Flow | None, bool], Flow],
    config: TrainingConfig,
    seed: int,
    settings: dict[str, Any],
    options: _Options,
    source: str | None = None,
) -> TrainingResult:
    """Train a flow on data, in one process or many.

    Args:
        start: returns the model that training continues from, given the checkpoint's state if
            there is one; None begins a new model.
        load: returns the data, given that model, whose columns they must have.
        make: returns the flow, given the data, that model and whether there is a checkpoint, from
            which the weights are then read.
        config: training settings.
        seed: seed of the order of the data and of all noise.
        settings: settings of the run, to be written into its directory.
        options: common arguments of the callers.
        source: data source that is checked before anything is made; None for data in memory.
    """
    check_budget(config)
    keep_all_freed_memory()
    with (
        launch(config.accelerator, config.devices, config.nodes) as processes,
        contextlib.ExitStack() as stack,
    ):
        run, content, notes = None, None, []
        with processes.sync_errors():
            if processes.main and source is not None:
                check_source(source)  # of two errors, the one to be fixed first
            if processes.main and options.out is not None:
                run = RunDirectory(options.out, resume=options.resume, overwrite=options.overwrite)
                stack.callback(run.close)
                if options.resume:
                    notes = _changes(run, settings)
                    content = run.load()
        content = processes.broadcast(content)
        with processes.sync_errors():
            state = None if content is None else checkpoint.from_bytes(content)
            begun = start(state)
        dataset = processes.rank_zero_first(partial(load, begun))
        with processes.sync_errors():
            flow = make(dataset, begun, state is not None)
            trainer = Trainer(flow, dataset, config, seed=seed, processes=processes)
            if state is not None:
                check_fingerprint(state.get("data"), dataset.fingerprint, dataset.name)
                trainer.load_state_dict(state)
        stack.enter_context(limited_threads(trainer.flow, config.batch_size))
        bar = Bar("training", trainer.progress(), visible=not options.quiet, main=processes.main)
        if trainer.is_finished:
            return _finished(trainer, bar, run, notes)
        stored = [] if trainer.batches.stored is None else [trainer.batches.stored]
        for note in [*stored, *notes]:
            bar.say(note)
        # From here on, an interrupted run can be resumed.
        signals = stack.enter_context(contextlib.ExitStack())
        stopped = signals.enter_context(stop_signals())
        history = _begin(trainer, run, settings, options, stack)
        with signals, bar:
            trainer.fit(bar, stopped)
            if trainer.stopping:
                trainer.finish()
            else:
                likelihood, calibration = _conclude(trainer, run, options, bar)
        if trainer.stopping:
            raise _interrupted(trainer, options.out)
        result = _result(trainer, likelihood, history.records, options.out)
        result.flow.calibration = calibration
        for callback in trainer.callbacks:
            callback.finish(result.flow, options.out, dataset.reporting)
        return result


def _begin(
    trainer: Trainer,
    run: RunDirectory | None,
    settings: dict[str, Any],
    options: _Options,
    stack: contextlib.ExitStack,
) -> History:
    """Make the files of a new run, or take up those of a resumed one, and set the callbacks.

    Args:
        trainer: trainer of the run, whose callbacks are set.
        run: run directory, in the main process if there is one.
        settings: settings of the run.
        options: arguments of the caller.
        stack: where trackers are closed at the end.

    Returns:
        the callback that keeps the records.
    """
    processes, dataset = trainer.processes, trainer.dataset
    history, callbacks = History(), list(options.callbacks)
    with processes.sync_errors():
        # Made first: if that fails, no run is overwritten.
        service = _service(options.logger, options.out) if processes.main else None
        if run is not None:
            if options.resume:
                run.write_config(settings)
            else:
                run.create(settings, trainer.state_dict())
            history = _run_logger(trainer, run, tensorboard=options.logger == "tensorboard")
        if service is not None:
            tracker = LightningLogger(service, settings, trainer.flow.levels, dataset.schema)
            stack.callback(tracker.close)
            callbacks = [tracker, *callbacks]
        trainer.callbacks = [history, *callbacks] if processes.main else []
        trainer.log("run", provenance(processes.device))
    return history


def _conclude(
    trainer: Trainer, run: RunDirectory | None, options: _Options, bar: Bar
) -> tuple[Likelihood, dict[str, Tensor] | None]:
    """Evaluate the best model, calibrate it if it is saved, and save the last state."""
    likelihood = trainer.evaluate_best()
    calibration = None if options.out is None else trainer.calibrate()
    trainer.finish()
    with trainer.processes.sync_errors():
        if run is not None and calibration is not None and run.model_folder.is_dir():
            write_calibration(run.model_folder, calibration)
        if run is not None and trainer.log_likelihoods is not None:
            run.save_log_likelihoods(trainer.log_likelihoods)
    held_out = len(trainer.dataset.reporting[1])
    if likelihood.examples < held_out:
        bar.warn(
            f"the result is of {likelihood.examples:,} of the {held_out:,} held-out "
            f"examples: the budget is too short for all (realnvp eval evaluates all)"
        )
    return likelihood, calibration


def _service(logger: str | Any, out: Path | None) -> Any:
    """Return the logger of Lightning that metrics are sent to, if any."""
    if not isinstance(logger, str):
        return logger
    return None if logger in ("tensorboard", "none") else lightning_logger(logger, out)


def _run_logger(trainer: Trainer, run: RunDirectory, *, tensorboard: bool) -> RunLogger:
    """Return what writes the records and pictures of a run."""
    dataset, rows = trainer.dataset, None
    if trainer.flow.levels is None:  # rows next to which a picture shows samples
        rows = trainer.some_of(dataset.train, POINTS).x
    return RunLogger(
        run,
        trainer.flow,
        trainer.step,
        warn,
        data=rows,
        schema=dataset.schema,
        smoothing=trainer.smoothing is not None,
        tensorboard=tensorboard,
    )


def _interrupted(trainer: Trainer, out: Path | None) -> Exception:
    """Return the error of a run that a signal has stopped."""
    if not trainer.processes.main:
        return trainer.processes.remote_rank_error(128 + trainer.stopping)
    where = f"everything is saved in {out}: continue with the same command and --resume"
    return Interrupted(
        f"stopped at step {trainer.step} after {duration(trainer.seconds)}; "
        + (where if out is not None else "nothing was to be saved"),
        trainer.stopping,
    )


def _changes(run: RunDirectory, settings: dict[str, Any]) -> list[str]:
    """Return a line for each setting that has changed since the run that is resumed.

    Raises:
        ValueError: if the data, the model or the seed would change.
    """
    changes = run.changes(settings)
    for name, (old, new) in changes.items():
        if name.startswith(KEPT) and name not in PLACES:
            raise ValueError(
                f"the run in {run.folder} began with {name} {old}, not {new}: a run keeps its "
                f"data, model and seed; leave {name} out, or begin another run in another folder"
            )
    return [f"{name}: {old} -> {new}" for name, (old, new) in changes.items()]


def _finished(
    trainer: Trainer, bar: Bar, run: RunDirectory | None, notes: list[str]
) -> TrainingResult:
    """Return the result of a run whose budget is used up, and write nothing."""
    remedy = "raise --minutes, --epochs or --steps"
    if trainer.selection.is_out_of_patience:
        remedy = "raise --training.patience"
    unused = f" ({', '.join(notes)} changes nothing)" if notes else ""
    bar.say(
        f"already finished after {trainer.step:,} steps in {duration(trainer.seconds)}{unused}: "
        f"{remedy} to continue"
    )
    records = [] if run is None else read_records(run.folder / "metrics.jsonl")
    return _result(trainer, trainer.evaluate_best(), records, None if run is None else run.folder)


def _result(
    trainer: Trainer, likelihood: Likelihood, records: list[dict[str, Any]], folder: Path | None
) -> TrainingResult:
    dataset, flow = trainer.dataset, trainer.best_flow()
    return TrainingResult(
        flow=flow,
        likelihood=likelihood,
        records=records,
        folder=folder,
        steps=trainer.step,
        seconds=trainer.seconds,
        parameters=sum(p.numel() for p in flow.parameters()),
        skipped=len(trainer.rollback.skipped),
        dequantized=_dequantized(dataset),
        stopped_early=trainer.progress() < 1 and trainer.selection.is_out_of_patience,
        part=dataset.reporting[0],
        main=trainer.processes.main,
    )
