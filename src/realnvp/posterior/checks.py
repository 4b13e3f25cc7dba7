r"""Checks of a posterior on new simulations, each one number with its error, and a figure.

If the posterior is right, the rank of the true parameters among its samples is uniform. For a
fraction :math:`f` of samples below the truth, :math:`4\,\mathrm E|f - \tfrac12| - 1` is then 0. It
is positive if the posterior is too narrow or shifted, and negative if it is too wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from torch import Tensor

from realnvp.plots.canvas import CYCLE, panel
from realnvp.posterior.estimator import PosteriorEstimator

__all__ = ["Calibration", "calibration", "coverage"]

CONFIDENCE = 0.99
"""Probability that all of a calibrated curve is within the band (Dvoretzky-Kiefer-Wolfowitz)."""


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
