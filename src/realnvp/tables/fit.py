"""Fitting a flow to the rows of a table: the number of steps, and the choice of the model."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import wilcoxon
from sklearn.utils.parallel import Parallel, delayed
from torch import Tensor

from realnvp.builders import average_flow
from realnvp.columns.fitting.marginals import OFTEN
from realnvp.columns.fitting.mixtures import Mixture
from realnvp.columns.fitting.rows import moments
from realnvp.columns.kinds import Feature
from realnvp.columns.schema import TableSchema
from realnvp.columns.start import TableStart
from realnvp.config import VectorRecipe
from realnvp.data.dataset import Dataset, Split
from realnvp.data.parts import hold_out, without_copies
from realnvp.evaluation import log_likelihoods
from realnvp.flow import Flow
from realnvp.training.callback import Callback
from realnvp.training.initialization import build, mixture_of
from realnvp.training.launch import launch
from realnvp.training.runtime import limited_threads
from realnvp.training.trainer import Trainer

__all__ = ["fit_rows"]

FEW_ROWS = 20
"""With fewer rows, the initial model is kept: held-out rows could not judge training."""


MANY_ROWS = 2_000
"""With more rows, the held-out ones are not needed for training."""


MOST_HELD_OUT = 5_000
"""Largest number of held-out rows. With 2,000, training on a million rows ended too early."""


ENOUGH_HELD_OUT = 200
"""Number of held-out rows that suffice to choose whether a condition is encoded in intervals."""


CONFIDENCE = 0.999
"""Confidence that training improves on the initial model, on held-out rows. It is high because the
same rows have chosen the best of many validations."""


def fit_rows(
    x: Tensor,
    condition: Tensor | None,
    weight: Tensor | None,
    recipe: VectorRecipe,
    *,
    schema: TableSchema,
    classes: int | None = None,
    validation_fraction: float = 0.15,
    members: int = 1,
    n_jobs: int | None = None,
    verbose: bool = False,
    init: Flow | None = None,
) -> tuple[Flow, int]:
    """Train on most rows to find the number of steps; if there are few rows, then on all.

    Copies of a row count as one row of a larger weight, so that none is both trained on and held
    out, except where all columns are discrete and copies are to be expected.

    Args:
        x: ``(N, D)`` features of a table's rows, float64.
        condition: classes ``(N,)`` or numbers ``(N, K)``, float64 in any unit.
        weight: ``(N,)`` positive weights; equal by default.
        recipe: model and training settings.
        schema: columns of the table.
        classes: number of classes, if the condition is a class.
        validation_fraction: fraction of the rows that is held out; with 0, all steps are taken.
        members: number of flows of one column whose densities are averaged.
        n_jobs: number of processes that train members at the same time; None is 1, -1 all cores.
        verbose: whether a few lines are printed.
        init: model of the same columns, under which every row is possible. A copy of it is trained,
            and kept if held-out rows gain over the model itself.

    Returns:
        the flow of the rows, in float64 and evaluation mode, and the number of training steps.
    """
    given = (torch.zeros(0), torch.ones(0))
    if condition is not None and condition.ndim == 2:
        given = (
            moments(condition, weight)
            if init is None
            else (init.condition_shift, init.condition_scale)
        )
        condition = ((condition - given[0]) / given[1]).float()
    split = Split(x, condition, weight=None if weight is None else weight.float())
    discrete = all(feature.kind != "number" for feature in schema.features)
    split = without_copies(split, discrete)

    spread = partial(_spread, features=schema.features)

    def dataset(learn: Split, check: Split, sample: Split | None = None) -> Dataset:
        return Dataset(
            "table", spread(learn), check, None, tuple(x.shape[1:]),
            classes=classes, schema=schema, sample=sample and spread(sample),
        )  # fmt: skip

    report = _Report(verbose)
    if init is not None:
        flow, steps = _continue(init, split, dataset, recipe, validation_fraction, report)
    elif members > 1:
        flow, steps = _fit_members(
            split, dataset, recipe, members, validation_fraction, report, n_jobs
        )
    else:
        flow, steps = _fit(split, dataset, recipe, validation_fraction, report)
    report.end(steps)
    flow.double().eval()
    if flow.condition_dim and flow.classes is None:  # in its own unit
        flow.condition_shift = flow.condition_shift * given[1] + given[0]
        flow.condition_scale = flow.condition_scale * given[1]
    return flow, steps


def _fit(
    split: Split,
    dataset: Callable[[Split, Split], Dataset],
    recipe: VectorRecipe,
    validation_fraction: float,
    report: _Report,
) -> tuple[Flow, int]:
    everything = dataset(split, split)
    if validation_fraction == 0:
        return _train(recipe, everything, report, recipe.training.steps)
    if len(split) < FEW_ROWS:
        return _start(recipe, everything)
    trial = dataset(*_parts(split, validation_fraction, recipe.seed))
    known = TableStart.of(trial.training_rows, recipe.seed, recipe.model.domain)
    mixture = mixture_of(recipe, known)
    free = recipe.model.mixture_init == "auto"
    # With categories, many rows start training as one Gaussian, but the start alone may have more.
    many = len(split) >= MANY_ROWS
    start, _ = _start(recipe, trial, None if known.columns_first and many else mixture, known)
    if mixture is not None and many and not known.columns_first:  # the number of Gaussians is known
        model = dataclasses.replace(recipe.model, mixture_init=mixture[0].shape[-2])
        recipe = dataclasses.replace(recipe, model=model)
    several = split.x.shape[1] > 1 and split.condition is not None and split.condition.ndim == 2
    options = _options(recipe, unmixed=free and many and several)

    def candidate(option: VectorRecipe, mixture: Mixture | None, known: TableStart) -> _Candidate:
        flow, steps = _train(option, trial, report, mixture=mixture, known=known)
        return _Candidate(option, flow, steps, *_gain(flow, start, trial.validation, option.seed))

    best = max((candidate(each, mixture, known) for each in options), key=_total)
    if many and recipe.model.domain is None:  # fewer rows have no tables of numbers
        fewer = known.with_fewer_tables()
        if fewer.categories[0] != known.categories[0]:
            again = candidate(best.recipe, mixture_of(best.recipe, fewer), fewer)
            best = max(best, again, key=_total)
    if best.steps == 0 or not _is_positive(best.gain, best.weight):
        return _start(recipe, everything)
    if many:
        return best.flow, best.steps
    return _train(best.recipe, everything, report, best.steps)


def _continue(
    init: Flow,
    split: Split,
    dataset: Callable[[Split, Split], Dataset],
    recipe: VectorRecipe,
    validation_fraction: float,
    report: _Report,
) -> tuple[Flow, int]:
    """Train a copy of a model, and keep it if held-out rows gain over the model beyond chance."""
    everything, start = dataset(split, split), copy.deepcopy(init)
    if start.condition_dim and start.classes is None:  # the rows' condition is in its unit
        start.condition_shift.zero_()
        start.condition_scale.fill_(1)
    train = partial(_train, recipe, report=report)
    if validation_fraction == 0:
        return train(everything, steps=recipe.training.steps, flow=start)
    if len(split) < FEW_ROWS:
        return start, 0
    trial = dataset(*_parts(split, validation_fraction, recipe.seed))
    flow, steps = train(trial, flow=copy.deepcopy(start))
    if steps == 0 or not _is_positive(*_gain(flow, start, trial.validation, recipe.seed)):
        return start, 0
    return (flow, steps) if len(split) >= MANY_ROWS else train(everything, steps=steps, flow=start)


def _fit_members(
    split: Split,
    dataset: Callable[..., Dataset],
    recipe: VectorRecipe,
    members: int,
    validation_fraction: float,
    report: _Report,
    n_jobs: int | None,
) -> tuple[Flow, int]:
    """Train each member until the rows of its own fold no longer improve.

    The first members are trained with and without intervals of the condition, until the rows that
    they have held out suffice to decide which is better. Together, the folds tell for every row
    whether training improves on the initial model.
    """
    everything = dataset(split, split)
    if validation_fraction and len(split) < max(FEW_ROWS, 2 * members):
        return _start(recipe, everything)
    start = TableStart.of(everything.training_rows, recipe.seed, recipe.model.domain)
    mixture = mixture_of(recipe, start)
    workers = Parallel(n_jobs)
    if validation_fraction == 0:
        taken, own = recipe.training.steps, range(recipe.seed, recipe.seed + members)
        recipes = [dataclasses.replace(_options(recipe)[0], seed=seed) for seed in own]
        calls = [delayed(_train)(each, everything, report, taken, mixture) for each in recipes]
        return average_flow([flow for flow, _ in workers(calls)]), taken or 0
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(recipe.seed))
    folds = [order[i::members][:MOST_HELD_OUT].sort().values for i in range(members)]

    def member(i: int, option: VectorRecipe) -> _Candidate:
        learn = torch.ones(len(split), dtype=torch.bool).index_fill(0, folds[i], False)
        parts = split.select(learn.nonzero()[:, 0]), split.select(folds[i])
        # All members start alike, so maps of the column and the condition are fitted to all rows.
        trial = dataset(*parts, sample=split)
        option = dataclasses.replace(option, seed=option.seed + i)
        known = TableStart.of(trial.training_rows, option.seed, option.model.domain)
        flow, steps = _train(option, trial, report, mixture=mixture, known=known)
        start, _ = _start(option, trial, mixture, known)
        return _Candidate(option, flow, steps, *_gain(flow, start, trial.validation, option.seed))

    options, first = _options(recipe), members
    if len(options) > 1:  # until so many rows have been held out
        held_out = torch.tensor([len(fold) for fold in folds]).cumsum(0)
        first = min(members, 1 + int((held_out < ENOUGH_HELD_OUT).sum()))
    found = workers(delayed(member)(i, option) for option in options for i in range(first))
    trained = [found[k * first : (k + 1) * first] for k in range(len(options))]
    scores = [sum(map(_total, each)) for each in trained]
    best = scores.index(max(scores))
    rest = workers(delayed(member)(i, options[best]) for i in range(first, members))
    chosen = [*trained[best], *rest]
    gain, weight = torch.cat([m.gain for m in chosen]), torch.cat([m.weight for m in chosen])
    if not _is_positive(gain, weight):
        return _start(recipe, everything)
    return average_flow([m.flow for m in chosen]), max(m.steps for m in chosen)


@dataclasses.dataclass(frozen=True, eq=False)
class _Candidate:
    """A trained flow, and its gain over the initial model on each held-out row."""

    recipe: VectorRecipe
    flow: Flow
    steps: int
    gain: Tensor
    weight: Tensor


def _options(recipe: VectorRecipe, unmixed: bool = False) -> list[VectorRecipe]:
    """Return the recipes to choose from by held-out rows.

    For one column, they are with intervals of the condition, if any, and without, see
    benchmarks/results/conditional.md (classifiers always have them). For columns one after the
    other, they are with dropout and without, which blurs sharp dependences, but keeps networks from
    memorizing; and couplings of halves, whose several layers follow functions of other columns more
    closely (benchmarks/results/synthetic.md). Each may be much better.

    Args:
        recipe: the recipe with all of what is optional.
        unmixed: whether couplings of halves that do not start as a mixture are an option, which
            learn what is not linear in the condition better (benchmarks/results/posteriors.md).
    """
    model = recipe.model
    if model.architecture == "autoregressive":
        halves = dataclasses.replace(model, architecture="realnvp", dropout=0.0, networks=1)
        models = [halves, dataclasses.replace(model, dropout=0.0), model]
        return [dataclasses.replace(recipe, model=each) for each in models]
    if unmixed:
        return [recipe, _without_mixture(recipe)]
    if not model.condition_bins or model.coupling == "piecewise_linear":
        return [recipe]
    without = dataclasses.replace(model, condition_bins=0)
    return [dataclasses.replace(recipe, model=without), recipe]


def _without_mixture(recipe: VectorRecipe) -> VectorRecipe:
    """Return the recipe of a flow that does not start as a mixture of Gaussians."""
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, mixture_init=0))


def _start(
    recipe: VectorRecipe,
    data: Dataset,
    mixture: Mixture | None = None,
    known: TableStart | None = None,
) -> tuple[Flow, int]:
    """Return the mixture alone: affine couplings are the identity before they are trained."""
    model = dataclasses.replace(
        recipe.model, architecture="realnvp", coupling="affine", condition_bins=0
    )
    recipe = dataclasses.replace(recipe, model=model)
    known = known or TableStart.of(data.training_rows, recipe.seed, model.domain)
    mixture = mixture or mixture_of(recipe, known, untrained=True)
    return build(recipe, data, mixture, known), 0


def _train(
    recipe: VectorRecipe,
    data: Dataset,
    report: _Report,
    steps: int | None = None,
    mixture: Mixture | None = None,
    known: TableStart | None = None,
    flow: Flow | None = None,
) -> tuple[Flow, int]:
    """Train for ``steps``, or until validation no longer improves; return the best model.

    ``flow`` is the one to train, in place of the recipe's untrained one.
    """
    if recipe.model.architecture == "autoregressive":  # whitened columns, it learns less well
        recipe = _without_mixture(recipe)
    if recipe.model.mixture_init == 0:
        mixture = None
    # Here, a validation costs little compared with what it saves.
    training = dataclasses.replace(recipe.training, validation_share=1.0)
    if steps is not None:
        training = dataclasses.replace(training, steps=steps, num_validations=1, patience=None)
    with launch("cpu", local=True) as processes:
        flow = flow or build(recipe, data, mixture, known)
        callbacks = [report] if steps is None else []
        trainer = Trainer(
            flow, data, training, seed=recipe.seed, processes=processes, callbacks=callbacks
        )
        with limited_threads(flow, training.batch_size):
            trainer.fit()
    return trainer.best_flow(), trainer.selection.step


def _parts(split: Split, validation_fraction: float, seed: int) -> tuple[Split, Split]:
    """Return the rows to learn from, and the held-out ones."""
    fraction = min(validation_fraction, MOST_HELD_OUT / len(split))
    learn, check = hold_out(len(split), fraction, seed=seed)
    return split.select(learn), split.select(check)


def _spread(split: Split, features: Sequence[Feature]) -> Split:
    """Return the split with several rows in place of one heavy row, each with a part of its weight.

    A flow starts as a mixture fitted to rows with noise, where there are gaps, categories, integers
    or atoms, and a single draw of the noise of a heavy row would look like a cluster of its own.
    Rows with a number that has no noise are not copied: the copies would look like a cluster, too.

    Args:
        split: rows; no two are equal.
        features: the features of their columns.
    """
    if split.weight is None:
        return split
    copies = (split.weight / split.weight.mean()).floor().clamp(min=1).long()
    always = torch.tensor([each.kind != "number" for each in features])
    often = torch.tensor([each.flexible for each in features]) & (copies >= OFTEN)[:, None]
    copies[~(split.x[:].isnan() | always | often).all(1)] = 1
    spread = split.select(torch.arange(len(split)).repeat_interleave(copies))
    weight = (split.weight / copies).repeat_interleave(copies)
    return Split(spread.x, spread.condition, weight=weight)


def _gain(flow: Flow, start: Flow, check: Split, seed: int) -> tuple[Tensor, Tensor]:
    """Return the gain of a flow over another on each held-out row, and the weights."""
    gain = log_likelihoods(flow, check, seed=seed) - log_likelihoods(start, check, seed=seed)
    return gain, torch.ones(len(gain)) if check.weight is None else check.weight


def _total(candidate: _Candidate) -> float:
    """Return the sum of the weighted gains of all held-out rows."""
    return float(candidate.weight.double() @ candidate.gain)


def _is_positive(gain: Tensor, weight: Tensor) -> bool:
    """Return whether a gain on held-out rows is positive, beyond chance."""
    # A single outlying row could decide the mean alone: most rows must gain, too.
    return (weight.double() @ gain).item() > 0 and _p_value(gain) < 1 - CONFIDENCE


def _p_value(gain: Tensor) -> float:
    """Return the p-value of a signed-rank test (Wilcoxon) that the typical gain is positive."""
    return float(wilcoxon(gain.numpy(), alternative="greater").pvalue)


class _Report(Callback):
    """Print a few lines, in the units of ``score``.

    Args:
        visible: whether anything is printed.
    """

    LINES = 8

    def __init__(self, visible: bool) -> None:
        self._visible = visible
        self._best, self._lines, self._step = -np.inf, 0, 0

    def log(self, kind: str, step: int, seconds: float, values: dict[str, Any]) -> None:
        if not self._visible or kind != "validation":
            return
        score = -values["loss"]
        first = self._best == -np.inf
        self._best = max(self._best, score)
        # At steps 0, 20, 60, 140, ...: learning slows down.
        if first or step >= 2 * self._step + 20:
            self._step = step
            self._print(f"step {step:,}: held-out score {score:.4f} nats, best {self._best:.4f}")

    def end(self, steps: int) -> None:
        """Print which model was kept."""
        what = "the initial model is kept" if steps == 0 else f"trained for {steps:,} steps"
        best = f", held-out score {self._best:.4f} nats" if np.isfinite(self._best) else ""
        self._print(f"{what}{best}")

    def _print(self, text: str) -> None:
        if self._visible:
            print(f"RealNVPDensity: {text}", file=sys.stderr, flush=True)
