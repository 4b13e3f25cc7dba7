"""Training a recipe: from its settings to a run folder, in one process or many."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from realnvp.config import Recipe, to_dict
from realnvp.data import load_data
from realnvp.evaluation import Likelihood, evaluate
from realnvp.training.callbacks import RunLogger
from realnvp.training.launch import Team, launch
from realnvp.training.run_directory import RunDirectory
from realnvp.training.runtime import keep_freed_memory, limit_threads, stop_signals, uncompiled
from realnvp.training.trainer import Trainer, check_budget
from realnvp.utils import serialization as checkpoint
from realnvp.utils.errors import Interrupted
from realnvp.utils.progress import Bar, duration, warn

__all__ = ["TrainingResult", "train"]


@dataclass
class TrainingResult:
    """What a training came to."""

    folder: Path
    likelihood: Likelihood
    steps: int
    seconds: float
    parameters: int
    skipped: int
    main: bool
    dequantized: list[str]
    stopped_early: bool
    part: str  # of the data, that the likelihood is of


def train(
    recipe: Recipe, folder: Path, *, resume: bool = False, quiet: bool = False
) -> TrainingResult:
    """Train a recipe's model, and leave a run folder.

    Args:
        recipe: model, data and training settings; at least one budget.
        folder: the run folder to make, or to go on with.
        resume: go on with the run in ``folder``.
        quiet: show no progress.

    Raises:
        ValueError: if settings and data do not go together.
        FileExistsError: if there is something in the folder, and ``resume`` is not asked for.
        BlockingIOError: if another process is training in the folder.
        Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
        FloatingPointError: if the loss or a gradient is not finite again and again.
        OSError: if the last checkpoint cannot be written.
        RemoteRankError: of several processes, in all but the one that reports an error.
    """
    check_budget(recipe.training)
    config = recipe.training
    keep_freed_memory()
    with (
        launch(config.accelerator, config.devices, config.nodes, config.strategy) as team,
        contextlib.ExitStack() as open_run,
    ):
        trainer = _prepare(team, recipe, folder, resume, open_run)
        bar = Bar("training", trainer.progress(), visible=not quiet, main=team.main)
        with stop_signals() as stopped, bar:
            trainer.fit(stopped, bar)
        if trainer.stopping:
            if not team.main:
                raise team.remote_rank_error(128 + trainer.stopping)
            raise Interrupted(
                f"stopped at step {trainer.step} after {duration(trainer.seconds)}; everything is "
                f"saved in {folder}: go on with the same command and --resume",
                trainer.stopping,
            )
        flow = trainer.best_flow()
        dataset = trainer.dataset
        toy = dataset.toy
        with uncompiled(config):
            likelihood = evaluate(
                flow,
                dataset.reporting[1],
                batch_size=trainer.evaluation_batch,
                seed=recipe.seed,
                true_log_density=toy.log_density if toy is not None else None,
                shared=True,
            )
        return TrainingResult(
            folder,
            likelihood,
            trainer.step,
            trainer.seconds,
            sum(p.numel() for p in flow.parameters()),
            len(trainer.rollback.skipped),
            team.main,
            [str((dataset.columns or range(flow.dim))[i]) for i in dataset.integers],
            trainer.progress() < 1 and trainer.out_of_patience(),
            dataset.reporting[0],
        )


def _prepare(
    team: Team, recipe: Recipe, folder: Path, resume: bool, open_run: contextlib.ExitStack
) -> Trainer:
    """The training as it begins, or goes on; its folder is made when nothing else can fail."""
    run, content = None, None
    with team.sync_errors():
        if team.main:
            run = RunDirectory(folder, resume=resume)
            open_run.callback(run.close)
            if resume:
                content, damaged = run.load()
                for what in damaged:
                    warn(f"damaged checkpoint, going on from the one before it: {what}")
    content = team.broadcast(content)
    dataset = team.rank_zero_first(lambda: load_data(recipe.data))
    with team.sync_errors():
        trainer = Trainer(recipe, dataset, team)
        limit_threads(trainer.flow, recipe.training.batch_size)
    with team.sync_errors():
        if content is not None:
            trainer.load_state_dict(checkpoint.from_bytes(content))
            if team.main and trainer.out_of_patience():
                warn(
                    f"the run ended after {trainer.worse} validations without a better one: to go "
                    f"on with it, raise --training.patience"
                )
    state = trainer.state_dict()
    with team.sync_errors():
        if run is not None:
            run.write_config(to_dict(recipe)) if resume else run.create(to_dict(recipe), state)
            trainer.callback = RunLogger(run, trainer.step, warn)
    return trainer
