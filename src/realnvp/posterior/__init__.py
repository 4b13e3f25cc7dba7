"""Posteriors of simulators: parameters given observations, learned from simulations."""

from realnvp.posterior.estimator import PosteriorEstimator

__all__ = ["PosteriorEstimator"]
