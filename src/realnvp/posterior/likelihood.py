r"""Likelihoods of simulators, learned from simulations (arXiv 1805.07226).

The other way around: a flow of the data given the parameters, :math:`q(x \mid \theta)`, and the
posterior :math:`\propto p(\theta) \prod_t q(x_t \mid \theta)` for any number of independent trials
of one experiment, by sequential Monte Carlo (Del Moral et al. 2006): samples of the prior are
weighted, resampled and moved, while the power of the likelihood rises from 0 to 1.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from realnvp.bijections.domains import DomainMap, as_domain
from realnvp.estimator import RealNVPDensity
from realnvp.posterior.estimator import Simulations, rows_of
from realnvp.posterior.priors import Prior
from realnvp.utils.rng import seeded
from realnvp.utils.weights import effective_fraction

__all__ = ["LikelihoodEstimator"]

MOVES = 10
"""Metropolis steps at each power of the likelihood."""

SHARE = 0.5
"""Effective fraction of the samples that is left by the weights of one rise of the power."""


class LikelihoodEstimator(Simulations):
    r"""The likelihood of a simulator's parameters, and their posterior.

    Args:
        prior: as in :class:`~realnvp.posterior.PosteriorEstimator`; sampling needs it.
        missing: as there; "drop" learns the likelihood of simulations that did not fail.
        settings: settings of :class:`~realnvp.estimator.RealNVPDensity`; integer data are detected.
        seed: seed of training.
        progress: whether a few lines are printed while training.

    Attributes:
        density_: density of flat data given the parameters.

    >>> theta = torch.rand(300, 1)
    >>> x = theta + 0.1 * torch.randn(300, 1)
    >>> settings = {"max_steps": 50, "members": 1}
    >>> likelihood = LikelihoodEstimator(([0.0], [1.0]), settings=settings).fit(theta, x)
    >>> likelihood.log_likelihood(theta[:5], x[0]).shape
    torch.Size([5])
    """

    density_: RealNVPDensity

    def fit(self, theta: ArrayLike, x: ArrayLike) -> LikelihoodEstimator:
        """Learn the likelihood from simulations; see ``PosteriorEstimator.fit``."""
        parameters, data, _ = self._checked(theta, x)
        self.density_ = RealNVPDensity(
            **{"random_state": self.seed, **self.settings}, verbose=self.progress
        ).fit(data.flatten(1).numpy(), condition=parameters.numpy())
        return self

    def log_likelihood(self, theta: ArrayLike, x: ArrayLike) -> Tensor:
        """Return the log-likelihood of parameters ``(N, D)``, ``(N,)``.

        Args:
            theta: the parameters.
            x: data of one trial, or ``(T, ...)`` of independent ones, whose terms are added.
        """
        parameters = rows_of(theta)
        trials, _ = self._observations(x)
        data = trials.repeat(len(parameters), 1).numpy()
        given = parameters.repeat_interleave(len(trials), 0).numpy()
        terms = torch.as_tensor(self.density_.score_samples(data, condition=given))
        return terms.reshape(len(parameters), -1).sum(1)

    def sample(self, n: int, x: ArrayLike, seed: int = 0) -> Tensor:
        """Draw parameters ``(n, D)`` from the posterior of one experiment.

        Args:
            n: number of samples, which are moved together: a thousand are better than ten.
            x: data of one trial, or ``(T, ...)`` of independent ones.
            seed: seed of the samples.

        Raises:
            ValueError: if there is no prior.
        """
        if self.prior is None:
            raise ValueError("the posterior needs the prior: pass one")
        prior, dim = self.prior, self.prior.event_shape.numel()
        layer = DomainMap(as_domain(prior.support, dim) or [None] * dim).double()

        def densities(z: Tensor) -> tuple[Tensor, Tensor]:
            theta, log_det = layer.inverse(z)
            return prior.log_prob(theta) + log_det, self.log_likelihood(theta, x)

        with seeded(seed):
            z = layer(rows_of(prior.sample((n,))))[0]
            log_prior, log_likelihood = densities(z)
            power = 0.0
            while power < 1:
                rise = _rise(log_likelihood, 1 - power)
                power = 1.0 if rise >= 1 - power else power + rise
                chosen = (rise * log_likelihood).softmax(0).multinomial(n, replacement=True)
                z, log_prior, log_likelihood = z[chosen], log_prior[chosen], log_likelihood[chosen]
                for _ in range(MOVES):
                    scale = 2.38 / math.sqrt(2 * dim)  # differential evolution, ter Braak 2006
                    pair = torch.randint(n, (2, n))
                    step = scale * torch.rand(n, 1) * (z[pair[0]] - z[pair[1]])
                    proposal = z + step + 1e-4 * z.std(0) * torch.randn_like(z)
                    new_prior, new_likelihood = densities(proposal)
                    gain = new_prior - log_prior + power * (new_likelihood - log_likelihood)
                    accepted = gain > torch.rand(n, dtype=gain.dtype).log()
                    z = torch.where(accepted[:, None], proposal, z)
                    log_prior = torch.where(accepted, new_prior, log_prior)
                    log_likelihood = torch.where(accepted, new_likelihood, log_likelihood)
        return layer.inverse(z)[0]

    def save(self, folder: str | Path) -> None:
        """Write the likelihood into a folder: safetensors and JSON."""
        if not hasattr(self, "density_"):
            raise ValueError("nothing has been learned yet: call fit first")
        self.density_.save(folder)
        self._write_notes(folder)

    @classmethod
    def load(cls, folder: str | Path, prior: Prior | None = None) -> LikelihoodEstimator:
        """Return the likelihood that was saved in a folder.

        Args:
            folder: the folder.
            prior: the prior, if it could not be saved; :meth:`sample` needs it.
        """
        likelihood = cls(prior)
        likelihood.density_ = RealNVPDensity.load(folder)
        likelihood._read_notes(folder)
        return likelihood


def _rise(log_likelihood: Tensor, most: float) -> float:
    """Return how far the power may rise until :data:`SHARE` of the samples are effective."""

    def effective(rise: float) -> float:
        return effective_fraction(rise * log_likelihood)

    if effective(most) >= SHARE:
        return most
    low, high = 0.0, most
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= SHARE else (low, middle)
    return high
