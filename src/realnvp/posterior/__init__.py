"""Posteriors of simulators: parameters given observations, learned from simulations."""

from realnvp.posterior.checks import Calibration, calibration, coverage
from realnvp.posterior.estimator import PosteriorEstimator
from realnvp.posterior.likelihood import LikelihoodEstimator

__all__ = ["Calibration", "LikelihoodEstimator", "PosteriorEstimator", "calibration", "coverage"]
