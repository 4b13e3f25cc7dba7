r"""Outlier scores and p-values of a flow, calibrated by held-out examples that are saved with it.

A calibration holds the statistics of held-out examples and, for vectors, some of the training rows,
to which distances are measured. From these alone an :class:`OutlierScorer` computes scores and
p-values of new examples: the training data are not needed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.data.dataset import Split
from realnvp.evaluation import Progress, batches, log_likelihood
from realnvp.flow import Flow
from realnvp.inputs import without_marked
from realnvp.outliers.neighbors import NEIGHBORS, Neighbors, RowNeighbors, clamped, latents_of
from realnvp.outliers.score import (
    CrossFitted,
    DensityScore,
    Score,
    SymmetryScore,
    TailScore,
)
from realnvp.outliers.statistics import COPIES, noise_of, statistics
from realnvp.utils.distributed import all_reduce, world_size

__all__ = [
    "Calibration",
    "OutlierScorer",
    "calibrate",
    "chosen",
    "excess_bits",
    "joined",
    "statistics_by_block",
]

REFERENCE_ROWS = 5_000
REFERENCE_NUMBERS = 2**20
"""Largest number of training rows, and of numbers in them, that are kept to measure distances."""

TAILS = (
    *(f"distance_{k}" for k in NEIGHBORS),
    "squashed_distance_1",
    *(f"latent_distance_{k}" for k in NEIGHBORS),
)
"""Distances that the score of vectors uses in addition to the likelihood."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Statistics of held-out examples, and of tables also training rows, to compute p-values from.

    Args:
        statistics: statistics by name, each ``(M,)``.
        rows: ``(R, D)`` training rows, for vectors.
        condition: their condition, for a conditional flow.
    """

    statistics: dict[str, Tensor]
    rows: Tensor | None = None
    condition: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.statistics.values())))

    def as_tensors(self) -> dict[str, Tensor]:
        """Return tensors by name, to be saved with a model.

        Statistics are float32, and rows as they are: in float32, large numbers of a table, such as
        identifiers and times in seconds, would be others.
        """
        found = {f"statistic/{name}": value.float() for name, value in self.statistics.items()}
        if self.rows is not None:
            found["rows"] = self.rows
        if self.condition is not None:
            found["condition"] = self.condition
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor], flow: Flow) -> Calibration:
        """Return the inverse of :meth:`as_tensors`, validated, as the file is untrusted.

        Raises:
            ValueError: if they are not a calibration of the flow.
        """
        prefix = "statistic/"
        found = {
            name.removeprefix(prefix): tensor.double()
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        rows, condition = tensors.get("rows"), tensors.get("condition")
        sizes = {tuple(tensor.shape) for tensor in found.values()}
        good = "log_likelihood" in found and len(sizes) == 1 and len(next(iter(sizes))) == 1
        good = good and all(bool(t.isfinite().all()) and len(t) for t in found.values())
        if rows is not None:
            # Gaps of a table are NaN.
            good = good and tuple(rows.shape[1:]) == flow.shape and not bool(rows.isinf().any())
            good = good and len(rows) > 1 and (condition is None or len(condition) == len(rows))
        if not good:
            raise ValueError(
                "the calibration that is saved with the model does not belong to it: calibrate it "
                "again, with realnvp calibrate"
            )
        return Calibration(found, rows, condition)


class OutlierScorer:
    """Scores and p-values of examples under a calibrated flow.

    Args:
        flow: flow.
        calibration: its calibration; by default the one that is saved with it. Without one, the
            score is one that needs none: for images, bits/dim beyond the codec's; for vectors,
            minus the log-likelihood.
        symmetries: compare images with symmetric copies, too, for three times the work.

    Raises:
        ValueError: with ``symmetries``, if the flow models vectors, or there is no calibration with
            such comparisons.

    Attributes:
        calibration: the calibration, or None.
        held_out: ``(M,)`` scores of the held-out examples; empty if there are none.
        near: distances to training rows, for vectors with a calibration.
    """

    def __init__(
        self, flow: Flow, calibration: Calibration | None = None, *, symmetries: bool = False
    ) -> None:
        if calibration is None and flow.calibration is not None:
            calibration = Calibration.from_tensors(flow.calibration, flow)
        if symmetries:
            if flow.levels is None:
                raise ValueError("symmetric copies are of images, and this is a model of vectors")
            if calibration is None or not calibration.statistics.keys() >= set(COPIES):
                raise ValueError(
                    "comparisons with symmetric copies need a calibration that has them: calibrate "
                    "the model again, with realnvp calibrate"
                )
        self.flow, self.calibration, self.symmetries = flow, calibration, symmetries
        self.near: Distances | None = None
        self.held_out: NDArray = np.empty(0)
        if calibration is None:
            self._names: list[str] = []
            self._score: Score = _first
            return
        if calibration.rows is not None:
            self.near = Distances(flow, calibration.rows, calibration.condition)
        known = {name: value.numpy() for name, value in calibration.statistics.items()}
        self._names = [*_used(list(known), flow), *(COPIES if symmetries else ())]
        fit: Callable[[NDArray], Score] = TailScore if flow.levels is None else DensityScore
        if symmetries:
            fit = partial(SymmetryScore, copies=len(COPIES))
        self._score = CrossFitted(fit, self._features(known))
        self.held_out = self._score.held_out

    @property
    def names(self) -> list[str]:
        """Names of the :meth:`columns` of scores."""
        images = ["bits_per_dim"] if self.flow.levels is not None else []
        calibrated = [] if self.calibration is None else ["p_value"]
        return ["log_likelihood", *images, "outlier_score", *calibrated]

    def statistics(
        self, x: Tensor, condition: Tensor | None = None, noise: Any = None
    ) -> dict[str, Tensor]:
        """Return the statistics of examples; of vectors, with their distances to training rows."""
        found, z = statistics(self.flow, x, condition, noise, symmetries=self.symmetries)
        return found | ({} if self.near is None else self.near(x, z))

    def score(self, statistics: dict[str, NDArray]) -> NDArray:
        """Return the outlier score of each example, larger for more unusual ones.

        Args:
            statistics: statistics by name, each ``(N,)``; see :meth:`statistics`.
        """
        return self._score(self._features(statistics))

    def p_values(self, statistics: dict[str, NDArray]) -> NDArray:
        """Return the conformal p-value of each example; see :mod:`realnvp.outliers.significance`.

        Args:
            statistics: statistics by name, each ``(N,)``; see :meth:`statistics`.

        Raises:
            ValueError: if there is no calibration.
        """
        return self._cross_fitted().p_values(self._features(statistics))

    def columns(self, statistics: dict[str, NDArray]) -> dict[str, NDArray]:
        """Return the columns of a table of scores; those that the flow or calibration has.

        They are "log_likelihood", "bits_per_dim", "outlier_score" and "p_value".

        Args:
            statistics: statistics by name, from :func:`statistics_by_block`.
        """
        columns = {"log_likelihood": statistics["bound"]}
        if self.flow.levels is not None:
            columns["bits_per_dim"] = -statistics["bound"] * self.flow.unit[0]
        columns["outlier_score"] = self.score(statistics)
        if self.calibration is not None:
            columns["p_value"] = self.p_values(statistics)
        return columns

    def like_held_out(self, statistics: dict[str, NDArray], index: NDArray) -> NDArray:
        """Return scores to be compared with :attr:`held_out`, as a whole.

        Args:
            statistics: statistics by name, each ``(N,)``; see :meth:`statistics`.
            index: ``(N,)`` indices of the examples in their file.

        Raises:
            ValueError: if there is no calibration.
        """
        return self._cross_fitted().like_held_out(self._features(statistics), index)

    def _cross_fitted(self) -> CrossFitted:
        if not isinstance(self._score, CrossFitted):
            raise ValueError("p-values need the scores of held-out examples, and there are none")
        return self._score

    def _features(self, found: dict[str, NDArray]) -> NDArray:
        """Return the columns that the score uses; the first one needs no calibration."""
        if self.flow.levels is None:
            first = np.nan_to_num(-found["log_likelihood"], nan=1e30, posinf=1e30)
        else:
            first = excess_bits(found, self.flow)
        return np.column_stack([first, *(found[name] for name in self._names)])


def _first(values: NDArray) -> NDArray:
    """Return the first statistic, the score without a calibration."""
    first: NDArray = values[:, 0]
    return first


def _used(names: list[str], flow: Flow) -> list[str]:
    """Return the statistics that enter the score, apart from the first one and copies."""
    if flow.levels is None:
        return [name for name in TAILS if name in names]
    # Sums over scales carry no information beyond their terms.
    sums = ("energy", "log_det") if "energy_1" in names else ()
    return [name for name in names if name not in (*sums, *COPIES)]


def excess_bits(found: dict[str, NDArray], flow: Flow) -> NDArray:
    """Return bits/dim beyond those of the codec: the score of an image without a calibration."""
    result: NDArray = -found["log_likelihood"] * flow.unit[0] - found["codec"]
    return result


class Distances:
    """Distances of rows to the training rows, and in latents.

    Args:
        flow: flow of vectors.
        rows: ``(R, D)`` training rows.
        condition: their condition.
    """

    def __init__(self, flow: Flow, rows: Tensor, condition: Tensor | None = None) -> None:
        self.rows = rows
        columns = [] if flow.columns is None else flow.columns.columns
        categorical = [column["kind"] == "cells" and not column["ordered"] for column in columns]
        self._data = RowNeighbors(rows.double().numpy(), categorical)
        given = None if condition is None else condition.to(flow.device)
        z = latents_of(flow, rows.to(flow.device), given).cpu().double().numpy()
        self._latents = Neighbors(z)

    def __call__(self, x: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Return distances by name, each ``(N,)``, of rows and their latents."""
        table = x.detach().cpu().double().numpy()
        near, squashed = self._data.distances(table, NEIGHBORS), self._data.squashed(table, (1,))
        latent = self._latents.distances(clamped(z).cpu().double().numpy(), NEIGHBORS)
        columns = np.hstack([near, squashed, latent]).T
        return {name: torch.as_tensor(column) for name, column in zip(TAILS, columns, strict=True)}

    def nearest(self, x: Tensor) -> NDArray:
        """Return the index ``(N,)`` of the nearest training row."""
        return self._data.nearest(x.detach().cpu().double().numpy())


