"""Posteriors of simulators: parameters given observations, learned from simulations."""

from realnvp.posterior.checks import Calibration, calibration, coverage
from realnvp.posterior.estimator import PosteriorEstimator

__all__ = ["Calibration", "PosteriorEstimator", "calibration", "coverage"]
