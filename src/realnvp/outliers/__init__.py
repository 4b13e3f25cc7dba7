"""Outliers: scores from one pass of a flow, their p-values, and explanations."""

from realnvp.outliers.calibration import Calibration, OutlierScorer, calibrate
from realnvp.outliers.significance import (
    Histogram,
    benjamini_hochberg,
    p_values,
    shift_p_value,
)

__all__ = [
    "Calibration",
    "Histogram",
    "OutlierScorer",
    "benjamini_hochberg",
    "calibrate",
    "p_values",
    "shift_p_value",
]