def statistics_by_block(
    flow: Flow,
    split: Split,
    near: Distances | None = None,
    *,
    samples: int = 1,
    batch_size: int = 256,
    seed: int = 0,
    shared: bool = False,
    block: int = 8192,
    first: int = 0,
    symmetries: bool = False,
    progress: Progress | None = None,
) -> Iterator[tuple[int, dict[str, NDArray]]]:
    """Yield the statistics of the examples of a split, block by block, in constant memory.

    The noise of images is that of :func:`realnvp.evaluation.log_likelihoods`, and so is
    ``log_likelihood``. The statistics of a row are the same bits in every part of a table, on the
    same machine with the same ``batch_size``.

    Args:
        flow: flow.
        split: examples; impossible rows of a table, by their mark
            (:meth:`realnvp.columns.layer.TableColumns.mark`), have a likelihood of 0.
        near: training rows to which distances are measured, if there are any.
        samples: number of noise draws of ``log_likelihood``; the score is always of the first.
        batch_size: number of examples per batch.
        seed: seed of the noise.
        shared: share the work with the other processes of the process group.
        block: number of examples of a block, rounded to a multiple of the batches of all processes.
        first: index of the first example if the split is a part of a larger one; the noise depends
            on it.
        symmetries: compare images with symmetric copies, too.
        progress: called after every batch.

    Yields:
        index of the first example, and statistics by name; "bound" is the log-likelihood of all
        draws.
    """
    turn = batch_size * (world_size() if shared else 1)
    block = max(1, block // turn) * turn
    for begin in range(0, len(split), block):
        index = torch.arange(begin, min(begin + block, len(split)))
        part = split.select(index) if len(split) > block else split
        columns: dict[str, Tensor] = {}
        with flow.evaluating(), torch.no_grad():
            for start, x, condition, counts in batches(part, batch_size, flow.device, shared):
                size = len(x)
                if flow.levels is None:  # the rounding of a row depends on the size of its batch
                    x = _filled_up(x, batch_size)
                    condition = None if condition is None else _filled_up(condition, batch_size)
                x, impossible = without_marked(flow.columns, x)

                def noise(draw: int, start: int = first + begin + start, x: Tensor = x) -> Any:
                    return noise_of(flow, x, seed, start, draw)

                found, z = statistics(flow, x, condition, noise(0), symmetries=symmetries)
                found |= {} if near is None else near(x, z)
                found["bound"] = found["log_likelihood"]
                if samples > 1 and flow.noisy:
                    bound = log_likelihood(flow, x, condition, samples=samples, generator=noise)
                    found["bound"] = bound.cpu().double()
                if impossible is not None:
                    for name in ("log_likelihood", "bound"):
                        found[name] = found[name].masked_fill(impossible.cpu(), -math.inf)
                for name, values in found.items():
                    column = columns.setdefault(name, torch.zeros(len(part), dtype=torch.float64))
                    if counts:
                        column[start : start + size] = values[:size]
                if progress is not None:
                    progress(min(begin + start + size, len(split)), len(split))
        if shared and world_size() > 1:
            together = torch.stack(list(columns.values())).to(flow.device)
            columns = dict(zip(columns, all_reduce(together).cpu(), strict=True))
        yield first + begin, {name: column.numpy() for name, column in columns.items()}


def joined(blocks: Iterable[tuple[int, dict[str, NDArray]]]) -> dict[str, NDArray]:
    """Return the statistics of all blocks of :func:`statistics_by_block`."""
    parts = [columns for _, columns in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _filled_up(x: Tensor, size: int) -> Tensor:
    """Return rows, of which the first is repeated until there are as many as a batch has."""
    return torch.cat((x, x[:1].expand(max(0, size - len(x)), *x.shape[1:])))


def calibrate(
    flow: Flow,
    held_out: Split,
    learned: Split | None = None,
    *,
    most: int = 2_000,
    batch_size: int = 256,
    seed: int = 0,
    shared: bool = False,
    progress: Progress | None = None,
) -> Calibration:
    """Compute a calibration, to be set as ``flow.calibration`` by :meth:`Calibration.as_tensors`.

    Args:
        flow: trained flow.
        held_out: examples that were not trained on; a random choice of ``most`` is used.
        learned: training rows, for vectors.
        most: largest number of held-out examples.
        batch_size: number of examples per batch.
        seed: seed of the choice and of the noise.
        shared: share the work with the other processes of the process group.
        progress: called after every batch.

    >>> from realnvp import vector_flow
    >>> rows = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    >>> flow = vector_flow(2, coupling="affine")
    >>> calibration = calibrate(flow, Split(rows[:20]), Split(rows[20:]))
    >>> scorer = OutlierScorer(flow, calibration)
    >>> far = {name: t.numpy() for name, t in scorer.statistics(torch.tensor([[9.0, 9.0]])).items()}
    >>> scorer.p_values(far).round(3)  # 1 / 21
    array([0.048])
    """
    if len(held_out) == 0:
        raise ValueError("a calibration needs held-out examples, and there are none")
    rows = condition = None
    if learned is not None and flow.levels is None:
        most_rows = min(REFERENCE_ROWS, max(2, REFERENCE_NUMBERS // flow.dim))
        few = learned.select(chosen(len(learned), most_rows, seed))
        rows, condition = few.x.cpu(), None if few.condition is None else few.condition.cpu()
    near = None if rows is None else Distances(flow, rows, condition)
    few = held_out.select(chosen(len(held_out), most, seed))
    blocks = statistics_by_block(
        flow,
        few,
        near,
        batch_size=batch_size,
        seed=seed,
        shared=shared,
        symmetries=True,
        progress=progress,
    )
    statistics = joined(blocks)
    del statistics["bound"]
    # A likelihood of zero is one that underflows in float32.
    finite = {
        name: torch.as_tensor(values).nan_to_num(1e30, 1e30, -1e30)
        for name, values in statistics.items()
    }
    return Calibration(finite, rows, condition)


def chosen(n: int, most: int, seed: int) -> Tensor:
    """Return the indices of at most ``most`` of ``n`` examples, drawn at random."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:most]
