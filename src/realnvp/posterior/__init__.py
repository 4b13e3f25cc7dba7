"""Posteriors of simulators: parameters given observations, learned from simulations."""

from realnvp.posterior.checks import (
    Calibration,
    LocalC2ST,
    Predictive,
    calibration,
    coverage,
    local_c2st,
    predictive,
)
from realnvp.posterior.estimator import PosteriorEstimator
from realnvp.posterior.likelihood import LikelihoodEstimator

__all__ = [
    "Calibration", "LikelihoodEstimator", "LocalC2ST", "PosteriorEstimator", "Predictive",
    "calibration", "coverage", "local_c2st", "predictive",
]  # fmt: skip
