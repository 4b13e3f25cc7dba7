r"""Checks of a posterior on new simulations, each one number with its error, and a figure.

**For all observations.** If the posterior is right, the rank of the true parameters among its
samples is uniform. For a fraction :math:`f` of samples below the truth,
:math:`4\,\mathrm E|f - \tfrac12| - 1` is then 0. It is positive if the posterior is too narrow or
shifted, and negative if it is too wide.

**For one observation.** Data that are simulated again from samples of the posterior look like the
observation, unless the simulator is wrong. And the flow's latents of true parameters are standard
normal wherever the data are: a classifier that tells them from normal noise near the observation
shows that the posterior is wrong there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from realnvp.plots.canvas import CYCLE, DATA, MODEL, panel
from realnvp.posterior.estimator import PosteriorEstimator, rows_of
from realnvp.utils.rng import seeded

__all__ = [
    "Calibration", "LocalC2ST", "Predictive", "calibration", "coverage", "local_c2st", "predictive",
]  # fmt: skip

CONFIDENCE = 0.99
"""Probability that all of a calibrated curve is within the band (Dvoretzky-Kiefer-Wolfowitz)."""

POINTS = 2_000
"""Number of latents at which a classifier is asked about the observation."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The result of a check.

    Args:
        fractions: ``(N, K)`` fractions, each column uniform if the posterior is right.
        names: names of the columns.
    """

    fractions: Tensor
    names: Sequence[str]

    @property
    def value(self) -> float:
        """0 for a calibrated posterior, above for a narrow or shifted, below for a wide one."""
        return float(self._terms.mean())

    @property
    def error(self) -> float:
        """Standard error of :attr:`value`."""
        return float(self._terms.mean(1).std()) / math.sqrt(len(self._terms))

    @property
    def _terms(self) -> Tensor:
        return 4 * (self.fractions - 0.5).abs() - 1

    def plot(self, ax: Axes | None = None) -> Any:
        """Draw how far the distribution of each fraction is from a uniform one, with the band."""
        figure, axes = panel(ax)
        n = len(self.fractions)
        band = math.sqrt(math.log(2 / (1 - CONFIDENCE)) / (2 * n))
        axes.axhspan(-band, band, color="0.9", label=f"{CONFIDENCE:.0%} band of a right posterior")
        for i, column in enumerate(self.fractions.T):
            ends = np.concatenate(([0.0], column.sort().values.numpy(), [1.0]))
            share = np.concatenate((np.arange(n + 1) / n, [1.0]))
            color = CYCLE[i % len(CYCLE)]
            axes.step(ends, share - ends, where="post", color=color, label=self.names[i])
        axes.set_xlabel("fraction of samples below the truth")
        axes.set_ylabel("cumulative distribution minus uniform")
        axes.legend()
        return figure


def calibration(
    posterior: PosteriorEstimator, theta: ArrayLike, x: ArrayLike, samples: int = 200, seed: int = 0
) -> Calibration:
    """Return the ranks of true parameters among samples of their posteriors (SBC).

    Simulation-based calibration, arXiv 1804.06788: the rank of each parameter is uniform.

    Args:
        posterior: the posterior.
        theta: ``(N, D)`` parameters of simulations that it has not seen, drawn from the prior.
        x: ``(N, ...)`` their data.
        samples: number of samples of each posterior.
        seed: seed of the samples.
    """
    truth, draws, generator = _draws(posterior, theta, x, samples, seed)
    names = [f"parameter {i}" for i in range(truth.shape[1])]
    return Calibration(_fractions(draws < truth[:, None], generator), names)


def coverage(
    posterior: PosteriorEstimator, theta: ArrayLike, x: ArrayLike, samples: int = 200, seed: int = 0
) -> Calibration:
    """Return the coverage of regions around random points (TARP, arXiv 2302.03026).

    The fraction of samples that are nearer to a random point, the parameters of another
    simulation, than the truth is uniform, in all parameters together. Distances are in standard
    deviations of the parameters.

    Args:
        posterior: the posterior.
        theta: ``(N, D)`` parameters of simulations that it has not seen, drawn from the prior.
        x: ``(N, ...)`` their data.
        samples: number of samples of each posterior.
        seed: seed of the samples.
    """
    truth, draws, generator = _draws(posterior, theta, x, samples, seed)
    scale = truth.std(0)
    points = truth.roll(1, 0)  # the parameters of another simulation
    nearer = ((draws - points[:, None]) / scale).norm(dim=2)
    nearer = nearer < ((truth - points) / scale).norm(dim=1)[:, None]
    return Calibration(_fractions(nearer[:, :, None], generator), ["all parameters"])


@dataclass(frozen=True, eq=False)
class Predictive:
    """The result of :func:`predictive`.

    Args:
        x: ``(N, K)`` flat data that were simulated from samples of the posterior.
        observed: ``(K,)`` the observation.
    """

    x: Tensor
    observed: Tensor

    @property
    def value(self) -> float:
        """Fraction of simulated data that are at least as far from their mean as the observation.

        Distances are in standard deviations of the simulated data. The observation is counted, too.
        """
        distances = self._scores(self.x).norm(dim=1)
        farther = (distances >= self._scores(self.observed).norm()).sum()
        return float(1 + farther) / (1 + len(distances))

    @property
    def error(self) -> float:
        """Standard error of :attr:`value`."""
        return math.sqrt(self.value * (1 - self.value) / len(self.x))

    def _scores(self, x: Tensor) -> Tensor:
        scale = self.x.std(0)
        return (x - self.x.mean(0)) / torch.where(scale > 0, scale, 1.0)

    def plot(self, ax: Axes | None = None) -> Any:
        """Draw the observation within the middle 50 % and 95 % of the simulated data."""
        figure, axes = panel(ax)
        scores, at = self._scores(self.x), np.arange(len(self.observed))
        for mass, shade in ((0.95, 0.3), (0.5, 0.6)):
            low, high = scores.quantile(torch.tensor([0.5 - mass / 2, 0.5 + mass / 2]).double(), 0)
            label = f"{mass:.0%} of simulated data"
            axes.bar(at, high - low, 0.8, low, color=MODEL, alpha=shade, label=label)
        axes.plot(at, self._scores(self.observed), "o", color=DATA, label="observation")
        axes.set_xlabel("number of the data")
        axes.set_ylabel("standard deviations from the mean")
        axes.legend()
        return figure


def predictive(
    posterior: PosteriorEstimator,
    simulator: Callable[[Tensor], ArrayLike],
    x_observed: ArrayLike,
    samples: int = 500,
    seed: int = 0,
) -> Predictive:
    """Simulate data from samples of a posterior, which should look like the observation.

    Its :attr:`~Predictive.value` is a p-value that is never too small by chance alone: near 0, no
    parameters explain the observation, so the simulator or the posterior is wrong.

    Args:
        posterior: the posterior.
        simulator: maps parameters ``(N, D)`` to data ``(N, ...)``.
        x_observed: the observation.
        samples: number of simulations.
        seed: seed of the samples and of the simulator.
    """
    observed, _ = posterior._observations(x_observed)
    with seeded(seed):
        theta = posterior.sample(samples, observed.reshape(posterior.x_shape_))
        x = rows_of(simulator(theta.float())).flatten(1)
    return Predictive(x[posterior._finite(x)], observed[0])


@dataclass(frozen=True, eq=False)
class LocalC2ST:
    """The result of :func:`local_c2st`.

    Args:
        statistic: mean squared distance of the classifier's probabilities from 1/2.
        null: ``(R,)`` the same of classifiers of two sets that do not differ.
    """

    statistic: float
    null: NDArray

    @property
    def value(self) -> float:
        """The statistic minus its mean if the posterior is right: about 0 then, else above."""
        return self.statistic - float(self.null.mean())

    @property
    def error(self) -> float:
        """Standard deviation of :attr:`value` if the posterior is right."""
        return float(self.null.std(ddof=1))

    @property
    def p_value(self) -> float:
        """Probability of so large a statistic if the posterior is right."""
        return float(1 + (self.null >= self.statistic).sum()) / (1 + len(self.null))

    def plot(self, ax: Axes | None = None) -> Any:
        """Draw the statistic beside those of a right posterior."""
        figure, axes = panel(ax)
        axes.hist(self.null, bins=15, color="0.8", label="if the posterior is right")
        axes.axvline(self.statistic, color=MODEL, label="this posterior")
        axes.set_xlabel("squared distance of the classifier from 1/2")
        axes.set_ylabel("number of classifiers")
        axes.legend()
        return figure


def local_c2st(
    posterior: PosteriorEstimator,
    theta: ArrayLike,
    x: ArrayLike,
    x_observed: ArrayLike,
    repeats: int = 50,
    seed: int = 0,
) -> LocalC2ST:
    """Test the posterior of one observation (local C2ST for flows, arXiv 2306.03580).

    A classifier, gradient-boosted trees, learns to tell the latents of true parameters from normal
    noise, both with their data. What it says about noise with the observation is compared with
    classifiers of noise and noise.

    Args:
        posterior: the posterior.
        theta: ``(N, D)`` parameters of simulations that it has not seen, drawn from the prior.
        x: ``(N, ...)`` their data.
        x_observed: the observation.
        repeats: number of classifiers of noise and noise.
        seed: seed of the noise and of the classifiers.
    """
    generator = np.random.default_rng(seed)
    data, _ = posterior._observations(x)
    observed, _ = posterior._observations(x_observed)
    with torch.no_grad():
        latents = posterior.flow_.encode(rows_of(theta), data).numpy()
    labels = np.arange(2 * len(latents)) % 2
    points = generator.normal(size=(POINTS, latents.shape[1]))
    asked = np.hstack((points, observed.expand(POINTS, -1)))

    def statistic(first: NDArray) -> float:
        second = generator.normal(size=latents.shape)
        both = np.stack((first, second), axis=1).reshape(len(labels), -1)
        features = np.hstack((both, data.repeat_interleave(2, 0)))
        tree = HistGradientBoostingClassifier(max_iter=30, early_stopping=False, random_state=seed)
        probabilities = tree.fit(features, labels).predict_proba(asked)[:, 1]
        return float(((probabilities - 0.5) ** 2).mean())

    null = [statistic(generator.normal(size=latents.shape)) for _ in range(repeats)]
    return LocalC2ST(statistic(latents), np.array(null))


def _draws(
    posterior: PosteriorEstimator, theta: ArrayLike, x: ArrayLike, samples: int, seed: int
) -> tuple[Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.as_tensor(theta, dtype=torch.float64).reshape(len(torch.as_tensor(x)), -1)
    if len(truth) < 2:
        raise ValueError("a check needs several simulations that the posterior has not seen")
    return truth, posterior.sample(samples, x, generator), generator


def _fractions(below: Tensor, generator: torch.Generator) -> Tensor:
    """Return the fractions of samples ``(N, S, K)``, continuous: a rank is one of S + 1 bins."""
    ranks = below.double().sum(1)
    noise = torch.rand(ranks.shape, generator=generator, dtype=ranks.dtype)
    return (ranks + noise) / (below.shape[1] + 1)
